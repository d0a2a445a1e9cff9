"""A version's golden request, as `ready` asks it."""

from __future__ import annotations

from collections.abc import Callable

from deploy.errors import VersionNotFound
from deploy.goldens import Golden
from deploy.repository import versions_of
from deploy.types import ModelVersion, ServedModel

GoldenOf = Callable[[ModelVersion], Golden | None]


def golden_of(model: ServedModel, version: int, *, tflite: bool = False) -> Golden | None:
    """A version's first golden; None for a version without one, or that isn't here.

    Also None for a version of another tool: its answers weren't checked when it was made (warm-up requests are often
    copied from version to version, with answers of an older one), and traffic isn't taken away for that. A smoke test
    and a rollout ask them.
    tflite: the server prefers the model.tflite of a version that has one.
    Raises RepositoryError for a damaged version: asking less than was recorded would be no answer.
    """
    stored = versions_of(model).version(version)
    try:
        if stored.find_manifest() is None:
            return None
    except VersionNotFound:
        return None
    return next(iter(stored.repository.facts(stored.mv, tflite=tflite).goldens), None)

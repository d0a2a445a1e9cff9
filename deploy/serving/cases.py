"""A version's golden request, as `ready` asks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deploy import goldens
from deploy.client.forms import no_json
from deploy.errors import VersionNotFound
from deploy.goldens.compare import Tolerances
from deploy.repository import versions_of
from deploy.types import ModelVersion, ServedModel


@dataclass(frozen=True, slots=True)
class Case:
    """A golden request. json: it can be asked over REST."""

    signature: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    tolerances: Tolerances
    json: bool


CaseOf = Callable[[ModelVersion], Case | None]


def case_of(model: ServedModel, version: int, *, tflite: bool = False) -> Case | None:
    """A version's first golden case; None for a version without one, or one that isn't published by us, or not here.

    tflite: the server prefers the model.tflite of a version that has one.
    Raises RepositoryError for a damaged file: asking less than was recorded would be no answer.
    """
    stored = versions_of(model).version(version)
    try:
        manifest, path = stored.find_manifest(), stored.path
    except VersionNotFound:
        return None
    recorded = goldens.read(path) if manifest is not None else []
    if manifest is None or not recorded:
        return None
    first = recorded[0]
    signature = manifest.contract.get(first.signature)
    return Case(first.signature, first.inputs, first.outputs, manifest.limits(tflite=tflite),
                signature is not None and not no_json(signature))

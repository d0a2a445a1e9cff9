"""Looks at base paths and says which versions every model should have. The only reader of base paths.

A file counts like a directory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deploy.types import Specific, VersionPolicy
from deploy.wire.model_config import by_version, select

_FILE = re.compile(r"\Afile://[^/]*")


@dataclass(frozen=True, slots=True)
class Monitored:
    """A model whose versions are looked for."""

    name: str
    base_path: str
    policy: VersionPolicy


class BasePathMissing(Exception):
    """A base path isn't there: nobody's versions are known then."""


def local_path(base_path: str) -> str:
    """The path that a file: URI stands for, whatever its host is; other base paths as they are."""
    return _FILE.sub("", base_path, count=1) or "/"


def look(model: Monitored) -> dict[int, str]:
    """The model's wanted versions (number -> directory). Raises BasePathMissing."""
    path = local_path(model.base_path)
    try:
        on_disk = by_version(os.listdir(path))  # noqa: PTH208 (no objects per name)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise BasePathMissing(f"Could not find base path {model.base_path} for servable {model.name} with error "
                              f"{getattr(error, 'strerror', error)}") from error
    base = path.rstrip("/")
    return {v: f"{base}/{on_disk[v]}" for v in select(model.policy, on_disk)}


def notes(model: Monitored, found: Mapping[int, str]) -> list[str]:
    """What whoever looks at the log should know of a model's wanted versions."""
    said = []
    if not found:
        said.append(f"No versions of servable {model.name} found under base path {model.base_path}. Did you forget to "
                    "name your leaf directory as a number (eg. '/1/')?")
    if isinstance(model.policy, Specific):
        said += [f"Version {version} of servable {model.name}, which was requested to be served as a 'specific' "
                 "version in the servable's version policy, was not found in the file system"
                 for version in model.policy.versions if version not in found]
    return said


def look_at_all(models: Iterable[Monitored]) -> Mapping[str, dict[int, str]]:
    """Every model's wanted versions. Raises BasePathMissing if any base path is missing."""
    return {m.name: look(m) for m in models}

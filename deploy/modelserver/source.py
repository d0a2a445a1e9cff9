"""Looks at base paths and says which versions every model should have. The only reader of base paths.

Names of version directories are read leniently, as the real server does: blanks around, a sign and leading zeros are
fine; of several names of one number the last in byte order wins. A file counts like a directory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deploy.types import All, Specific, VersionPolicy

MIN_INT64, MAX_INT64 = -(2**63), 2**63 - 1
_NUMBER = re.compile(r"\s*[+-]?[0-9]+\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Monitored:
    """A model whose versions are looked for."""

    name: str
    base_path: str
    policy: VersionPolicy


class BasePathMissing(Exception):
    """A base path isn't there: nobody's versions are known then."""


def version_of(name: str) -> int | None:
    """The version number that a directory's name stands for, if any."""
    if not _NUMBER.fullmatch(name):
        return None
    number = int(name)
    return number if MIN_INT64 <= number <= MAX_INT64 else None


def versions_on_disk(children: Iterable[str]) -> dict[int, str]:
    """Version number -> directory name."""
    return {v: name for name in sorted(children) if (v := version_of(name)) is not None}


def select(policy: VersionPolicy, on_disk: Iterable[int]) -> list[int]:
    """The versions that the policy wants of those on disk."""
    found = sorted(on_disk)
    if isinstance(policy, All):
        return found
    if isinstance(policy, Specific):
        return [v for v in found if v in policy.versions]
    return found[-max(policy.count, 1):]


def look(model: Monitored) -> dict[int, str]:
    """The model's wanted versions (number -> directory). Raises BasePathMissing."""
    try:
        on_disk = versions_on_disk(os.listdir(model.base_path))  # noqa: PTH208 (no objects per name)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise BasePathMissing(f"Could not find base path {model.base_path} for servable {model.name} with error "
                              f"{getattr(error, 'strerror', error)}") from error
    base = model.base_path.rstrip("/")
    return {v: f"{base}/{on_disk[v]}" for v in select(model.policy, on_disk)}


def look_at_all(models: Iterable[Monitored]) -> Mapping[str, dict[int, str]]:
    """Every model's wanted versions. Raises BasePathMissing if any base path is missing."""
    return {m.name: look(m) for m in models}

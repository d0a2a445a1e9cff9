"""What a model's configuration means to tensorflow_model_server: version directories, version policies, ModelConfig.

Names are read as core/… FileSystemStoragePathSource reads them: blanks around, a sign and leading zeros are fine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from deploy.naming import MAX_VERSION
from deploy.types import All, Latest, Specific, VersionPolicy

if TYPE_CHECKING:
    from deploy.wire import config_pb2 as pb

_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,4000}\s*", re.ASCII)


def version_number(name: str) -> int | None:
    """The version that a directory's name stands for; None if the server ignores it. Zero and negative ones count."""
    number = int(name) if _NUMBER.fullmatch(name) else None
    return number if number is not None and -MAX_VERSION - 1 <= number <= MAX_VERSION else None


def by_version(names: Iterable[str]) -> dict[int, str]:
    """Version -> name of its directory. Of several names of one number the last in byte order wins."""
    return {v: name for name in sorted(names) if (v := version_number(name)) is not None}


def select(policy: VersionPolicy, versions: Iterable[int]) -> list[int]:
    """Those of the versions that the policy wants, ascending."""
    there = sorted(versions)
    if isinstance(policy, All):
        return there
    if isinstance(policy, Specific):
        return [v for v in there if v in policy.versions]
    return there[-max(policy.count, 1):]


def policy_of(entry: pb.ModelConfig) -> VersionPolicy:
    """An entry's version policy; the latest one if none is given, or none is counted."""
    policy = entry.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return All()
    if choice == "specific":
        return Specific(tuple(policy.specific.versions))
    return Latest(policy.latest.num_versions or 1)


def set_served(entry: pb.ModelConfig, policy: VersionPolicy, labels: Mapping[str, int]) -> None:
    """Let the entry ask for these versions and labels, and for no others."""
    message = entry.model_version_policy
    message.Clear()
    if isinstance(policy, Specific):
        message.specific.versions.extend(policy.versions)
    elif isinstance(policy, All):
        message.all.SetInParent()
    else:
        message.latest.num_versions = policy.count
    entry.version_labels.clear()
    for label, version in sorted(labels.items()):
        entry.version_labels[label] = version

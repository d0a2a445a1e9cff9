"""Which versions a server has to serve, resolved from the spec and what is on disk, before anything is started.

The server itself would wait forever with closed ports for a base path or version that isn't there.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy import savedmodel
from deploy.errors import RepositoryError, SpecError, VersionNotFound
from deploy.readiness import Change, Desired
from deploy.repository import ModelVersions, versions_of
from deploy.savedmodel import placement
from deploy.spec import Spec
from deploy.types import ServedModel, Specific
from deploy.wire.model_config import select

_NOT_THERE = "publish a version first (`tfs export` or `tfs publish`), or correct the spec's repository or base_path"


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """One model's versions that have to be AVAILABLE, no more and no less, and where its labels have to lead.

    paths: version -> directory on this machine.
    """

    name: str
    paths: Mapping[int, Path]
    labels: Mapping[str, int] = field(default_factory=dict)

    @property
    def versions(self) -> frozenset[int]:
        return frozenset(self.paths)

    def desired(self, release: Change | None = None) -> Desired:
        """What has to be served. release: one of the model that is open."""
        return Desired(self.name, self.versions, self.labels, release)


def wanted(spec: Spec) -> tuple[ResolvedModel, ...]:
    """What the spec means now. Raises VersionNotFound, IncompleteVersion, RepositoryError or SpecError."""
    models = tuple(resolve(model, f"models/{i}") for i, model in enumerate(spec.models))
    for model in models:
        for path in model.paths.values():
            savedmodel.check_complete(path)
    return models


def resolve(model: ServedModel, where: str) -> ResolvedModel:
    """One model's versions. `where`: its place in the spec. Raises VersionNotFound, RepositoryError or SpecError."""
    base = Path(model.base_path)
    if not base.is_dir():
        fault = "is no directory" if base.exists() else "doesn't exist"
        raise VersionNotFound(f"model {model.name!r}: its base path {base} {fault}", hint=_elsewhere(base))
    stored = versions_of(model)
    chosen = _chosen(model, stored, stored.paths())
    for label, version in model.labels.items():
        if version not in chosen:
            raise SpecError(f"version {version} is not served", path=f"{where}/labels/{label}",
                            hint=f"on disk and served now: {_list(chosen)}")
    return ResolvedModel(model.name, chosen, dict(model.labels))


def _chosen(model: ServedModel, stored: ModelVersions, paths: Mapping[int, Path]) -> dict[int, Path]:
    if not paths:
        raise VersionNotFound(f"model {model.name!r}: there is no version in {stored}",
                              hint=_elsewhere(Path(model.base_path)))
    policy = model.versions
    if isinstance(policy, Specific):
        missing = [v for v in policy.versions if v not in paths]
        if missing:
            raise VersionNotFound(f"model {model.name!r}: version {_list(missing)} isn't in {stored}",
                                  hint=f"there: {_list(paths)}")
        return {v: paths[v] for v in policy.versions}
    spellings = stored.spellings()
    unexpected = sorted(set(spellings) - set(paths))
    if unexpected:
        raise RepositoryError(f"model {model.name!r}: the server would take {stored}/{spellings[unexpected[0]]} for a "
                              "version",
                              hint="move it away, or name the wanted versions in the spec")
    return {v: paths[v] for v in select(policy, paths)}


def _elsewhere(base: Path) -> str:
    """What to write instead of a base path without versions."""
    models = placement.models_in(base.parent)
    near = next(iter(difflib.get_close_matches(base.name, models, 1) or [m for m in models if m.lower() ==
                                                                         base.name.lower()]), "")
    if near and near != base.name:
        return f"did you mean the model {near!r}, in {base.parent}?"
    return placement.not_a_base_path(base) or _NOT_THERE


def _list(versions: object) -> str:
    return ", ".join(map(str, versions)) if isinstance(versions, list | dict | tuple) else str(versions)

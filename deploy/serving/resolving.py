"""Which versions a server has to serve, resolved from the spec and what is on disk, before anything is started.

The server itself would wait forever with closed ports for a base path or version that isn't there.

The spec says how a model is served at first; the ledger says what is known good since. As long as a model's entry in
the spec is the one that the release began with, the known good versions and labels win: a restart never brings back
what was replaced. Whoever edits the entry means it: then the spec wins.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from deploy import backends, savedmodel, signing
from deploy.backends import Progress, silent
from deploy.errors import RepositoryError, SpecError, VersionNotFound
from deploy.readiness import Change, Desired
from deploy.repository import ModelVersions, StoredVersion, versions_of
from deploy.savedmodel import placement
from deploy.serving import mirrored
from deploy.spec import Spec
from deploy.state import ledger_of, started_from
from deploy.state.lines import Line
from deploy.state.release import entry
from deploy.types import ServedModel, Specific
from deploy.wire.model_config import select

_XLA_MODULE = "XlaCallModule"  # TensorFlow's op for what JAX has exported
_NOT_THERE = "publish a version first (`tfs export` or `tfs publish`), or correct the spec's repository or base_path"


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """One model's versions that have to be AVAILABLE, no more and no less, and where its labels have to lead.

    paths: version -> directory on this machine. elsewhere: versions of which nothing is here, since a server that we
    don't start has files of its own. unknown: which versions there are only that server sees, and any is fine.
    """

    name: str
    paths: Mapping[int, Path]
    labels: Mapping[str, int] = field(default_factory=dict)
    elsewhere: frozenset[int] = frozenset()
    unknown: bool = False

    @property
    def versions(self) -> frozenset[int]:
        return frozenset(self.paths) | self.elsewhere

    def desired(self, release: Change | None = None) -> Desired:
        """What has to be served. release: one of the model that is open."""
        return Desired(self.name, None if self.unknown else self.versions, self.labels, release)


def wanted(spec: Spec, progress: Progress = silent) -> tuple[ResolvedModel, ...]:
    """What the spec means now; versions of a repository that is elsewhere are fetched.

    Raises VersionNotFound, IncompleteVersion, DigestMismatch, Untrusted, RepositoryError or SpecError.
    """
    mirrored.fetch(spec, step=progress)
    models = tuple(resolved(spec, i) for i in range(len(spec.models)))
    for served, model in zip(spec.models, models, strict=True):
        for number, path in model.paths.items():
            check_flags(spec, model.name, path)
            check_signed(spec, versions_of(served).version(number))
    return models


def stored(spec: Spec, models: Iterable[ResolvedModel]) -> list[StoredVersion]:
    """The versions of these models, where they are kept."""
    by_name = {model.name: model for model in spec.models}
    return [versions_of(by_name[model.name]).version(number) for model in models for number in model.paths]


def check_signed(spec: Spec, version: StoredVersion) -> None:
    """Raises Untrusted, DigestMismatch, SpecError or BackendMissing unless one of those has signed it who have to."""
    try:
        signing.require_signed(version.repository, version.mv, spec.signed_by)
    except SpecError as error:
        raise SpecError(error.message, path="signed_by", hint=error.hint) from error


def check_flags(spec: Spec, name: str, version: Path) -> None:
    """Raises SpecError for a version that the spec's server doesn't load or answer without a flag that it hasn't.

    Raises IncompleteVersion for one that isn't whole.
    """
    needed = _needed(spec, version)
    if needed is not None:
        flag, why = needed
        raise SpecError(f"model {name!r}: version {version.name} {why} with --{flag}", path=f"server/flags/{flag}",
                        hint=f"server: {{flags: {{{flag}: true}}}}, then tfs down and tfs up if it runs",
                        id="tflite-flag")


def with_needed_flags(spec: Spec) -> Spec:
    """The spec with the flags that its versions need, for one that nobody has written."""
    models = (resolve(model, f"models/{i}") for i, model in enumerate(spec.models))
    needed = dict.fromkeys((pair[0] for model in models for path in model.paths.values()
                            if (pair := _needed(spec, path)) is not None), True)
    change = msgspec.structs.replace
    return change(spec, server=change(spec.server, flags={**spec.server.flags, **needed}))


def _needed(spec: Spec, version: Path) -> tuple[str, str] | None:
    """A flag that a version needs and the spec's server lacks, and half a sentence about it."""
    ops, server = savedmodel.check_complete(version), spec.server
    if savedmodel.tflite_alone(version) and not server.prefers_tflite:
        return "prefer_tflite_model", f"holds model.tflite and no {savedmodel.GRAPH}, which a server loads only"
    if _XLA_MODULE in ops and not server.compiles:
        return "xla_cpu_compilation_enabled", "is a model of JAX, which XLA has to compile: a server does that"
    return None


def resolved(spec: Spec, index: int) -> ResolvedModel:
    """One of the spec's models. Where nobody here sees the server's files, the versions that are named are enough.
    Raises as `resolve`."""
    model, policy = spec.models[index], spec.models[index].versions
    if not elsewhere(spec, model):
        return resolve(model, f"models/{index}")
    if not isinstance(policy, Specific):
        return ResolvedModel(model.name, {}, dict(model.labels), unknown=True)
    try:
        here = versions_of(model).paths()
    except RepositoryError:
        here = {}
    paths = {v: here[v] for v in policy.versions if v in here}
    return ResolvedModel(model.name, paths, dict(model.labels), frozenset(policy.versions) - paths.keys())


def elsewhere(spec: Spec, model: ServedModel) -> bool:
    """Whether nobody here can see which versions of a model are where the spec's server looks."""
    backend = backends.preferred(spec)
    if backend.capabilities.starts:
        return False
    return backend.layout(spec).base_paths.get(model.name) != model.base_path or not versions_of(model).here


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
                            hint=f"on disk and served now: {_list(chosen)}", id="version-not-served")
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
                              hint="move it away, or name the wanted versions in the spec", id="unexpected-version")
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


def as_known_good(spec: Spec, lines: Sequence[Line] | None = None) -> Spec:
    """The spec with what rollouts have made known good since. lines: the ledger's, if it was read already.

    Raises RolloutError if the ledger can't be read.
    """
    if lines is None:
        lines = ledger_of(spec).read()
    models = []
    for model in spec.models:
        known_good = started_from(lines, model)
        models.append(model if known_good is None else
                      replace(model, versions=Specific(tuple(known_good.versions)), labels=dict(known_good.labels)))
    return msgspec.structs.replace(spec, models=tuple(models))


def differences(spec: Spec, known_good: Spec) -> list[str]:
    """Where what is known good differs from what the spec says, in sentences."""
    return [f"{theirs.name}: version {_policy(theirs.versions)}, as rolled out; {spec.path.name} says "
            f"{_policy(ours.versions)}"
            for ours, theirs in zip(spec.models, known_good.models, strict=True) if ours != theirs]


def note_start(spec: Spec, models: Iterable[ResolvedModel], lines: Sequence[Line]) -> None:
    """Write down what a server was started with. lines: the ledger's. Raises RolloutError if that can't be written."""
    ledger, by_name = ledger_of(spec), {model.name: model for model in spec.models}
    for wanted in models:
        model = by_name[wanted.name]
        source = "spec" if started_from(lines, model) is None else "ledger"
        ledger.append("started", model=wanted.name, source=source, spec=entry(model),
                      serving={"versions": sorted(wanted.versions), "labels": dict(wanted.labels)})


def _policy(versions: object) -> str:
    if isinstance(versions, Specific):
        return " and ".join(map(str, versions.versions))
    return repr(versions).lower()

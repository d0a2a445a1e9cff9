"""What can be known before anything is changed. The server itself would hang, or load what nobody can use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from deploy import files, serving
from deploy.backends import MemoryUse, backend_of
from deploy.errors import DeployError, RolloutError, SpecError, VersionNotFound
from deploy.repository import StoredVersion, versions_of
from deploy.rollout import configs
from deploy.rollout.actions import COMING, Goal
from deploy.rollout.context import RolloutContext
from deploy.rollout.goals import current
from deploy.rollout.policy import PERMANENTLY_FAILED
from deploy.savedmodel import diff
from deploy.serving import ResolvedModel, preflight
from deploy.serving.preflight import number
from deploy.serving.resolving import check_flags, check_signed
from deploy.serving.taking_over import check_named
from deploy.state.release import served_ever
from deploy.types import ModelRef, Specific, VersionStatus
from deploy.wire import serving_pb2 as pb

_BYTES_PER_FILE_BYTE = 1.2  # TF Serving's own estimate of what a model needs


@dataclass(frozen=True, slots=True)
class Forecast:
    """Bytes that loading takes, `measured` at earlier loads or estimated from the files; and what there is."""

    needed: int
    measured: bool
    memory: MemoryUse | None

    @property
    def fits(self) -> bool:
        return self.memory is None or self.memory.used + self.needed <= self.memory.limit

    def __str__(self) -> str:
        how = "measured at earlier loads" if self.measured else "estimated from its files"
        free = "" if self.memory is None else (f"; the server uses {_mb(self.memory.used)} of "
                                               f"{_mb(self.memory.limit)}")
        return f"{_mb(self.needed)} ({how}){free}"


@dataclass(slots=True)
class Findings:
    """problems: what forbids the release, each with its own exit code. notes: what people should know."""

    problems: list[DeployError]
    notes: list[str]
    verdict: diff.Verdict | None = None
    forecast: Forecast | None = None


def check(context: RolloutContext, goal: Goal, *, allow_breaking: str = "",
          progress: Callable[[str], None] = lambda _: None) -> Findings:
    """Everything, even after the first problem. Raises ClientError if the server doesn't answer."""
    findings = Findings([], [])

    def attempt(what: str, look: Callable[[], object]) -> None:
        progress(what)
        try:
            look()
        except DeployError as e:
            findings.problems.append(e)

    attempt("reading the config file", lambda: _config(context, findings))
    attempt("looking for models that nobody has named", lambda: findings.notes.extend(check_named(
        context.spec, context.client, context.live_server.file.read(), context.metrics)))
    attempt("looking at the server's flags", lambda: _flags(context, findings))
    if not backend_of(context.server).capabilities.replicas:
        attempt("looking whether it is one server", context.server.pending)
    attempt("looking for it in the repository", lambda: _fetched(context, goal, progress))
    stored, only_there = versions_of(context.model), _only_there(context, goal)
    for version in sorted(goal.to.versions & only_there):
        findings.notes.append(f"nothing of {context.model.name}/{version} is here: nobody can say whether it is whole "
                              "where the server looks, which has served it before")
    here = sorted(goal.to.versions - only_there)
    for version in here:
        attempt(f"verifying {context.model.name}/{version}",
                partial(_verified, context, goal, stored.version(version), findings))
    if goal.version in here and not findings.problems:
        attempt("bringing it to the server", lambda: backend_of(context.server).stage(
            context.spec, [stored.version(number) for number in here], progress))
    with suppress(DeployError):  # among the problems already
        path = stored.version(goal.version).path if goal.version in here else None
        attempt("looking where the server looks", lambda: _readable(context, goal, path))
        if path is not None:
            attempt("comparing contracts", lambda: _contract(context, goal, path, allow_breaking, findings))
            attempt("forecasting memory", lambda: _memory(context, goal, path, findings))
        attempt("asking the server", lambda: _statuses(context, goal, findings))
    return findings


def _only_there(context: RolloutContext, goal: Goal) -> frozenset[int]:
    """Versions that the server serves, or has served, and of which nothing is here: it has files of its own."""
    if backend_of(context.server).capabilities.starts:
        return frozenset()
    stored = versions_of(context.model)
    return _served(context, goal) - frozenset(stored.numbers() if stored.here else ())


def _served(context: RolloutContext, goal: Goal) -> frozenset[int]:
    """Now, or at any time that the ledger knows of."""
    return goal.before.versions | served_ever(context.ledger.read(), context.model.name)


def _config(context: RolloutContext, findings: Findings) -> None:
    name, lost = context.model.name, context.live_server.file.lost_on_restart
    if lost:
        findings.notes.append(lost)
    if not configs.pinned(configs.find(context.live_server.file.read(), name)):
        raise SpecError(f"model {name!r} isn't pinned: the server itself loads what its version policy says",
                        hint=f"name its versions in {context.spec.path.name} (versions: [N]), then " + (
                            "tfs down and tfs up" if backend_of(context.server).capabilities.starts else "tfs watch"),
                        id="not-pinned")


def _flags(context: RolloutContext, findings: Findings) -> None:
    flags = context.spec.server.flags
    findings.notes.extend(f"{one.message}; it runs without" for one in serving.lacking(  # as before the release
        context.spec, backend_of(context.server)))
    if number(flags, "model_config_file_poll_wait_seconds") > 0:
        raise SpecError("the server polls its config file, and would undo each step before it is written down",
                        path="server/flags/model_config_file_poll_wait_seconds",
                        hint="take the flag out, then tfs down and tfs up", id="config-poller")
    if number(flags, "file_system_poll_wait_seconds") <= 0:
        raise SpecError("the server looks for versions only once, and would never find another one",
                        path="server/flags/file_system_poll_wait_seconds", hint="let it poll, then tfs down and tfs up",
                        id="looks-once")


def _fetched(context: RolloutContext, goal: Goal, progress: Callable[[str], None]) -> None:
    there = frozenset() if backend_of(context.server).capabilities.starts else _served(context, goal)
    for version in sorted(goal.to.versions):
        wanted = replace(context.model, versions=Specific((version,)))
        try:
            serving.fetch(context.spec, models=[wanted], step=progress)
        except VersionNotFound:
            if version not in there:  # else the server has it from somewhere else
                raise


def _verified(context: RolloutContext, goal: Goal, version: StoredVersion, findings: Findings) -> None:
    spec = context.spec
    if version.mv.version not in goal.before.versions:  # what is loaded already keeps nobody from going back to it
        context.once(("signed", str(version.repository.store), version.mv, tuple(spec.signed_by)),
                     lambda: check_signed(spec, version))
    if not context.once(("whole", str(version.repository.store), version.mv), version.check):
        findings.notes.append(f"{version} has no manifest: it is whole, but nobody can say whether it was changed")


def _readable(context: RolloutContext, goal: Goal, path: Path | None) -> None:
    """path: of the goal's version; None if nothing of it is here."""
    config = context.live_server.file.read()
    inside = [entry.base_path for entry in config.model_config_list.config]
    if path is not None:
        _check_files(context, goal, path)
        base_path = configs.find(config, context.model.name).base_path
        inside.append(versions_of(context.model).version(goal.version).below(base_path))
    missing = context.server.missing(inside)
    if missing:
        raise RolloutError(f"the server doesn't find {missing[0]}", details={"missing": missing},
                           hint="a reload that names a missing path hangs, and all later ones with it: put it back",
                           id="base-path-missing")


def _check_files(context: RolloutContext, goal: Goal, path: Path) -> None:
    """Once for all servers that want the same of the same files."""
    name, server, user = context.model.name, context.spec.server, backend_of(context.server).user
    flags = tuple(sorted((flag, str(value)) for flag, value in server.flags.items()))
    context.once(("flags", path, name, flags), lambda: check_flags(context.spec, name, path))
    context.once(("readable", path, name, user), lambda: preflight.check_readable(
        [ResolvedModel(name, {goal.version: path})], user))


def _contract(context: RolloutContext, goal: Goal, path: Path, allow_breaking: str, findings: Findings) -> None:
    now = current(goal.before, goal.label)
    if now is None or now == goal.version:
        return
    after = context.once(("subject", path), lambda: diff.Subject.of(path))
    verdict = findings.verdict = diff.compare(_subject(context, goal, now), after)
    if not verdict.breaking or goal.backward:
        return
    if not allow_breaking:
        raise RolloutError(f"version {goal.version} breaks the clients of version {now}: {verdict.reasons[0]}",
                           hint="if that is meant: --allow-breaking REASON",
                           details={"differences": [str(r) for r in verdict.reasons]}, id="breaking-change")
    findings.notes.append(f"a breaking change is allowed: {allow_breaking}")


def _subject(context: RolloutContext, goal: Goal, version: int) -> diff.Subject:
    """A version that is served: its files, or what the server says of it where none are here."""
    if version in _only_there(context, goal):
        return diff.Subject(context.client.metadata(ModelRef(context.model.name, version)).contract)
    path = versions_of(context.model).version(version).path
    return context.once(("subject", path), lambda: diff.Subject.of(path))


def _memory(context: RolloutContext, goal: Goal, path: Path, findings: Findings) -> None:
    if goal.version in goal.before.versions:
        return
    measured = list(_measured(context))
    needed = max(measured) if measured else round(
        _BYTES_PER_FILE_BYTE * context.once(("size", path), lambda: _size(path)))
    forecast = findings.forecast = Forecast(needed, bool(measured), context.server.memory())
    if not forecast.fits:
        raise RolloutError(f"there is no room for version {goal.version} beside version "
                           f"{current(goal.before, goal.label)}: {forecast}",
                           hint="raise server/resources/memory, or free some on the machine",
                           details={"needed": forecast.needed}, id="memory")


def _size(path: Path) -> int:
    try:
        return files.total(path)[0]
    except OSError as e:
        raise RolloutError(f"{path} can't be looked at: {files.reason(e)}",
                           hint="publish it again under another number") from e


def _measured(context: RolloutContext) -> Iterator[int]:
    """What earlier loads of this model took."""
    lines = context.ledger.read()
    ours = {line["release"] for line in lines
            if line["event"] == "begin" and line.get("model") == context.model.name}
    for line in lines:
        if line["event"] == "confirm" and line.get("release") in ours and line.get("memory"):
            yield int(line["memory"])


def _statuses(context: RolloutContext, goal: Goal, findings: Findings) -> None:
    for version, status in context.live_server.recent_statuses().items():
        if version in goal.to.versions and status.failed:
            raise RolloutError(f"version {version} failed to load before: {status.error}",
                               hint=PERMANENTLY_FAILED, id="permanently-failed")
    rpc = context.client.rpc
    assert rpc is not None
    others = [m.name for m in context.spec.models if m.name != context.model.name]
    statuses = {name: {s.version: s for s in rpc.status(ModelRef(name))} for name in others}
    for sentence in drift(context.live_server.file.read(), context.model.name, statuses):
        raise RolloutError(f"{sentence}, and a reload would change it",
                           hint="somebody has reconfigured the server: tfs repair brings it back", id="drift")
    named = context.named()
    if named != goal.before:
        findings.notes.append(f"the config file names {named}, live is {goal.before}")
    now = current(goal.before, goal.label)
    if not goal.backward and now is not None and goal.version > now:
        findings.notes.append(f"requests without a label or version go to the highest version: they get version "
                           f"{goal.version} as soon as it is loaded. Address @{goal.label}.")


def drift(config: pb.ModelServerConfig, model: str, statuses: Mapping[str, Mapping[int, VersionStatus]]) -> list[str]:
    """Where other models are served differently from the file: a reload would change them. Sentences.

    A version that is loading still is what the file names, or it isn't: a reload stops only the latter.
    """
    sentences = []
    for entry in config.model_config_list.config:
        if entry.name == model or not configs.pinned(entry) or entry.name not in statuses:
            continue
        wanted = configs.serving_of(entry).versions
        live = {v for v, s in statuses[entry.name].items() if s.serving or s.state in COMING}
        if live != wanted:
            sentences.append(f"model {entry.name!r} serves {sorted(live)}, the config file says {sorted(wanted)}")
    return sentences


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"

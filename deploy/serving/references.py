"""What refers to a version: specs, ledgers of servers and of fleets, config files, labels, and servers themselves."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from deploy import client
from deploy.backends import Progress
from deploy.errors import ClientError, DeployError, Rejected
from deploy.repository import VersionEntry
from deploy.serving.observe import ModelStatus, status
from deploy.spec import Spec
from deploy.state import fleet_releases, ledger_of, releases
from deploy.state.lines import Line
from deploy.types import ModelVersion, ServedModel, Serving
from deploy.wire.model_config import select

MOST_NAMES = 2  # who says the same, in text; all of them in JSON
_BACK = "what a rollback goes back to"
_MAY = "may use it"

Entries = Mapping[str, Sequence[VersionEntry]]
_Named = Iterator[tuple[ModelVersion, "KeepReason"]]


@dataclass(frozen=True, slots=True)
class KeepReason:
    """Why a version stays. file, server: who says so; neither, if it is the version itself. detail: of this one only.
    """

    what: str
    file: str = ""
    server: str = ""
    detail: str = ""

    @property
    def who(self) -> str:
        return f"{self.file} ({self.server})" if self.file and self.server else self.file or self.server

    def __str__(self) -> str:
        what = f"{self.what}: {self.detail}" if self.detail else self.what
        return f"{self.who}: {what}" if self.who else what


def summary(reasons: Collection[KeepReason]) -> str:
    """Each reason once, with who says so, counted if they are many: `known good: a, b and 198 more`."""
    several = len({reason.file for reason in reasons if reason.file}) > 1
    said: dict[str, dict[str, str]] = {}
    for reason in reasons:
        who = reason.who if several else reason.server or reason.file
        said.setdefault(reason.what, {}).setdefault(who, reason.detail)
    same: dict[tuple[str, ...], list[str]] = {}
    for what, details in said.items():
        detail = next(filter(None, details.values()), "")
        same.setdefault(tuple(filter(None, details)), []).append(f"{what} ({detail})" if detail else what)
    return "; ".join(f"{', '.join(whats)}: {_counted(who)}" if who else ", ".join(whats) for who, whats in same.items())


def _counted(names: Sequence[str]) -> str:
    if len(names) <= MOST_NAMES + 1:
        return ", ".join(names)
    return f"{', '.join(names[:MOST_NAMES])} and {len(names) - MOST_NAMES} more"


def referring(specs: Iterable[Spec], servers: Iterable[str], entries: Entries, say: Progress) -> _Named:
    """What refers to the models that are looked at, and why. servers: gRPC addresses of those that no spec is of."""
    members = [member for spec in specs for member in spec.members]
    for spec in {member.state_dir.with_name(member.fleet): _of_all(member) for member in members if member.fleet
                 }.values():
        yield from _known(_named_by_all(spec, entries), spec.path.name, "the fleet", entries)
    for spec in members:
        say(f"looking at {spec.path.name}{f' ({spec.short_name})' if spec.fleet else ''}")
        yield from _known(_named_by(spec, entries), spec.path.name, spec.short_name if spec.fleet else "", entries)
    for target in servers:
        say(f"asking {target}")
        yield from _known(_served_by(target, entries), "", target, entries)


def _known(named: Iterable[tuple[ModelVersion, KeepReason]], file: str, server: str, entries: Entries) -> _Named:
    for mv, reason in named:
        if mv.name in entries:
            yield mv, replace(reason, file=file, server=server)


def _of_all(member: Spec) -> Spec:
    """The spec of all servers of a file, as far as their ledger goes by it."""
    return msgspec.structs.replace(member, name=member.fleet, fleet="", groups=())


def _named_by(spec: Spec, entries: Entries) -> _Named:
    """What one server's spec, ledger, config file and the server name."""
    try:
        seen = status(spec)
        lines = ledger_of(spec).read()
    except DeployError as error:  # then nobody can say what it uses
        yield from _whole(spec.models, entries, KeepReason(_MAY, detail=error.message))
        return
    for model, served in zip(spec.models, seen.models, strict=True):
        name = stored_name(model)
        numbers = [entry.mv.version for entry in entries.get(name, ())]
        yield from _these(name, select(model.versions, numbers), "wanted")
        for number, why in _seen(served):
            yield ModelVersion(name, number), KeepReason(why)
        yield from _history(name, model, lines)
        if seen.unknown or (seen.running and served.live is None):
            yield from _whole([model], entries, KeepReason("the server doesn't answer, and may use it"))


def _seen(served: ModelStatus) -> Iterator[tuple[int, str]]:
    views = served.views
    file = "what it was told last" if views.forgets else "in its config file"
    for view, what in ((views.spec, "wanted"), (views.ledger, "known good"), (views.file, file),
                       (views.live, "served now")):
        if view is not None:
            yield from ((version, what) for version in view.versions)
            yield from ((version, f"label {label}") for label, version in view.labels.items())
    yield from ((s.version, f"the server has it, {s.state.name}") for s in served.statuses
                if s.state.name != "END" and not (s.state.name == "AVAILABLE" and s.version in served.served))
    yield from ((version, f"label {label}") for label, version in served.labels.items())


def _history(name: str, model: ServedModel, lines: Iterable[Line]) -> _Named:
    """What a rollback would go back to, and what an open release is about."""
    past = releases(lines, model.name)
    for release in past[-1:]:
        yield from _these(name, release.before.versions, _BACK)
    for release in past:
        if release.open:
            yield from _these(name, (*release.before.versions, *release.goal.versions), f"release {release.id} is open")


def _named_by_all(spec: Spec, entries: Entries) -> _Named:
    """What the ledger of all servers of a file names: a release is there before any server's own has it."""
    try:
        lines = ledger_of(spec).read()
        for model in spec.models:
            yield from _history_of_all(model, lines)
    except DeployError as error:
        yield from _whole(spec.models, entries, KeepReason(_MAY, detail=error.message))


def _history_of_all(model: ServedModel, lines: Sequence[Line]) -> _Named:
    name, past = stored_name(model), fleet_releases(lines, model.name)
    for release in past:
        before = {version for serving in release.before.values() for version in serving.versions}
        if release.open:
            yield from _these(name, {release.version, *before, *release.home.values()}, f"release {release.id} is open")
        elif release is past[-1]:
            yield from _these(name, {*before, *release.home.values()}, _BACK)
    known = [line for line in lines if line["event"] == "fleet_known_good" and line.get("model") == model.name]
    for line in known[-1:]:
        yield from _these(name, Serving.from_json(line["serving"]).versions, "known good")


def _served_by(target: str, entries: Entries) -> _Named:
    """What a server that no spec is of has loaded."""
    with client.connect_to(target, None) as connected:
        for name in entries:
            try:
                statuses = connected.status(name, timeout=10)
            except ClientError as error:
                if isinstance(error, Rejected) and error.code == "NOT_FOUND":
                    continue
                for entry in entries[name]:
                    yield entry.mv, KeepReason("the server doesn't answer, and may use it")
                continue
            yield from ((ModelVersion(name, s.version), KeepReason(f"the server has it, {s.state.name}"))
                        for s in statuses if s.version and s.state.name != "END")


def _these(name: str, versions: Iterable[int], what: str) -> _Named:
    yield from ((ModelVersion(name, version), KeepReason(what)) for version in sorted(versions) if version)


def _whole(models: Iterable[ServedModel], entries: Entries, reason: KeepReason) -> _Named:
    yield from ((entry.mv, reason) for model in models for entry in entries.get(stored_name(model), ()))


def stored_name(model: ServedModel) -> str:
    """What it is called in a repository: a spec may serve it under another name."""
    return Path(model.base_path).name

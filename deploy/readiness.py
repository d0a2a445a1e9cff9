"""When is a server ready? One rule, for `up`, `ready`, `status`, `doctor` and the health check of the image.

Pure: what is desired and what was seen over each protocol goes in, gaps come out. A server without gaps is ready.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from deploy.errors import ClientError, Rejected, TimedOut, Unreachable
from deploy.types import Serving, Specific, VersionPolicy, VersionState, VersionStatus
from deploy.wire.model_config import select
from deploy.wire.status_text import sentence


class Gap(NamedTuple):
    """One thing that is missing until a server is ready.

    model: "" for the server itself. version, label: which one of the model's, if it is about one. wanted, seen: in
    words. why: the sentence that everybody prints. detail: evidence, too much for a line of progress.
    final: waiting doesn't help.
    """

    model: str
    why: str
    wanted: str = ""
    seen: str = ""
    version: int | None = None
    label: str | None = None
    detail: str = ""
    final: bool = False

    def __str__(self) -> str:
        return f"{self.why} ({self.detail})" if self.detail else self.why


class Change(Protocol):
    """A release that is open: what was served before it, what it aims at, and the version that it is about."""

    @property
    def before(self) -> Serving: ...

    @property
    def goal(self) -> Serving: ...

    @property
    def version(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Desired:
    """What has to be served of one model.

    versions: exactly these; None: any, at least one. labels: where each has to resolve to; None: to any version.
    release: one that is open; each of its steps is as good. more: further versions are as good.
    """

    model: str
    versions: frozenset[int] | None = None
    labels: Mapping[str, int | None] = field(default_factory=dict)
    release: Change | None = None
    more: bool = False

    @property
    def asked(self) -> list[str]:
        """The labels that have to be resolved before anything can be said."""
        steps = () if self.release is None else (self.release.before, self.release.goal)
        return sorted({*self.labels, *(label for step in steps for label in step.labels)})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One model over one protocol at one moment.

    labels: where labels resolve to; one that resolves to nothing isn't there. unknown: label -> why nobody could say.
    error: why there are no statuses.
    """

    protocol: str
    statuses: tuple[VersionStatus, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    error: ClientError | None = None

    @property
    def live(self) -> Serving:
        """What is served."""
        return Serving(frozenset(s.version for s in self.statuses if s.serving), self.labels)

    @property
    def answered(self) -> bool:
        """Whether a server was there to ask."""
        return not isinstance(self.error, Unreachable | TimedOut)


def gaps(desired: Desired, snapshots: Sequence[Snapshot]) -> list[Gap]:
    """What is missing of one model, over one protocol or several; what all of them show is said once.

    A server that doesn't answer is a gap without a model: the same one for every model.
    """
    seen = dict[_Part, list[str]]()
    for snapshot in snapshots:
        for part in _parts(desired, snapshot):
            seen.setdefault(part, []).append(snapshot.protocol)
    return [part.gap._replace(why=f"{part.gap.why}{_over(protocols, snapshots)}{part.rest}") if part.rest else part.gap
            for part, protocols in seen.items()]


class _Part(NamedTuple):
    """A gap over one protocol. rest: what its sentence goes on with after the protocol, where that may be named."""

    gap: Gap
    rest: str = ""


def _over(protocols: Sequence[str], snapshots: Sequence[Snapshot]) -> str:
    """Which protocol shows it; empty if all do."""
    return "" if len(protocols) == len(snapshots) else f" over {' and '.join(protocols)}"


def _parts(desired: Desired, snapshot: Snapshot) -> Iterator[_Part]:
    name, error = desired.model, snapshot.error
    if not snapshot.answered:
        yield _Part(Gap("", f"{snapshot.protocol} doesn't answer", detail=error.message if error else ""))
    elif error is not None and not unserved(error):
        yield _Part(Gap(name, f"{name} can't be asked for"), f": {error.message}")
    else:
        yield from _failed(desired, snapshot)
        yield from _unresolved(desired, snapshot)
        if not in_transit(desired.release, snapshot.live, snapshot.unknown):
            yield from _versions(desired, snapshot)
            yield from _labels(desired, snapshot)


def unserved(error: ClientError) -> bool:
    """Whether the server knows no such model: nothing of it is served."""
    return isinstance(error, Rejected) and error.code == "NOT_FOUND"


def _failed(desired: Desired, snapshot: Snapshot) -> Iterator[_Part]:
    for s in snapshot.statuses:
        if s.failed and (s.version in desired.versions if desired.versions is not None else
                         not snapshot.live.versions):
            why = f"{desired.model}/{s.version} can't be loaded"
            yield _Part(Gap(desired.model, why, str(s.version), s.error, version=s.version, final=True),
                        f": {sentence(s.error)}")


def _versions(desired: Desired, snapshot: Snapshot) -> Iterator[_Part]:
    name, live, versions = desired.model, snapshot.live.versions, desired.versions
    if live and (versions is None or live == versions or (desired.more and live > versions)):
        return
    if not live and versions is not None and not versions:
        return
    wanted, seen = "any version" if versions is None else numbers(versions), numbers(live)
    detail = snapshot.error.message if snapshot.error else ""
    yield _Part(Gap(name, f"{name} serves {seen}", wanted, seen, detail=detail),
                f", wanted {wanted}")


def _labels(desired: Desired, snapshot: Snapshot) -> Iterator[_Part]:
    for label, version in desired.labels.items():
        live = snapshot.labels.get(label)
        if label in snapshot.unknown or (live is not None and version in (None, live)):
            continue
        ref, seen = f"{desired.model}@{label}", "nothing" if live is None else str(live)
        wanted = "any version" if version is None else str(version)
        yield _Part(Gap(desired.model, f"{ref} resolves to {seen}", wanted, seen, label=label), f", wanted {wanted}")


def _unresolved(desired: Desired, snapshot: Snapshot) -> Iterator[_Part]:
    for label in desired.asked:
        if label in snapshot.unknown:
            yield _Part(Gap(desired.model, f"{desired.model}@{label} can't be asked for", label=label),
                        f": {snapshot.unknown[label]}")


def in_transit(release: Change | None, live: Serving, unknown: Collection[str] = ()) -> bool:
    """Whether what is served is a step of an open release: all of before or all of the goal, and nothing else.

    unknown: labels of which nobody could say where they resolve to.
    """
    if release is None:
        return False
    before, goal = release.before, release.goal
    whole = live.versions >= before.versions or live.versions >= goal.versions
    known = live.versions <= before.versions | goal.versions | {release.version}
    labels = {label: {s.labels[label] for s in (before, goal) if label in s.labels}
              for label in {**before.labels, **goal.labels}}
    # A label that only the goal has isn't there yet
    resolved = all(live.labels.get(label) in (allowed if label in before.labels else allowed | {None})
                   for label, allowed in labels.items() if label not in unknown)
    return whole and known and resolved


def not_running(name: str, returncode: int | None, *, ended: bool) -> Gap:
    """The gap of a server that isn't there, or isn't there any more."""
    how = "isn't running" if not ended else "ended" + ("" if returncode is None else f" with exit code {returncode}")
    return Gap("", f"{name} {how}", "running", how)


def not_answering(name: str, where: str) -> Gap:
    """The gap of a server that somebody else starts, and that isn't to be reached."""
    how = f"doesn't answer at {where}; it is started by somebody else"
    return Gap("", f"{name} {how}", "running", how)


def closed_ports(ports: Mapping[str, int | None], listening: Collection[int]) -> list[Gap]:
    """One gap if not all of the ports are open. ports: by protocol; None for one that isn't offered."""
    closed = [f"{protocol} port {port} isn't open" for protocol, port in ports.items()
              if port is not None and port not in listening]
    return [Gap("", ", ".join(closed), "open", "closed")] if closed else []


def by_policy(model: str, policy: VersionPolicy, labels: Iterable[str], statuses: Iterable[VersionStatus],
              on_disk: Collection[int] | None) -> Desired:
    """What a health check asks for, which knows a configuration and no release: nobody should end a server that could
    not serve more after a restart.

    Named versions all have to be there. By policy it's as many as the policy wants of those on disk, whichever they
    are, so a new version that fails doesn't make the one that it should replace unhealthy; what is still loading
    counts, once anything is served. on_disk: None if that can't be seen; then the versions that the server knows.
    Labels have to resolve, to any version. Further versions may be on trial.
    """
    wanted = dict.fromkeys(sorted(labels))
    if isinstance(policy, Specific):
        return Desired(model, frozenset(policy.versions), wanted, more=True)
    states = {s.version: s for s in statuses}
    known = {v for v, s in states.items() if s.failed or s.state is not VersionState.END}
    chosen = select(policy, known if on_disk is None else on_disk)
    coming = {v for v, s in states.items() if s.state in (VersionState.START, VersionState.LOADING)}
    serving = {v for v, s in states.items() if s.serving}
    if serving and len(serving | coming) >= len(chosen):
        return Desired(model, None, wanted)
    return Desired(model, frozenset(chosen) or None, wanted, more=True)


def numbers(versions: Iterable[int]) -> str:
    """Version numbers in a sentence."""
    return ", ".join(map(str, sorted(versions))) or "nothing"

"""One operation on several servers: the lock, the ledger, and a release that is begun, gone on with, driven."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from deploy.backends import Progress
from deploy.errors import DeployError, LockHeld, RolloutError
from deploy.fleet import kept
from deploy.fleet.driver import FleetDriver, FleetOutcome
from deploy.fleet.parallel import ServerResult, everywhere
from deploy.fleet.policy import size
from deploy.fleet.server import FleetServer, ServerView
from deploy.locks import whoami
from deploy.rollout.goals import model_of
from deploy.rollout.running import leave_receipts
from deploy.spec import Spec
from deploy.state import FleetRelease, Ledger, Release, changing_all, fleet_releases
from deploy.state import fleet_release as recorded
from deploy.state.ledger import append_if_possible
from deploy.state.lines import Line
from deploy.state.release import Kind, entry, portable
from deploy.types import Serving

T = TypeVar("T")
_NOTHING = "nothing to do: all servers serve it like that already"


@dataclass(frozen=True, slots=True)
class FleetReleased:
    """How a release of several servers ended; release None: nothing was to do."""

    release: FleetRelease | None
    ended: FleetOutcome

    def to_json(self) -> dict[str, Any]:
        return {"outcome": self.ended.outcome, "wave": self.ended.wave, "reason": self.ended.reason,
                "missing": dict(self.ended.missing), "down": dict(self.ended.down),
                "release": self.release.to_json() if self.release else None}

    def text(self) -> str:
        """For people."""
        if self.release is None:
            return _NOTHING
        r, ended = self.release, self.ended
        count = sum(map(len, r.waves)) - len(ended.missing) - len(ended.down)
        servers = f"{count} server{'' if count == 1 else 's'}"
        if ended.outcome == "paused":
            return (f"{r.model} waits before wave {ended.wave} of {len(r.waves)} (release {r.id}); go on: "
                    f"tfs rollout {r.model} --continue; or back: tfs rollout {r.model} --abort")
        what = f"is as it was before on {servers}" if ended.outcome == "undone" else (
            f"is back on {_versions(r.home.values())} on {servers}" if r.kind == "rollback" else
            f"is served in version {r.version} by {servers}")
        why = f": {ended.reason}" if ended.reason else ""
        missing = "".join(f"\n{name} is missing: {why}" for name, why in ended.missing.items())
        down = "".join(f"\n{name} wasn't told, and starts with it: {why}" for name, why in ended.down.items())
        return f"{r.model} {what} (release {r.id}{why}){missing}{down}"


@dataclass(frozen=True, slots=True)
class FleetContext:
    """What one operation on several servers works with, while it holds their lock."""

    spec: Spec
    model: str
    ledger: Ledger
    progress: Progress
    servers: Mapping[str, FleetServer]
    """All that the spec has now, by short name."""

    def views(self, names: Collection[str]) -> dict[str, ServerView]:
        """Some servers as they are now. Raises what keeps one from being looked at."""
        results = self._everywhere(names, lambda server: server.look())
        for result in results:
            if result.error is not None:
                raise result.error
        return {result.server: result.value for result in results if result.value is not None}

    def homes(self, names: Collection[str], to: int | None) -> tuple[dict[str, int], dict[str, str]]:
        """The version that each server goes back to; and of those of which it isn't known, why. Raises RolloutError if
        it is known of none."""
        results = self._everywhere(names, lambda server: server.goes_back_to(to))
        homes = {result.server: result.value for result in results if result.value is not None}
        for result in results:
            if result.error is not None and not (homes and isinstance(result.error, DeployError)):
                raise result.error
        return homes, {result.server: result.error.message for result in results
                       if isinstance(result.error, DeployError)}

    def _everywhere(self, names: Collection[str], verb: Callable[[FleetServer], T]) -> tuple[ServerResult[T], ...]:
        """Raises KeyboardInterrupt if one was interrupted."""
        results = everywhere([self.servers[name].spec for name in names],
                             lambda one, _: verb(self.servers[one.short_name]), progress=self.progress)
        if any(result.interrupted for result in results):
            raise KeyboardInterrupt
        return results

    def open_release(self) -> FleetRelease | None:
        return latest_open(fleet_releases(self.ledger.read()))

    def required(self, only: Collection[str] | None) -> FleetRelease:
        """The one that is open, if it is about these servers; only None: whichever it is about."""
        release = self.open_release()
        if release is None or release.model != self.model:
            raise RolloutError(f"no release of {self.model} is open", hint="see tfs history", id="no-open-release")
        if only is not None and not is_about(release, only):
            raise held(release)
        return release

    def begin(self, kind: Kind, version: int, waves: tuple[tuple[str, ...], ...], before: Mapping[str, Serving], *,
              note: str = "", pauses: frozenset[int] = frozenset(), home: Mapping[str, int] | None = None,
              allow_breaking: str = "", some: bool = False, unknown: Mapping[str, str] | None = None
              ) -> FleetRelease:
        """some: whether it is about some of the servers only, so that no other joins it. unknown: of a rollback, the
        servers without a home, and why. Raises RolloutError if a rollout's can't be written."""
        line = self._written("fleet_begin", {
            "release": f"f{self._number()}", "model": self.model, "kind": kind, "version": version,
            "waves": [list(wave) for wave in waves], "before": {name: live.to_json() for name, live in before.items()},
            "home": dict(home or {}), "by": whoami(), "note": note or allow_breaking, "pauses": sorted(pauses),
            "options": {"allow_breaking": allow_breaking, **kept.written(self.spec.rollout), "some": some,
                        "unknown": dict(unknown or {})}}, back=kind == "rollback")
        return fleet_releases([line])[0]

    def _number(self) -> int:
        """The next release's. Lines of the first ones may be gone."""
        numbers = [release.id[1:] for release in fleet_releases(self.ledger.read())]
        return 1 + max((int(number) for number in numbers if number.isdecimal()), default=0)

    def _written(self, event: str, fields: Mapping[str, Any], *, back: bool) -> Line:
        """The line as the ledger has it. On the way back it may be lost: a full disk doesn't keep the label."""
        return append_if_possible(self.ledger, event, lenient=back, tell=self.progress, **fields)

    def undo(self, release: FleetRelease, reason: str) -> FleetReleased:
        if not release.undoing:
            release = recorded.after(release, self._written(
                "fleet_undo", {"release": release.id, "reason": reason}, back=True))
        return self.drive(release, asked_to_undo=True)

    def go_on(self, release: FleetRelease, *, approve: bool = False) -> FleetReleased:
        waves = [release.paused] if release.paused and approve else []
        line = self._written("fleet_go", {"release": release.id, "by": whoami(), "waves": waves},
                             back=release.kind == "rollback" or bool(release.undoing))
        release = self._with_joined(recorded.after(release, line))
        self.progress(f"going on with release {release.id}, begun {release.began}")
        return self.drive(release)

    def _with_joined(self, release: FleetRelease) -> FleetRelease:
        """The release with the servers that joined since it began, in its last wave."""
        joins = release.kind == "rollout" and not release.undoing and not release.some
        for name in [name for name in self.servers if name not in release.servers] if joins else ():
            before = self.servers[name].look().before
            if before is not None:
                self.progress(f"{name} joined since the release began")
                release = recorded.after(release, self.ledger.append(
                    "fleet_join", release=release.id, server=name, before=before.to_json()))
        return release

    def drive(self, release: FleetRelease, *, asked_to_undo: bool = False) -> FleetReleased:
        allow, part = str(release.options.get("allow_breaking", "")), self.spec.rollout
        for server in self.servers.values():
            server.adjust(allow, **kept.kept(release.options, part))
        within = release.servers
        servers = [server for server in self.servers.values() if server.name in within]
        driver = FleetDriver(servers, self.ledger, release, progress=self.progress, patience=part.patience,
                             most_unavailable=size(part.max_unavailable, len(self.servers)))
        ended = driver.run()
        if ended.outcome == "done" and not release.some and len(set(release.home.values())) < 2:
            self._remember(next((server for server in servers if server.name not in ended.missing), None),
                           back=release.kind == "rollback")
        if not driver.release.open:
            self._leave_receipt(driver.release)
        released = FleetReleased(driver.release, ended)
        _raise_if_incomplete(released, driver.release, driver.forbidden, asked_to_undo=asked_to_undo)
        return released

    def _leave_receipt(self, release: FleetRelease) -> None:
        """One beside the version, however many servers there are: with what this release has found on the first of
        them that it changed."""
        servers = [self.servers[name] for wave in release.waves for name in wave if name in self.servers]
        own, lines = next(filter(None, (_part(server, release) for server in servers)), (None, ()))
        nowhere = Serving(frozenset(), {})
        told = Release(release.id, release.model, release.kind, release.version, nowhere, nowhere, release.by,
                       release.began, release.note, ended=release.ended, outcome=release.outcome, reason=release.reason)
        if own is not None:
            told = replace(told, before=own.before, goal=own.goal, passed=own.passed)
        if servers:
            leave_receipts(servers[0].spec, model_of(servers[0].spec, self.model), own or told, lines, self.progress,
                           of_all=(self.spec.name, told))

    def _remember(self, server: FleetServer | None, *, back: bool) -> None:
        """What all of them serve now, for those that join later."""
        live = server.look().live if server is not None else None
        if server is not None and live is not None:
            self._written("fleet_known_good", {"model": self.model, "serving": live.to_json(), "entry": portable(
                entry(model_of(server.spec, self.model)))}, back=back)


def _part(server: FleetServer, release: FleetRelease) -> tuple[Release, Sequence[Line]] | None:
    """The server's own release in that of all, and its ledger; None if it had none, or nobody can read it."""
    with suppress(RolloutError):
        return server.last_release(release.version, since=release.began)
    return None


def _raise_if_incomplete(released: FleetReleased, release: FleetRelease, forbidden: DeployError | None, *,
                         asked_to_undo: bool) -> None:
    """forbidden: what a server's own look ahead said, before any was told."""
    ended = released.ended
    if ended.outcome == "undone" and not asked_to_undo:
        hint = "see the server's own release: tfs history --server NAME; tfs logs --server NAME"
        if forbidden is not None and not release.touched:
            hint, name = forbidden.hint, forbidden.id
        else:
            name = "release-undone"
        raise RolloutError(f"{release.model} is as it was before on all servers{_but(ended)}: {ended.reason}",
                           hint=hint, id=name, details=released.to_json())
    if ended.down and len(ended.down) + len(ended.missing) == len(release.servers):
        start = _versions(release.home.values()) if release.home else "what they served before"
        raise RolloutError(f"the rollback of {release.model} is recorded, and no server was told, since none answers: "
                           f"{', '.join(ended.down)} start{'s' * (len(ended.down) == 1)} with {start}{_but(ended)}",
                           hint="start them: tfs up; or see what they run: tfs doctor", id="servers-missing",
                           details=released.to_json())
    if ended.missing:
        raise RolloutError(f"the {release.kind} of {release.model} is done{_but(ended)}",
                           hint="it is brought to it when it is back: run the same again, or let tfs watch do it",
                           id="servers-missing", details=released.to_json())


def _but(ended: FleetOutcome) -> str:
    missing = "; ".join(f"{name} ({why})" for name, why in ended.missing.items())
    return f", but not on {missing}" if missing else ""


@contextmanager
def fleet_context(spec: Spec, model: str, kind: Kind, progress: Progress) -> Iterator[FleetContext]:
    model_of(spec, model)
    with changing_all(spec, f"{kind} of {model}", progress) as ledger:
        servers = {member.short_name: FleetServer(member, model) for member in spec.members}
        try:
            yield FleetContext(spec, model, ledger, progress, servers)
        finally:
            for server in servers.values():
                server.close()


def is_about(release: FleetRelease, only: Collection[str] | None) -> bool:
    """Whether it is about exactly these servers; None: all of them."""
    return not release.some if only is None else release.some and release.servers == set(only)


def held(release: FleetRelease) -> LockHeld:
    """That another one is open."""
    by, what = str(release.by.get("by", "unknown")), f"{release.kind} of {release.model} to {release.version}"
    state = f"waits before wave {release.paused}" if release.paused else "was not finished"
    names = [name for wave in release.waves for name in wave]
    whom, option = (", ".join(names), f" --server {','.join(names)}") if release.some else ("all servers", "")
    return LockHeld(f"release {release.id} of {whom} ({what}), begun by {by} at {release.began}, {state}", by=by,
                    since=release.began, why=what,
                    hint=f"finish it: tfs rollout {release.model}{option} --continue; or undo it: tfs rollout "
                         f"{release.model}{option} --abort", id="release-open")


def latest_open(releases: Sequence[FleetRelease]) -> FleetRelease | None:
    return next((release for release in reversed(releases) if release.open), None)


def _versions(versions: Collection[int]) -> str:
    numbers = sorted(set(versions))
    return f"version{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}"

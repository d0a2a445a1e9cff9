"""The ledger of many servers, read as releases. Each server's own steps are in its own ledger.

    fleet_begin   model, kind, version, waves, what each server served before and where a rollback leads; by, note
    fleet_join    a server that joined meanwhile, or was away at the beginning, and what it served before
    fleet_apply   what is about to be done, to which servers
    fleet_confirm what was done, how long it took, and where it failed
    fleet_pause   the wave waits for `continue`          fleet_go    someone let it go on
    fleet_undo    it goes back: why                      fleet_end   outcome, why, and servers that are missing
    fleet_known_good   what all of them serve since, for servers that join later
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from deploy.state.release import Kind, Line, Outcome
from deploy.types import Serving


@dataclass(frozen=True, slots=True)
class FleetRelease:
    """One change of what is served of one model by many servers.

    waves: names of servers. before: what each served. home: of a rollback, the version that each goes to.
    by: who began it, or let it go on last. approved: waves that somebody let go on. undoing: why it goes back.
    touched: servers that were told, or about to be. missing: servers that it ended without.
    """

    id: str
    model: str
    kind: Kind
    version: int
    waves: tuple[tuple[str, ...], ...]
    before: Mapping[str, Serving]
    by: Mapping[str, Any]
    began: str
    home: Mapping[str, int] = field(default_factory=dict)
    note: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    pauses: frozenset[int] = frozenset()
    approved: frozenset[int] = frozenset()
    paused: int = 0
    undoing: str = ""
    ended: str = ""
    outcome: Outcome = "open"
    reason: str = ""
    touched: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()

    @property
    def open(self) -> bool:
        """Neither done nor undone: under way, paused, or left by a crash."""
        return self.outcome == "open"

    @property
    def servers(self) -> frozenset[str]:
        """Those that it is about."""
        return frozenset(name for wave in self.waves for name in wave)

    @property
    def some(self) -> bool:
        """Whether it is about some of the servers only: none joins it later."""
        return bool(self.options.get("some"))

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "model": self.model, "kind": self.kind, "version": self.version,
                "waves": [list(wave) for wave in self.waves],
                "before": {name: serving.to_json() for name, serving in self.before.items()},
                "home": dict(self.home), "by": self.by.get("by", "unknown"), "began": self.began, "ended": self.ended,
                "note": self.note, "paused": self.paused, "undoing": self.undoing, "outcome": self.outcome,
                "reason": self.reason, "missing": list(self.missing)}


def fleet_releases(lines: Iterable[Line], model: str | None = None) -> list[FleetRelease]:
    """All releases (of one model), oldest first."""
    by_id: dict[str, FleetRelease] = {}
    for line in lines:
        if line["event"] == "fleet_begin" and (release := _begun(line)) is not None:
            by_id[release.id] = release
        elif line.get("release") in by_id:
            by_id[line["release"]] = after(by_id[line["release"]], line)
    return [release for release in by_id.values() if model in (None, release.model)]


def _begun(line: Line) -> FleetRelease | None:
    try:
        return FleetRelease(
            str(line["release"]), str(line["model"]), line["kind"], int(line["version"]),
            tuple(tuple(map(str, wave)) for wave in line["waves"]),
            {str(name): Serving.from_json(serving) for name, serving in line["before"].items()}, dict(line["by"]),
            str(line["at"]), {str(name): int(v) for name, v in line.get("home", {}).items()}, str(line.get("note", "")),
            dict(line.get("options", {})), frozenset(map(int, line.get("pauses", ()))))
    except (KeyError, TypeError, ValueError, AttributeError):  # of another release of ours
        return None


def after(release: FleetRelease, line: Line) -> FleetRelease:
    """The release as one more of its lines leaves it."""
    event = line["event"]
    if event == "fleet_join":
        name, waves = str(line["server"]), release.waves or ((),)
        known = any(name in wave for wave in waves)
        return replace(release, waves=waves if known else (*waves[:-1], (*waves[-1], name)),
                       before={**release.before, name: Serving.from_json(line["before"])})
    if event == "fleet_apply" and line.get("do") in ("change", "bake", "finish"):
        return replace(release, touched=release.touched | set(map(str, line["servers"])))
    if event == "fleet_go":
        return replace(release, paused=0, by=dict(line["by"]),
                       approved=release.approved | {int(wave) for wave in line.get("waves", ())})
    if event == "fleet_undo":
        return replace(release, undoing=str(line["reason"]), paused=0)
    if event == "fleet_end":
        return replace(release, outcome=line["outcome"], reason=str(line.get("reason", "")), ended=str(line["at"]),
                       paused=0, missing=tuple(map(str, line.get("missing", ()))))
    return replace(release, paused=int(line["wave"])) if event == "fleet_pause" else release

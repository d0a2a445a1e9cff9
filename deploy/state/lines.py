"""What each kind of the ledger's lines has to have, and how lines of earlier releases are read."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

Line = dict[str, Any]


class _Serving(msgspec.Struct):
    versions: list[int]
    labels: dict[str, int]


class _Event(msgspec.Struct):
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    release: str | None = None


class _Begin(_Event, kw_only=True):
    release: str
    model: str
    kind: Literal["rollout", "rollback"]
    version: int
    before: _Serving
    goal: _Serving
    by: dict[str, Any]
    note: str = ""
    options: dict[str, Any] = {}


class _Passed(_Event, kw_only=True):
    check: str


class _Pause(_Event, kw_only=True):
    before: str


class _Go(_Event, kw_only=True):
    by: dict[str, Any]
    steps: list[str] = []


class _Undo(_Event, kw_only=True):
    reason: str


class _End(_Event, kw_only=True):
    outcome: Literal["done", "undone"]
    reason: str = ""


class _KnownGood(_Event, kw_only=True):
    model: str
    serving: _Serving


class _FleetBegin(_Event, kw_only=True):
    release: str
    model: str
    kind: Literal["rollout", "rollback"]
    version: int
    waves: list[list[str]]
    before: dict[str, _Serving]
    by: dict[str, Any]
    home: dict[str, int] = {}
    note: str = ""
    options: dict[str, Any] = {}
    pauses: list[int] = []


class _FleetJoin(_Event, kw_only=True):
    server: str
    before: _Serving


class _FleetApply(_Event, kw_only=True):
    do: str
    servers: list[str]


class _FleetPause(_Event, kw_only=True):
    wave: int


class _FleetGo(_Event, kw_only=True):
    by: dict[str, Any]
    waves: list[int] = []


class _FleetEnd(_End, kw_only=True):
    missing: list[str] = []


_EVENTS: dict[str, type[_Event]] = {
    "begin": _Begin, "passed": _Passed, "pause": _Pause, "go": _Go, "undo": _Undo, "end": _End,
    "known_good": _KnownGood, "started": _KnownGood, "fleet_begin": _FleetBegin, "fleet_join": _FleetJoin,
    "fleet_apply": _FleetApply, "fleet_pause": _FleetPause, "fleet_go": _FleetGo, "fleet_undo": _Undo,
    "fleet_end": _FleetEnd, "fleet_known_good": _KnownGood}

_RENAMED = {"proven": "known_good", "soak": "bake_before", "hold": "bake_after"}
"""Events and checks by the names that lines of earlier releases have."""


def parsed(text: bytes) -> Line | None:
    """A line, or None for one that was torn. Raises msgspec.ValidationError for a whole one with wrong fields."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or "event" not in line:
        return None
    line = _renamed(line)
    event = line["event"]
    msgspec.convert(line, _EVENTS.get(event, _Event) if isinstance(event, str) else _Named)
    return line


def _renamed(line: Line) -> Line:
    """A line of any release in today's words: `known_good` was called `proven`, bake times `soak` and `hold`."""
    changed = {"event": _today(line["event"])}
    for field in ("check", "before", "steps"):
        if isinstance(line.get(field), str | list):
            changed[field] = _today(line[field])
    if isinstance(options := line.get("options"), dict):
        changed["options"] = {_today(name): _today(value) if name in ("trial", "after", "pauses") else value
                              for name, value in options.items()}
    return {**line, **changed}


def _today(name: Any) -> Any:
    if isinstance(name, list):
        return [_today(part) for part in name]
    return _RENAMED.get(name, name) if isinstance(name, str) else name


class _Named(_Event, kw_only=True):
    event: str

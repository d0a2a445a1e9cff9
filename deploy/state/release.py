"""The ledger's lines, read as releases: what was changed, by whom, how it ended; and what a restart may rely on.

    begin     a release: model, kind, version, before, goal, by, note
    apply     an action is about to be applied to the server     confirm   the server shows it
    passed    a check of it passed                               pause     it waits for `continue`
    go        someone let it go on                               undo      it failed, and goes back: why
    known_good  the config file names this from now on           end       outcome, and why
    started     `up` started the server with this, or it was adopted with it
    adopted     a server that somebody else started          mended     `watch` brought it back: from what
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from deploy.errors import RolloutError
from deploy.types import ServedModel, Serving, Specific

Line = Mapping[str, Any]
Kind = Literal["rollout", "rollback"]
Outcome = Literal["done", "undone", "open"]


@dataclass(frozen=True, slots=True)
class Release:
    """One change of what is served of one model.

    version: the one that gets the label. before: what rolling back aims at. goal: what is served in the end.
    by: process, host and user that began it, see locks.whoami. options: how it was asked for.
    passed: checks that passed, with the time. passed_on: the run of the server that each passed on.
    approved: steps that somebody let go on. undoing: why it goes back.
    """

    id: str
    model: str
    kind: Kind
    version: int
    before: Serving
    goal: Serving
    by: Mapping[str, Any]
    began: str
    note: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    passed: Mapping[str, str] = field(default_factory=dict)
    passed_on: Mapping[str, str | None] = field(default_factory=dict)
    approved: frozenset[str] = frozenset()
    paused: str = ""
    undoing: str = ""
    ended: str = ""
    outcome: Outcome = "open"
    reason: str = ""

    @property
    def open(self) -> bool:
        """Neither done nor undone: under way, paused, or left by a crash."""
        return self.outcome == "open"

    @property
    def lost_on_restart(self) -> str:
        """Why a restart of its server undoes it, in a sentence; "" if it doesn't."""
        return str(self.options.get("lost_on_restart", ""))

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it is open."""
        return seconds_between(self.began, self.ended)

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "model": self.model, "kind": self.kind, "version": self.version,
                "before": self.before.to_json(), "goal": self.goal.to_json(), "by": self.by.get("by", "unknown"),
                "began": self.began, "ended": self.ended, "seconds": self.seconds, "note": self.note,
                "passed": dict(self.passed), "paused": self.paused, "undoing": self.undoing,
                "outcome": self.outcome, "reason": self.reason, "lost_on_restart": self.lost_on_restart}


def seconds_between(began: str, ended: str) -> float | None:
    """Of two times in ISO 8601; None if the second isn't known yet."""
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds() if ended else None


def releases(lines: Iterable[Line], model: str | None = None) -> list[Release]:
    """All releases (of one model), oldest first."""
    by_id: dict[str, Release] = {}
    for line in lines:
        if line["event"] == "begin" and (release := _begun(line)) is not None:
            by_id[release.id] = release
        elif line.get("release") in by_id:
            by_id[line["release"]] = after(by_id[line["release"]], line)
    return [r for r in by_id.values() if model in (None, r.model)]


def _begun(line: Line) -> Release | None:
    try:
        return Release(str(line["release"]), str(line["model"]), line["kind"], int(line["version"]),
                       Serving.from_json(line["before"]), Serving.from_json(line["goal"]), dict(line["by"]),
                       str(line["at"]), str(line.get("note", "")), dict(line.get("options", {})))
    except (KeyError, TypeError, ValueError):  # another release of ours wrote it: of no use, but no reason to stop
        return None


def after(release: Release, line: Line) -> Release:
    """The release as one more of its lines leaves it."""
    event, at = line["event"], str(line["at"])
    if event == "passed":
        check = str(line["check"])
        return replace(release, passed={**release.passed, check: at},
                       passed_on={**release.passed_on, check: line.get("server")})
    if event == "pause":
        return replace(release, paused=str(line["before"]))
    if event == "go":
        return replace(release, paused="", by=dict(line["by"]), approved=release.approved | set(line.get("steps", ())))
    if event == "undo":
        return replace(release, undoing=str(line["reason"]), paused="")
    if event == "end":
        return replace(release, outcome=line["outcome"], reason=str(line.get("reason", "")), ended=at, paused="")
    return release


def entry(model: ServedModel) -> dict[str, Any]:
    """What the spec says of a model, as far as it decides what is served: `started_from` compares it."""
    versions = list(model.versions.versions) if isinstance(model.versions, Specific) else repr(model.versions)
    return {"versions": versions, "labels": dict(sorted(model.labels.items())), "base_path": model.base_path}


def portable(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What the spec says of a model, without the place where one machine has it."""
    return {name: value for name, value in entry.items() if name != "base_path"}


def proven(lines: Iterable[Line], model: str) -> Serving | None:
    """What was last known to be good of a model, whatever the spec says now; None if nothing was."""
    for line in reversed(list(lines)):
        if line["event"] in ("known_good", "started") and line.get("model") == model:
            return Serving.from_json(line["serving"])
    return None


def served_ever(lines: Iterable[Line], model: str) -> frozenset[int]:
    """The versions of a model that were known to be good, or that its server was started with, at any time."""
    states = [Serving.from_json(line["serving"]) for line in lines
              if line["event"] in ("known_good", "started") and line.get("model") == model]
    return frozenset().union(*(state.versions for state in states))


def started_from(lines: Iterable[Line], model: ServedModel) -> Serving | None:
    """What a restart should serve of a model instead of what the spec says; None: what the spec says.

    The last state known to be good counts, as long as the spec's entry for the model is the one that it was reached
    under. Whoever edits the entry means it.
    """
    last = next((line for line in reversed(list(lines))
                 if line["event"] in ("known_good", "started") and line.get("model") == model.name), None)
    if last is None or last.get("source") == "spec" or not _says(last.get("spec"), model):
        return None
    try:
        return Serving.from_json(last["serving"])
    except (KeyError, TypeError, ValueError):
        return None


def _says(written: object, model: ServedModel) -> bool:
    """Whether the spec's entry for the model is the one that was written down; in a ledger of several machines without
    the place where one of them has it."""
    return written in (now := entry(model), portable(now))


def shortened(text: bytes, most: int, where: str) -> bytes:
    """A ledger's text in at most so many bytes: what counts of it stays, and of the rest the last half.

    What counts is what is known to be good of each model, and whatever belongs to an open release. Raises RolloutError
    if that is too much. where: the ledger, for people.
    """
    if len(text) <= most:
        return text
    lines = [(raw, _fields(raw)) for raw in text.splitlines(keepends=True)]
    ended = {line.get("release") for _, line in lines if line.get("event") in ("end", "fleet_end")}
    last = {(line["event"], line.get("model")): number for number, (_, line) in enumerate(lines)
            if line.get("event") in ("known_good", "proven", "started", "fleet_known_good")}
    counts = {*last.values(), *(number for number, (_, line) in enumerate(lines)
                                if "release" in line and line["release"] not in ended)}
    size = sum(len(lines[number][0]) for number in counts)
    if size > most:
        raise RolloutError(f"what counts of the ledger {where} is {size:,} bytes, and {most:,} are kept there",
                           hint="end the release that is open: tfs rollout MODEL --abort", id="ledger-unusable")
    for number in range(len(lines) - 1, -1, -1):
        if number not in counts:
            size += len(lines[number][0])
            if size > max(most // 2, len(lines[-1][0])):
                break
            counts.add(number)
    return b"".join(lines[number][0] for number in sorted(counts))


def _fields(raw: bytes) -> Line:
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return line if isinstance(line, dict) else {}

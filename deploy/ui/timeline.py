"""A release's ledger lines as its steps: what passed, when, how long it took; what waits; what is still to come."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from deploy import files
from deploy.state import Release

StepState = Literal["done", "running", "waiting", "failed", "pending", "skipped"]
_MOST_REPORT = 8 << 20  # bytes of a judge's report

TITLES = {"load": "Load {version}", "canary": "Label {version} {canary}", "gate": "Smoke test",
          "compare": "Compare with {before}", "bake_before": "Watch before promotion",
          "promote": "Move {label} to {version}", "confirm": "Confirm", "bake_after": "Watch after promotion",
          "unload": "Unload what was left"}


@dataclass(frozen=True, slots=True)
class ReleaseStep:
    """One step. began, ended: ISO 8601, empty if it hasn't. note: what it found. expected: seconds, if that is known.

    approval: whether somebody has to let it go on.
    """

    name: str
    title: str
    state: StepState = "pending"
    began: str = ""
    ended: str = ""
    seconds: float | None = None
    note: str = ""
    expected: float | None = None
    approval: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"name": self.name, "title": self.title, "state": self.state, "began": self.began, "ended": self.ended,
                "seconds": self.seconds, "note": self.note, "expected": self.expected, "approval": self.approval}


def release_steps(lines: Iterable[Mapping[str, Any]], release: Release) -> list[ReleaseStep]:
    """The steps in order, from the ledger's lines and what the release was begun with."""
    steps = _planned(release)
    previous = release.began
    for line in lines:
        if line.get("release") != release.id:
            continue
        name, at = _step_of(line, release), str(line["at"])
        if name in steps and line["event"] in ("confirm", "passed"):
            earlier = steps[name]
            began, took = earlier.began or previous, line.get("seconds")
            note = "; ".join(filter(None, [earlier.note, str(line.get("found", "")) or _memory(line)]))
            seconds = round((earlier.seconds or 0.0) + float(took), 3) if took is not None else None
            steps[name] = replace(earlier, state="done", began=began, ended=at, note=note, seconds=seconds)
        if line["event"] == "apply" and name in steps and not steps[name].began:
            steps[name] = replace(steps[name], began=at)
        if line["event"] in ("confirm", "passed", "go", "apply"):
            previous = at
        if line["event"] == "undo":
            break  # what follows is the way back
    return _current(list(steps.values()), release, previous)


def _planned(release: Release) -> dict[str, ReleaseStep]:
    o = release.options
    trial, after = tuple(o.get("trial", ())), tuple(o.get("after", ()))
    canary, label, pauses = o.get("canary"), str(o.get("label", "stable")), set(o.get("pauses", ()))
    names = ["load", *(["canary"] if canary else []), *trial, "promote", *after]
    if release.before.versions - release.goal.versions or set(release.before.labels) - set(release.goal.labels):
        names.append("unload")
    if release.version in release.before.versions:
        names.remove("load")
    version, before = f"version {release.version}", release.before.labels.get(label, max(release.before.versions,
                                                                                        default=0))
    words = {"version": version, "canary": canary, "label": label, "before": f"version {before}"}
    expected = {"bake_before": o.get("bake_before"), "bake_after": o.get("bake_after")}
    return {name: ReleaseStep(name, TITLES.get(name, name).format(**words), expected=expected.get(name),
                              approval=name in pauses) for name in names}


def _step_of(line: Mapping[str, Any], release: Release) -> str:
    if line["event"] == "passed":
        return str(line["check"])
    action = line.get("action") or {}
    do, label = action.get("do"), action.get("label")
    if do == "load":
        return "load"
    if do == "point":
        return "canary" if label == release.options.get("canary") else "promote"
    return "unload" if do else ""


def _memory(line: Mapping[str, Any]) -> str:
    memory = line.get("memory")
    return f"{float(memory) / 1e6:,.0f} MB more memory" if isinstance(memory, int | float) and memory > 0 else ""


def _current(steps: Sequence[ReleaseStep], release: Release, since: str) -> list[ReleaseStep]:
    """With the first that isn't done marked as what is going on, or as what went wrong."""
    marked, found = list(steps), False
    for index, step in enumerate(steps):
        if step.state == "done":
            continue
        if release.outcome == "done" or found:
            marked[index] = replace(step, state="skipped" if not release.open or release.undoing else "pending")
            continue
        found = True
        if release.paused:
            marked[index] = replace(step, state="waiting", began=since)
        elif release.outcome == "undone" or release.undoing:
            marked[index] = replace(step, state="failed", note=release.undoing or release.reason)
        else:
            marked[index] = replace(step, state="running", began=step.began or since)
    return marked


def reported(state_dir: Path, release: Release) -> dict[str, Any] | None:
    """The judge's report of a release; None if there is none that can be read."""
    path = state_dir / "reports" / f"{release.id}-{release.model}-{release.version}.json"
    try:
        report = json.loads(files.read_bytes(path, _MOST_REPORT, follow=False))
    except (OSError, ValueError, RecursionError):
        return None
    return report if isinstance(report, dict) else None

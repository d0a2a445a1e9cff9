"""The ledger's lines, read as replacements of a server's pods.

    replace_begin  what is to change, by whom       replaced     a new pod was tested and is good
    replace_undo   it goes back: why                replace_end  outcome, and why
    passed_replacement  a bake time is over
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from deploy.state.release import Line, Outcome, seconds_between


@dataclass(frozen=True, slots=True)
class PodReplacementEntry:
    """One replacement. replacing: what changed about the pods, in sentences. began, ended: ISO 8601."""

    id: str
    by: str
    began: str
    replacing: tuple[str, ...] = ()
    note: str = ""
    ended: str = ""
    outcome: Outcome = "open"
    reason: str = ""

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it is open."""
        return seconds_between(self.began, self.ended)

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "kind": "replacement", "by": self.by, "began": self.began, "ended": self.ended,
                "seconds": self.seconds, "note": self.note, "outcome": self.outcome, "reason": self.reason,
                "replacing": list(self.replacing)}


def replacements(lines: Iterable[Line]) -> list[PodReplacementEntry]:
    """All of them, oldest first."""
    by_id: dict[str, PodReplacementEntry] = {}
    for line in lines:
        number, event = str(line.get("replacement", "")), line["event"]
        if event == "replace_begin":
            by_id[number] = PodReplacementEntry(number, str(line.get("by", {}).get("by", "unknown")), str(line["at"]),
                                                tuple(line.get("change", {}).get("replacing", ())),
                                                str(line.get("note", "")))
        elif event == "replace_end" and number in by_id:
            by_id[number] = replace(by_id[number], ended=str(line["at"]), outcome=line["outcome"],
                                    reason=str(line.get("reason", "")))
    return list(by_id.values())

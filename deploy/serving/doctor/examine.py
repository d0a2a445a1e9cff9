"""All rules over one piece of evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from deploy.serving.doctor import collect, files, programs
from deploy.serving.doctor import flag_findings as flagged
from deploy.serving.doctor import load_findings as loads
from deploy.serving.doctor.evidence import Cause, Evidence
from deploy.spec import Spec

RULES: tuple[Callable[[Evidence], Iterator[Cause]], ...] = (
    *files.RULES, *flagged.RULES, *loads.RULES, *programs.RULES)
_SYMPTOMS = frozenset({"port-closed", "not-served", "start-failed", "ended", "restarting", "crashed", "usage-text"})
_SERIOUS = 30  # from here on it keeps a server from starting or serving as it should


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """causes: the most likely one last. kind: of the server. given: it isn't the spec's, but a container, log or
    command line that somebody named."""

    name: str
    running: bool
    causes: tuple[Cause, ...]
    kind: str = "unknown"
    given: bool = False

    @property
    def most_likely(self) -> Cause | None:
        return self.causes[-1] if self.causes else None

    @property
    def well(self) -> bool:
        """Nothing was found that matters."""
        return all(c.weight < _SERIOUS for c in self.causes)

    def to_json(self) -> dict[str, object]:
        likely = self.most_likely
        return {"name": self.name, "running": self.running, "well": self.well,
                "causes": [c.to_json() for c in self.causes], "most_likely": likely.to_json() if likely else None}


def diagnose(spec: Spec) -> Diagnosis:
    """Why the spec's server doesn't start, or serve: `tfs doctor`. Nothing is changed.

    Raises RolloutError if the ledger can't be read, ServerError if the server's record can't.
    """
    return examine(collect.of_spec(spec))


def examine(evidence: Evidence) -> Diagnosis:
    """Every cause that the evidence shows, each once."""
    causes_by_name = dict[tuple[str, str], Cause]()
    for rule in RULES:
        for cause in rule(evidence):
            causes_by_name.setdefault((cause.rule, cause.cause), cause)
    # A symptom says nothing new beside its cause
    explained = any(c.weight > 80 for c in causes_by_name.values())
    causes = [c for c in causes_by_name.values() if not (explained and c.rule in _SYMPTOMS)]
    return Diagnosis(evidence.name, evidence.running, tuple(sorted(causes, key=lambda c: c.weight)), evidence.kind,
                     evidence.given_by_name)

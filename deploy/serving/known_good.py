"""What is started, when rollouts have changed what is served since the spec was written.

The spec says how a model is served at first; the ledger says what is known good since. As long as a model's entry in
the spec is the one that the release began with, the known good versions and labels win: a restart never brings back
what was replaced. Whoever edits the entry means it: then the spec wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import msgspec

from deploy.serving.resolving import ResolvedModel
from deploy.spec import Spec
from deploy.state import Ledger, started_from
from deploy.state.ledger import Line
from deploy.state.release import entry
from deploy.types import Specific


def as_known_good(spec: Spec, lines: Sequence[Line] | None = None) -> Spec:
    """The spec with what rollouts have made known good since. lines: the ledger's, if it was read already.

    Raises RolloutError if the ledger can't be read.
    """
    if lines is None:
        lines = Ledger(spec.state_dir).read()
    models = []
    for model in spec.models:
        known_good = started_from(lines, model)
        models.append(model if known_good is None else
                      replace(model, versions=Specific(tuple(known_good.versions)), labels=dict(known_good.labels)))
    return msgspec.structs.replace(spec, models=tuple(models))


def differences(spec: Spec, known_good: Spec) -> list[str]:
    """Where what is known good differs from what the spec says, in sentences."""
    return [f"{theirs.name}: version {_list(theirs.versions)}, as rolled out; {spec.path.name} says "
            f"{_list(ours.versions)}"
            for ours, theirs in zip(spec.models, known_good.models, strict=True) if ours != theirs]


def note_start(spec: Spec, models: Iterable[ResolvedModel], lines: Sequence[Line]) -> None:
    """Write down what a server was started with. lines: the ledger's. Raises RolloutError if that can't be written."""
    ledger, by_name = Ledger(spec.state_dir), {model.name: model for model in spec.models}
    for wanted in models:
        model = by_name[wanted.name]
        source = "spec" if started_from(lines, model) is None else "ledger"
        ledger.append("started", model=wanted.name, source=source, spec=entry(model),
                      serving={"versions": sorted(wanted.versions), "labels": dict(wanted.labels)})


def _list(versions: object) -> str:
    if isinstance(versions, Specific):
        return " and ".join(map(str, versions.versions))
    return repr(versions).lower()

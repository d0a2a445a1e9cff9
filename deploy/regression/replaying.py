"""Goldens asked again, of whatever answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from deploy import goldens
from deploy.errors import BadReply, BadRequest, Rejected
from deploy.goldens.compare import Tolerances
from deploy.goldens.drift import Drift, Pair, measure
from deploy.goldens.recorded import Golden
from deploy.repository import read_manifest
from deploy.types import ModelRef

if TYPE_CHECKING:
    from deploy.checks import Gate
    from deploy.client import Client

Arrays = Mapping[str, NDArray[Any]]

Ask = Callable[[str, Arrays], Arrays]
"""Signature and inputs -> outputs. Raises EngineError, Rejected, BadRequest or BadReply for what is refused."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a version directory has recorded. skipped: warm-up requests without an answer."""

    goldens: Sequence[Golden]
    tolerances: Tolerances = field(default_factory=dict)
    skipped: int = 0


def known(directory: str | Path) -> Known:
    """A version's goldens, and the tolerances of its manifest, if it has one. Raises RepositoryError."""
    recorded = goldens.scan(directory)
    manifest = read_manifest(Path(directory))
    return Known(recorded.goldens, manifest.limits() if manifest else {}, recorded.skipped)


def replay(cases: Sequence[Golden], ask: Ask, tolerances: Tolerances,
           progress: Callable[[int, int], None] | None = None) -> Drift:
    """Ask every case, and measure how far the answers are from the recorded ones.

    A refusal is a finding. Raises what `ask` raises when nobody answers any more: Unreachable, TimedOut.
    """

    def pairs() -> Iterator[Pair]:
        for number, case in enumerate(cases, 1):
            yield Pair(case.signature, case.outputs, answer(ask, case.signature, case.inputs))
            if progress:
                progress(number, len(cases))

    return measure(pairs(), tolerances)


def answer(ask: Ask, signature: str, inputs: Arrays) -> Arrays | str:
    """The answer, or why there is none."""
    from deploy.engine import EngineError

    try:
        return ask(signature, inputs)
    except (EngineError, Rejected, BadRequest, BadReply) as error:
        return error.message


@contextmanager
def on_engine(directory: str | Path, gate: Gate | None = None) -> Iterator[Ask]:
    """The SavedModel in `directory`, run without a server: after the gate has let it pass, in a process of its own that
    has no network, no secrets and nothing to write to, as far as the platform can do that.

    gate: what decides; by default `checks.gate()`, as for publishing.
    Raises CheckFailed for a model that is refused, BackendMissing without TensorFlow's library, EngineError if the
    model doesn't load.
    """
    from deploy import checks, engine

    (gate or checks.gate())(Path(directory))
    with ExitStack() as stack:
        try:
            child = stack.enter_context(engine.confined(directory))
        except engine.EngineError as e:
            raise engine.EngineError(e.code, f"{directory} doesn't load: {e.message}") from e
        yield child.ask


def on_server(client: Client, ref: ModelRef) -> Ask:
    """A version (or a label, or whatever a name leads to) on a server, over gRPC if the client has it, else REST."""

    def ask(signature: str, inputs: Arrays) -> Arrays:
        return client.predict(ref, inputs, signature=signature)

    return ask

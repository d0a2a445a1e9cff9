"""What was found: one check at a time, and what happens when the server is gone."""

from __future__ import annotations

import enum
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from deploy.errors import ClientError, SmokeFailed, TimedOut, Unreachable
from deploy.types import ModelRef

if TYPE_CHECKING:
    from deploy.client import Client
    from deploy.client.rest import RestClient
    from deploy.client.rpc import RpcClient

RPC, REST, ROW, COLUMN, BOTH = "gRPC", "REST", "REST row", "REST column", "both"

T = TypeVar("T")


class Outcome(enum.Enum):
    """How a check ended. Skipped: can't be asked in this protocol, and the reason stands in `seen`.
    Not run: it could, but the server was gone or an earlier check left nothing to ask."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    NOT_RUN = "not run"


class CheckId(NamedTuple):
    """Which check it is: `mnist/3`, `golden 1 of serving_default`, `REST row`. A smoke test asks each once."""

    subject: str
    name: str
    protocol: str

    def __str__(self) -> str:
        return f"{self.subject} {self.name} [{self.protocol}]"


@dataclass(frozen=True, slots=True)
class SmokeCheck:
    """One question and its answer.

    name: `status`, `contract`, `golden 1 of serving_default`, `agreement ...`, `label`, `unknown version`, ...
    protocol: gRPC, REST, REST row, REST column, or both.
    reproduce: a line for a shell; empty for what passed.
    seconds: how long it took.
    """

    model: str
    version: int | None
    label: str | None
    name: str
    protocol: str
    outcome: Outcome
    expected: str = ""
    seen: str = ""
    reproduce: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool | None:
        """None for what was skipped or not run."""
        return {Outcome.PASSED: True, Outcome.FAILED: False}.get(self.outcome)

    @property
    def subject(self) -> str:
        """`mnist/3`, `mnist@stable`, `mnist`."""
        return str(ModelRef(self.model, self.version, self.label))

    @property
    def id(self) -> CheckId:
        return CheckId(self.subject, self.name, self.protocol)

    @property
    def rule(self) -> str:
        """What `tfs explain` calls this kind of check: `smoke-golden` of every golden."""
        return f"smoke-{self.name.split()[0]}"

    def to_json(self) -> dict[str, object]:
        return {"model": self.model, "version": self.version, "label": self.label, "name": self.name,
                "rule": self.rule, "protocol": self.protocol, "outcome": self.outcome.value, "ok": self.ok,
                "expected": self.expected, "seen": self.seen, "reproduce": self.reproduce,
                "seconds": round(self.seconds, 6)}


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds of one request: the first of this run on that version and protocol, and the median of later ones.

    warmed: requests with which the server warmed that version up, in warm_seconds; None if it doesn't tell.
    """

    model: str
    version: int
    protocol: str
    first: float
    steady: float
    calls: int
    warmed: int | None = None
    warm_seconds: float = 0.0

    def to_json(self) -> dict[str, object]:
        return {"model": self.model, "version": self.version, "protocol": self.protocol,
                "first": round(self.first, 6), "steady": round(self.steady, 6), "calls": self.calls,
                "warmed": self.warmed, "warm_seconds": round(self.warm_seconds, 6)}


@dataclass(frozen=True, slots=True)
class SmokeReport:
    """Everything that was asked, in order. gone: why the server stopped answering; empty if it didn't."""

    endpoint: str
    checks: tuple[SmokeCheck, ...]
    latencies: tuple[Latency, ...]
    seconds: float
    gone: str = ""

    @property
    def ok(self) -> bool:
        """Something passed, nothing failed, and nothing was left out that could have been asked."""
        counts = self.counts
        return bool(counts[Outcome.PASSED]) and not counts[Outcome.FAILED] and not counts[Outcome.NOT_RUN]

    @property
    def counts(self) -> Counter[Outcome]:
        return Counter(check.outcome for check in self.checks)

    @property
    def failed(self) -> tuple[SmokeCheck, ...]:
        return tuple(check for check in self.checks if check.outcome is Outcome.FAILED)

    @property
    def summary(self) -> str:
        """`48 checks passed, 1 failed, 2 skipped, 0 not run in 0.8 s`."""
        counts = self.counts
        numbers = ", ".join(f"{counts[o]} {'checks ' if o is Outcome.PASSED else ''}{o.value}" for o in Outcome)
        return f"{numbers} in {self.seconds:.1f} s"

    def raise_if_failed(self) -> None:
        """Raises SmokeFailed with the first thing that isn't right, and the whole report as details."""
        if self.ok:
            return
        if self.gone:
            why = f"the server stopped answering: {self.gone}"
        elif self.failed:
            check = self.failed[0]
            why = f"{check.subject}, {check.name} over {check.protocol}: expected {check.expected}, seen {check.seen}"
        else:
            why = "there was nothing to check" if not self.counts[Outcome.NOT_RUN] else "not everything could be asked"
        raise SmokeFailed(f"what is served at {self.endpoint} isn't right: {why}", hint=self._hint(),
                          id=self.failed[0].rule if self.failed and not self.gone else "",
                          details={"report": self.to_json()})

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"ok": self.ok, "endpoint": self.endpoint, "seconds": round(self.seconds, 3), "gone": self.gone,
                "counts": {outcome.value: self.counts[outcome] for outcome in Outcome},
                "checks": [check.to_json() for check in self.checks],
                "latencies": [latency.to_json() for latency in self.latencies]}

    def _hint(self) -> str:
        line = next((check.reproduce for check in self.failed if check.reproduce), "")
        return f"reproduce: {line}" if line else self.summary


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How a check ended, what was expected, and what was seen instead or as well."""

    outcome: Outcome
    expected: str = ""
    seen: str = ""


def passed_if(fine: bool, expected: str, seen: str) -> CheckResult:
    return CheckResult(Outcome.PASSED if fine else Outcome.FAILED, expected, seen)


@dataclass(slots=True)
class SmokedServer:
    """The server that is asked, shared by all threads of a run. gone: protocol -> why it stopped answering."""

    client: Client
    timeout: float
    gone: dict[str, str] = field(default_factory=dict)

    def offers(self, protocol: str) -> bool:
        return self.client.rpc is not None if protocol == RPC else self.client.rest is not None

    @property
    def rpc(self) -> RpcClient:
        assert self.client.rpc is not None, "asked only after `offers`"
        return self.client.rpc

    @property
    def rest(self) -> RestClient:
        assert self.client.rest is not None, "asked only after `offers`"
        return self.client.rest

    def one(self, protocol: str) -> RpcClient | RestClient:
        return self.rpc if protocol == RPC else self.rest


class CheckRun:
    """Collects the checks of one model. Used by one thread.

    only: the checks that are asked and recorded; None for all. Others are taken for passed.
    planning: no server is asked: what would be is recorded, as if every version that is wanted were served well.
    """

    def __init__(self, server: SmokedServer, only: Collection[CheckId] | None = None, *, planning: bool = False
                 ) -> None:
        self.server, self._only, self.planning = server, only, planning
        self.checks, self.latencies = list[SmokeCheck](), list[Latency]()

    def wants(self, subject: ModelRef, name: str, protocol: str) -> bool:
        return self._only is None or CheckId(str(subject), name, protocol) in self._only

    def check(self, subject: ModelRef, name: str, protocol: str, ask: Callable[[], CheckResult], *, expected: str = "",
              reproduce: Callable[[], str] = str, needed: bool = False) -> bool:
        """Ask, unless the protocol isn't offered or doesn't answer any more. True if it passed.

        expected: shown if no answer comes at all. reproduce: called for what failed. needed: later checks need the
        answer, so it is asked for even if this check isn't wanted.
        """
        if not needed and not self.wants(subject, name, protocol):
            return True
        if self.planning:
            return not self.leave_out(subject, name, protocol, "it was only planned")
        base = RPC if protocol == RPC else REST
        if protocol != BOTH and not self.server.offers(base):
            return self.skip(subject, name, protocol, f"this endpoint offers no {base}")
        if protocol != BOTH and base in self.server.gone:
            return self.leave_out(subject, name, protocol, f"{base} doesn't answer any more: {self.server.gone[base]}")
        began = time.perf_counter()
        try:
            result = ask()
        except ClientError as error:
            result = CheckResult(Outcome.FAILED, expected, str(error))
            self._notice(error, base)
        seconds = time.perf_counter() - began
        line = reproduce() if result.outcome is Outcome.FAILED and self.wants(subject, name, protocol) else ""
        self._add(subject, name, protocol, result, line=line, seconds=seconds)
        return result.outcome is Outcome.PASSED

    def skip(self, subject: ModelRef, name: str, protocol: str, why: str) -> bool:
        """It can't be asked."""
        self._add(subject, name, protocol, CheckResult(Outcome.SKIPPED, "", why))
        return False

    def leave_out(self, subject: ModelRef, name: str, protocol: str, why: str) -> bool:
        """It could be asked, but there is no use."""
        self._add(subject, name, protocol, CheckResult(Outcome.NOT_RUN, "", why))
        return False

    def _add(self, subject: ModelRef, name: str, protocol: str, result: CheckResult, *, line: str = "",
             seconds: float = 0.0) -> None:
        if not self.wants(subject, name, protocol):
            return
        self.checks.append(SmokeCheck(subject.name, subject.version, subject.label, name, protocol, result.outcome,
                                      result.expected, result.seen, line, seconds))

    def _notice(self, error: ClientError, base: str) -> None:
        """Without a connection, the server is gone. After a timeout it may only be slow: a small question tells."""
        if isinstance(error, TimedOut):
            try:
                self.server.one(base).status("tfs-smoke-still-there", timeout=min(2.0, self.server.timeout))
            except (TimedOut, Unreachable) as silence:
                error = silence
            except ClientError:
                return
        if isinstance(error, (TimedOut, Unreachable)):
            self.server.gone.setdefault(base, error.message)

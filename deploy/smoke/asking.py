"""One check at a time: what it found, how long it took, and what to do when the server is gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TypeVar

from deploy.client import Client
from deploy.client.rest import RestClient
from deploy.client.rpc import RpcClient
from deploy.errors import ClientError, TimedOut, Unreachable
from deploy.smoke.report import CheckId, Latency, Outcome, SmokeCheck
from deploy.types import ModelRef

RPC, REST, ROW, COLUMN, BOTH = "gRPC", "REST", "REST row", "REST column", "both"

T = TypeVar("T")


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


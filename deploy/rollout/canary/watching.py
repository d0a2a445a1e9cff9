"""The server's own counters, before and after: did anybody's requests fail meanwhile?

They carry the model's name and a status, never a version: with traffic on both versions they tell about both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deploy.client import monitoring
from deploy.client.rest import RestClient
from deploy.errors import BadReply, Rejected

COUNT = ":tensorflow:serving:request_count"
# The caller's own mistakes say nothing about the model
CALLERS = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNAUTHENTICATED", "PERMISSION_DENIED"}


@dataclass(frozen=True, slots=True)
class Counted:
    """Requests to one model since the server started, by status."""

    by_status: Mapping[str, int]

    @property
    def all(self) -> int:
        return sum(self.by_status.values())

    @property
    def failed(self) -> int:
        """Those that failed for the server's or the model's reasons."""
        return sum(n for status, n in self.by_status.items() if status.upper() not in CALLERS)

    def since(self, before: Counted) -> Counted:
        """What came since `before`; all of it if the server was started again."""
        if self.all < before.all:
            return self
        return Counted({s: n - before.by_status.get(s, 0) for s, n in self.by_status.items()})


def counted(rest: RestClient | None, model: str, path: str, timeout: float = 5.0) -> Counted | None:
    """None if the server doesn't tell: no REST, monitoring off. Raises Unreachable, TimedOut."""
    if rest is None:
        return None
    try:
        samples = monitoring.read(rest, path, timeout)
    except (BadReply, Rejected):
        return None
    if samples is None:
        return None
    found: dict[str, int] = {}
    for sample in samples:
        if sample.name == COUNT and sample.labels.get("model_name") == model:
            status = sample.labels.get("status", "")
            found[status] = found.get(status, 0) + int(sample.value)
    return Counted(found)

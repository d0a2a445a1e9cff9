"""What a server tells about itself in Prometheus' format, where its monitoring is on; REST only.

Names: tensorflow_serving/servables/tensorflow/saved_model_warmup_util.cc; the page as 2.20 writes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.errors import BadReply, Rejected

if TYPE_CHECKING:
    from deploy.client.rest import RestClient

PATH = "/monitoring/prometheus/metrics"
RECORDS = ":tensorflow:serving:model_warmup_records_read"
LATENCY = ":tensorflow:serving:model_warmup_latency"
REQUESTS = ":tensorflow:serving:request_count"
_CALLERS = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNAUTHENTICATED", "PERMISSION_DENIED"}
"""Of requests whose failure is the caller's own mistake, and says nothing of the model."""

_SAMPLE = re.compile(r"(?P<name>[A-Za-z_:][\w:]*)(?:\{(?P<labels>.*)\})?[ \t]+(?P<value>\S+)(?:[ \t]+-?\d+)?")
_LABEL = re.compile(r'([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"')
_ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


@dataclass(frozen=True, slots=True)
class Sample:
    """One number of the page."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Warmed:
    """A version's warm-up, as its server counts it. path: of the version, on the server. seconds: of all its runs.

    status: `OK`, or the code with which it failed. records: those that were read.
    """

    path: str
    status: str
    records: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RequestCounts:
    """Requests to one model since the server started, by status. They carry no version: with traffic on two, they are
    of both."""

    by_status: Mapping[str, int]

    @property
    def all(self) -> int:
        return sum(self.by_status.values())

    @property
    def failed(self) -> int:
        """Those that failed for the server's or the model's reasons."""
        return sum(n for status, n in self.by_status.items() if status.upper() not in _CALLERS)

    def since(self, before: RequestCounts) -> RequestCounts:
        """What came since `before`; all of it if the server was started again."""
        if self.all < before.all:
            return self
        return RequestCounts({s: n - before.by_status.get(s, 0) for s, n in self.by_status.items()})


def read(rest: RestClient, path: str = PATH, timeout: float | None = None, *, names: tuple[str, ...] = ()
         ) -> tuple[Sample, ...] | None:
    """What is on the server's page; None if monitoring is off (the path is unknown then).

    names: only the samples of these; all without.
    Raises Unreachable, TimedOut, and BadReply for a page in another format.
    """
    reply = rest.request("GET", path, timeout=timeout)
    return tuple(parse(reply.body, names)) if reply.status == 200 else None


def warm_ups(samples: tuple[Sample, ...]) -> tuple[Warmed, ...]:
    """What was warmed up. A version without a file of requests isn't listed."""
    times = {(s.labels.get("model_path"), s.labels.get("status")): s.value
             for s in samples if s.name == f"{LATENCY}_sum"}
    return tuple(Warmed(path, status, int(sample.value), times.get((path, status), 0.0) / 1e6)
                 for sample in samples if sample.name == RECORDS
                 for path, status in [(sample.labels.get("model_path", ""), sample.labels.get("status", ""))])


def request_counts(rest: RestClient | None, model: str, path: str = PATH, timeout: float = 5.0
                   ) -> RequestCounts | None:
    """None if the server doesn't tell: no REST, monitoring off. Raises Unreachable, TimedOut."""
    if rest is None:
        return None
    try:
        samples = read(rest, path, timeout, names=(REQUESTS,))
    except (BadReply, Rejected):
        return None
    if samples is None:
        return None
    counts: dict[str, int] = {}
    for sample in samples:
        if sample.name == REQUESTS and sample.labels.get("model_name") == model:
            status = sample.labels.get("status", "")
            counts[status] = counts.get(status, 0) + int(sample.value)
    return RequestCounts(counts)


def parse(page: bytes, names: tuple[str, ...] = ()) -> Iterator[Sample]:
    """The samples of a page in Prometheus' text format. Raises BadReply for anything else. names: as in `read`; other
    lines aren't looked at, since a page has thousands of them."""
    for line in page.decode(errors="replace").splitlines():
        if not line.strip() or line.startswith("#") or (names and not line.lstrip().startswith(names)):
            continue
        match = _SAMPLE.fullmatch(line.strip())
        try:
            if match is None:
                raise ValueError(line)
            value = float(match["value"])
        except ValueError:
            raise BadReply(f"the server's metrics have a line that is no sample: {line[:200]!r}",
                           hint="is something else behind this address?", id="not-tensorflow-serving") from None
        if not names or match["name"] in names:
            yield Sample(match["name"], dict(_labels(match["labels"] or "")), value)


def _labels(text: str) -> Iterator[tuple[str, str]]:
    for name, value in _LABEL.findall(text):
        yield name, re.sub(r'\\[n"\\]', lambda escape: _ESCAPES[escape[0]], value)

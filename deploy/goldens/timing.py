"""How long requests take: the one way in which latency is measured and summed up here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deploy.waiting import Clock


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds of each of some requests, in the order in which they were asked."""

    seconds: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def median(self) -> float:
        """Seconds; 0 without a request."""
        return self.percentile(50)

    def percentile(self, percent: float) -> float:
        """Seconds, between two requests in proportion; 0 without a request."""
        return self.percentiles((percent,))[0]

    def percentiles(self, percents: Sequence[float]) -> list[float]:
        """Several at once, which takes as long as one."""
        ordered = sorted(self.seconds) or [0.0]
        return [_between(ordered, (len(ordered) - 1) * percent / 100) for percent in percents]


def _between(ordered: Sequence[float], at: float) -> float:
    """The value at a place between two of them."""
    low = ordered[int(at)]
    return low + (ordered[min(int(at) + 1, len(ordered) - 1)] - low) * (at - int(at))


def timed(call: Callable[[], object], repeats: int, clock: Clock = time) -> Timings:
    """Call it so many times, one after the other. Raises what it raises."""
    seconds = []
    for _ in range(repeats):
        began = clock.monotonic()
        call()
        seconds.append(clock.monotonic() - began)
    return Timings(tuple(seconds))

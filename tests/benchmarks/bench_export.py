"""The whole of `tfs export` beside Keras's `model.export()` and one load.

    python -m tests.benchmarks.bench_export [SCALE]

Ours also checks what was saved, has it answer example calls in a fresh process, records these, and publishes durably.
Both sides are whole programs, run in turn. Memory is what all processes of a side have at once, at most: their
proportional set sizes, in which what processes share counts once; pages of the files that were written don't count.
"""

from __future__ import annotations

import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.benchmarks.exported import SCALE

ROOT = Path(__file__).parents[2]
ROUNDS = 3
_EVERY = 0.02  # seconds between two looks at the memory


@dataclass(frozen=True)
class Cost:
    """seconds: from the program's start to its end. processor: seconds of it and its processes. peak: MB."""

    seconds: float
    processor: float
    peak: float
    printed: str


def run(scale: float = 1.0) -> list[dict[str, object]]:
    """Medians; ratio = theirs / ours, above 1 where ours is faster or smaller."""
    rows = []
    for model, what in (("mobilenet", "MobileNetV3Small"), ("dense", f"{1.07 * scale:.2g} GB of Dense layers")):
        command, ours, theirs = _measure(model, scale)
        rows += [
            _row(f"export_model(), {what}", _median(float(cost.printed) for cost in ours),
                 _median(float(cost.printed) for cost in theirs), "goal: at least 0.67"),
            _row(f"tfs export, {what}, imports included", _median(cost.seconds for cost in command),
                 _median(cost.seconds for cost in theirs), "whole programs"),
            _row(f"processor time of it, {what}", _median(cost.processor for cost in command),
                 _median(cost.processor for cost in theirs), "whole programs, with the processes that they start"),
            _peak(what, _median(cost.peak for cost in command), _median(cost.peak for cost in theirs))]
    return rows


def _row(name: str, ours: float, theirs: float, note: str) -> dict[str, object]:
    return {"name": name, "ours_s": ours, "theirs_s": theirs, "ratio": theirs / ours,
            "note": f"theirs is model.export() and one load; {note}"}


def _peak(what: str, ours: float, theirs: float) -> dict[str, object]:
    return {**_row(f"peak memory of it, {what}", ours, theirs, "goal: at most one copy of the variables more"),
            "ours": f"{ours:,.0f} MB", "theirs": f"{theirs:,.0f} MB"}


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def _measure(model: str, scale: float) -> tuple[list[Cost], list[Cost], list[Cost]]:
    command = ("deploy", "export", f"tests.benchmarks.exported:{model}", "--name", model, "--json", "--repository")
    programs = [lambda place: (*command, place), *(partial(_program, model, side) for side in ("ours", "theirs"))]
    costs: tuple[list[Cost], list[Cost], list[Cost]] = ([], [], [])
    for _ in range(ROUNDS):
        for program, measured in zip(programs, costs, strict=True):
            with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR"), prefix="bench-export-") as place:
                measured.append(_cost(scale, *program(place)))
    return costs


def _program(model: str, side: str, place: str) -> tuple[str, ...]:
    return "tests.benchmarks.exported", model, place, side


def _cost(scale: float, *argv: str) -> Cost:
    os.sync()  # what the one before has left to write is not this one's
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen([sys.executable, "-m", *argv], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.DEVNULL, env={**os.environ, SCALE: str(scale), "TF_CPP_MIN_LOG_LEVEL": "3"}
                          ) as process, _watched(process.pid) as peak:
        printed, _ = process.communicate()
        seconds = time.monotonic() - started
    assert process.returncode == 0, f"{argv} ended with {process.returncode}"
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, peak[0], printed)


@contextlib.contextmanager
def _watched(pid: int) -> Iterator[list[float]]:
    """The most memory, in MB, that the process and all below it had at once."""
    peak, over = [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(_EVERY):
            peak[0] = max(peak[0], sum(map(_memory, _tree(pid))) / 1000)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in tasks.read_text().split():
                yield from _tree(int(child))


def _memory(pid: int) -> int:
    """In kB; 0 for a process that has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


if __name__ == "__main__":
    for row in run(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0):
        print(f"{row['name']}: {row['ours_s']:.3f}, {row['theirs_s']:.3f}, {row['ratio']:.2f}x ({row['note']})")

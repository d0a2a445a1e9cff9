"""Publishing a copy against `cp -r`: python -m tests.benchmarks.bench_repository [SCALE]; scale 1.0 is 1 GB.

Ours copies, takes digests and waits until all of it is on disk; `cp` does the first of these only, so each row says
what both sides do. All variants run in turn, several times, in one directory ($BENCH_DIR, or the temporary one),
and start with nothing left to write.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from deploy.repository import Repository
from tests.support.repository import savedmodel

ROUNDS = 5
GIGABYTE = 1_000_000_000

ROWS = [  # ours, theirs, what is compared
    ("publish", "cp -r + sha256sum", "ours is on disk, theirs isn't yet"),
    ("publish", "cp -r + sync", "both on disk; theirs has no digests"),
    ("publish without fsync", "cp -r", "neither on disk; theirs has no digests"),
    ("publish", "cp -r", "ours is on disk, theirs isn't yet and has no digests; goal: at least 0.83"),
]


def run(scale: float = 1.0) -> list[dict[str, object]]:
    """Medians in seconds for `scale` GB; ratio = theirs / ours, above 1 where ours is faster."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR"), prefix="bench-repository-") as scratch:
        seconds = _measure(Path(scratch), int(scale * GIGABYTE))
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return [{"name": f"{ours} {scale:g} GB against {theirs}", "ours_s": medians[ours], "theirs_s": medians[theirs],
             "ratio": medians[theirs] / medians[ours], "note": note} for ours, theirs, note in ROWS]


def _measure(scratch: Path, size: int) -> dict[str, list[float]]:
    source, repo, copy = scratch / "source", Repository(scratch / "repo"), scratch / "copy"
    _fill(savedmodel(source) / "assets" / "weights.bin", size)
    variants = {"publish": lambda: _publish(repo, source), "publish without fsync": lambda: _unsynced(repo, source),
                "cp -r + sha256sum": lambda: _cp(source, copy, "sha256sum", str(copy / "assets" / "weights.bin")),
                "cp -r + sync": lambda: _cp(source, copy, "sync", "-f", str(copy)),
                "cp -r": lambda: _cp(source, copy)}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(ROUNDS + 1):
        for name, variant in variants.items():
            taken = _timed(variant)
            if number:  # the first round is a warm-up
                seconds[name].append(taken)
            for left in (copy, repo.root):
                shutil.rmtree(left, ignore_errors=True)
    return seconds


def _publish(repo: Repository, source: Path) -> None:
    repo.publish(source, "m", 1)


def _unsynced(repo: Repository, source: Path) -> None:
    with mock.patch.object(os, "fsync"), mock.patch.object(os, "posix_fadvise", create=True):
        repo.publish(source, "m", 1)


def _cp(source: Path, copy: Path, *then: str) -> None:
    subprocess.run(["cp", "-r", str(source), str(copy)], check=True)
    if then:
        subprocess.run(then, check=True, stdout=subprocess.DEVNULL)


def _timed(work: Callable[[], object]) -> float:
    os.sync()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _fill(path: Path, size: int) -> None:
    with path.open("wb") as file:
        while size > 0:
            size -= file.write(os.urandom(min(size, 1 << 24)))


if __name__ == "__main__":
    for row in run(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0):
        print(f"{row['name']}: {row['ours_s']:.3f} s, {row['theirs_s']:.3f} s, {row['ratio']:.2f}x ({row['note']})")

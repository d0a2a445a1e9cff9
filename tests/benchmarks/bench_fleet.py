"""Many servers of one spec: how long status takes, and how that grows. The servers are echo servers in one process of
their own, on the same machine, so a part of the time is theirs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from deploy import serving
from deploy.fleet import everywhere
from deploy.spec import load_spec
from tests.support.echo_fleet import echo_fleet

COUNTS = (10, 50, 100, 200)


def measured(*argv: str) -> tuple[float, float, int]:
    """Seconds, seconds of a processor, and the peak of memory in MB, of one run of `tfs`."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "deploy", *argv], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"tfs {' '.join(argv)} ended with exit code {process.returncode}")
    return time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss // 1024


def run(scale: float = 1.0) -> list[dict[str, object]]:
    return [row for count in COUNTS for row in _status(max(2, round(count * scale)), max(1, round(3 * scale)))]


def _status(count: int, rounds: int) -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory() as directory, echo_fleet(Path(directory), count) as spec:
        took, processor, memory = min(measured("status", "--spec", str(spec)) for _ in range(rounds))
        servers = load_spec(spec).servers
        began = time.perf_counter()
        everywhere(servers, lambda one, _: serving.status(one), at_once=1)
        alone = time.perf_counter() - began
    return [{"name": f"tfs status, {count} servers", "ours_s": took, "theirs_s": alone, "ratio": alone / took,
             "note": f"{processor:.1f} s of a processor, {memory} MB at most, the start included; theirs: one "
                     "server after the other, in a process that has started"}]

"""Many servers of one spec: how long status and a release take, and how that grows. The servers are echo servers in one
process of their own, on the same machine, so a part of the time is theirs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from deploy import rollout, serving
from deploy.fleet import everywhere
from deploy.spec import load_spec
from tests.support.echo_fleet import echo_fleet
from tests.support.fleet_model import fleet_of, release

COUNTS = (25, 50, 100, 200)


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
    counts = [max(2, round(count * scale)) for count in COUNTS]
    rows = [_status(count, max(1, round(3 * scale))) for count in counts]
    return rows + [_release(count) for count in counts] + [_coordinated(count) for count in (*counts, 5 * counts[-1])]


def _status(count: int, rounds: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as directory, echo_fleet(Path(directory), count) as spec:
        took, processor, memory = min(measured("status", "--spec", str(spec)) for _ in range(rounds))
        servers = load_spec(spec).servers
        began = time.perf_counter()
        everywhere(servers, lambda one, _: serving.status(one), at_once=1)
        alone = time.perf_counter() - began
    return {"name": f"tfs status, {count} servers", "ours_s": took, "theirs_s": alone, "ratio": alone / took,
            "note": f"{processor:.1f} s of a processor, {memory} MB at most, the start included; theirs: one server "
                    "after the other, in a process that has started"}


def _release(count: int) -> dict[str, object]:
    """Bake times are 0. Latencies are compared, although clients and servers share a machine."""
    part = {"soak": 0.0, "hold": 0.0, "waves": [1, "25%", "100%"], "max_unavailable": "25%"}
    with tempfile.TemporaryDirectory() as directory, echo_fleet(Path(directory), count, rollout=part) as spec:
        measured("up", "--spec", str(spec))
        began = time.perf_counter()
        rollout.roll_out(load_spec(spec).servers[0], "m", 2)
        alone = (time.perf_counter() - began) * count
        measured("rollback", "m", "--server", "s000", "--spec", str(spec))
        took, processor, memory = measured("rollout", "m", "--to", "2", "--spec", str(spec))
    return {"name": f"tfs rollout, {count} servers", "ours_s": took, "theirs_s": alone, "ratio": alone / took,
            "note": f"bake times 0; {processor:.1f} s of a processor, {memory} MB at most, the start included; "
                    "theirs: a release of one server, so many times"}


def _coordinated(count: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as directory:
        took, ended = {}, {}
        for share in ("25%", 1):
            began = time.perf_counter()
            ended[share] = release(fleet_of(count), Path(directory) / str(share), share)
            took[share] = time.perf_counter() - began
    return {"name": f"rollout coordinated, {count} servers", "ours_s": took["25%"], "theirs_s": took[1],
            "ratio": took[1] / took["25%"],
            "note": f"servers that take no time; {ended['25%'].calls} calls, a ledger of "
                    f"{ended['25%'].ledger / 1e3:.0f} kB; theirs: one server changes at a time"}

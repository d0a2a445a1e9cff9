"""How long a person waits for the command line, and how much of a processor it takes."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from deploy import Repository
from tests.support.repository import savedmodel

SPEC = "name: s\nserver: {backend: embedded}\nmodels: [{name: m, versions: [1]}]\n"
VERBS = ("--help", "repository list", "inspect m", "check m", "configure", "status", "ready", "doctor", "history")


def clock(*argv: str) -> float:
    began = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def processor(place: Path, *argv: str) -> float:
    """Seconds of a processor, user and system, that a command takes."""
    before = os.times()
    subprocess.run(argv, cwd=place, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = os.times()
    return (after.children_user + after.children_system) - (before.children_user + before.children_system)


def run(scale: float = 1.0) -> list[dict[str, object]]:
    ours, theirs = [], []
    for _ in range(max(3, round(15 * scale))):
        ours.append(clock(sys.executable, "-m", "deploy", "--help"))
        theirs.append(clock(sys.executable, "-c", "pass"))
    mine, bare = statistics.median(ours), statistics.median(theirs)
    return [{"name": "tfs --help", "ours_s": mine, "theirs_s": bare, "ratio": bare / mine,
             "note": "theirs: Python itself, doing nothing; goal: under 250 ms"}, *_verbs(max(2, round(6 * scale)))]


def _verbs(rounds: int) -> list[dict[str, object]]:
    """Each verb on a small model, with no server running: mostly the start. Best of so many."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        Repository(place / "models").publish(savedmodel(place / "build"), "m")
        (place / "serving.yaml").write_text(SPEC)
        best = {verb: min(processor(place, sys.executable, "-m", "deploy", *verb.split()) for _ in range(rounds))
                for verb in VERBS}
    bare = min(processor(Path.cwd(), sys.executable, "-c", "pass") for _ in range(rounds))
    return [{"name": f"tfs {verb}, processor time", "ours_s": seconds, "theirs_s": bare, "ratio": bare / seconds,
             "note": "user and system; theirs: Python itself, doing nothing"} for verb, seconds in best.items()]

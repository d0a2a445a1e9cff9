"""`python -m tests.soak.rollouts`: steady load through a label while versions are rolled out and back under it.

    [--backend embedded|container] [--image NAME] [--count 20] [--rate 200] [--seconds 30] [--json FILE]

First a quiet run of --seconds, then the same load while --count rollouts and rollbacks run in another process.
Exits with 1 if a request failed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from deploy import rollout, serving
from deploy.repository import Repository
from deploy.spec import Spec, parse
from deploy.types import Endpoint
from tests.soak.load import Ask, Load
from tests.support.modelserver import ROOT

SPEC = """
models: [{name: labelled, versions: [1], labels: {stable: 1}}]
server: {grpc_port: 0, rest_port: 0, monitoring: {}}
rollout: {soak: 0, hold: 0, compare: false}  # the versions answer differently, so that each can be told
"""


class LabelLoad(Load):
    """Predict requests through the label, nothing else."""

    def rpc(self) -> Iterator[tuple[str, Ask]]:
        return ((kind, ask) for kind, ask in super().rpc() if kind == "grpc label")

    def http(self) -> Iterator[tuple[str, Ask]]:
        return ((kind, ask) for kind, ask in super().http() if kind == "rest label")


def ask(grpc_port: int, rest_port: int, rate: float) -> None:
    """The load's own process: until its standard input is closed; then what it saw, as JSON."""
    with LabelLoad(grpc_port, rest_port, rate) as tally:
        sys.stdin.read()
    print(json.dumps({"asked": dict(tally.asked), "failed": tally.failed, "seconds": tally.seconds}))


class Asking:
    """Starts that process, and collects what it saw."""

    def __init__(self, endpoint: Endpoint, rate: float) -> None:
        argv = [sys.executable, "-m", "tests.soak.rollouts", "--ask", str(endpoint.grpc_port), str(endpoint.rest_port),
                "--rate", str(rate)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def collect(self) -> dict[str, Any]:
        seen: dict[str, Any] = json.loads(self._process.communicate()[0])
        cuts = statistics.quantiles(seen.pop("seconds"), n=100)
        return {**seen, "p50_ms": round(cuts[49] * 1e3, 2), "p99_ms": round(cuts[98] * 1e3, 2)}


def measure(spec: Spec, args: argparse.Namespace) -> dict[str, Any]:
    running = serving.up(spec)
    try:
        quiet = Asking(running.endpoint, args.rate)
        time.sleep(args.seconds)
        alone = quiet.collect()
        busy, taken, began = Asking(running.endpoint, args.rate), [], time.monotonic()
        for number in range(args.count):
            time.sleep(max(0.0, began + number * args.seconds / args.count - time.monotonic()))
            started = time.monotonic()
            if number % 2:
                rollout.roll_back(spec, "labelled")
            else:
                rollout.roll_out(spec, "labelled", 2)
            taken.append(time.monotonic() - started)
        return {"backend": running.backend, "quiet": alone, "releases": args.count,
                "release_s": round(statistics.median(taken), 3), "busy": busy.collect()}
    finally:
        serving.down(spec)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.rollouts")
    parser.add_argument("--ask", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--backend", default="embedded", choices=["embedded", "container", "process"])
    parser.add_argument("--image")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--rate", type=float, default=200, help="requests per second, both protocols together")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.ask:
        ask(*args.ask, args.rate)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        where.chmod(0o755)  # a container's user looks in
        subprocess.run([sys.executable, str(ROOT / "tests" / "models.py"), str(where / "built")], check=True)
        for model in ("half_plus_three", "half_plus_two"):
            Repository(where / "models").publish(where / "built" / model, "labelled")
        spec = parse(SPEC, where / "serving.yaml")
        changes = {"backend": args.backend, **({"image": args.image} if args.image else {})}
        result = measure(msgspec.structs.replace(spec, server=msgspec.structs.replace(spec.server, **changes)), args)
    print(json.dumps(result, indent=2))
    if args.json:
        args.json.write_text(json.dumps(result))
    return 1 if result["busy"]["failed"] or result["quiet"]["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())

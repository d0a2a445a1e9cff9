"""`make soak`: minutes of mixed load with version swaps and config reloads in between.

    python -m tests.soak [--minutes 10] [--swaps 50] [--reloads 50] [--rate 300] [--megabytes 50] [--out .cache/soak]

Prints the numbers, writes them and memory over time (soak.svg, soak.json) to --out; exits with 1 if a request failed
or the server grew.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.soak.chart import svg
from tests.soak.running import build, soak
from tests.support.modelserver import ROOT


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description="Load, version swaps and config reloads")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--reloads", type=int, default=50)
    parser.add_argument("--rate", type=float, default=300, help="requests per second")
    parser.add_argument("--megabytes", type=int, default=50, help="size of the swapped model")
    parser.add_argument("--out", type=Path, default=ROOT / ".cache" / "soak")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    small = args.out / "small"
    if not small.exists():
        subprocess.run([sys.executable, str(ROOT / "tests" / "models.py"), str(small)], check=True)
    models = build(args.out / f"models-{args.megabytes}", args.megabytes)
    with tempfile.TemporaryDirectory(dir=args.out) as where:
        result = soak(Path(where), models, small, seconds=args.minutes * 60, swaps=args.swaps, reloads=args.reloads,
                      rate=args.rate)
        log = (Path(where) / "server.log").read_text()
    (args.out / "server.log").write_text(log)
    (args.out / "soak.svg").write_text(svg(result.memory, result.swaps, "RSS of the server under load, MiB"))
    (args.out / "soak.json").write_text(json.dumps({"memory": result.memory, "swaps": result.swaps,
                                                    "failed": result.tally.failed, "asked": result.tally.asked}))
    print(result)
    for problem in result.problems:
        print(f"PROBLEM {problem}")
    print(f"chart: {args.out / 'soak.svg'}")
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main())

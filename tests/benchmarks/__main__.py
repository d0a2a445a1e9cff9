"""`make bench`: ourselves beside the alternatives, in one run.

    python -m tests.benchmarks [NAMES ...] [--scale 1.0] [--json FILE] [--svg FILE]

Each bench_NAME.py has `run(scale) -> rows`; a row is a dict of
    name      what was done
    ours_s    median seconds, ours
    theirs_s  median seconds, the alternative's, measured in turns with ours
    ratio     theirs_s / ours_s
    note      what the alternative is, sizes, the goal
    ours, theirs   optional: what to show instead of the seconds
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from tests.benchmarks.chart import svg

HERE = Path(__file__).parent


def seconds(value: float) -> str:
    return f"{value * 1e6:.0f} us" if value < 1e-3 else f"{value * 1e3:.1f} ms" if value < 1 else f"{value:.2f} s"


def main() -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    known = sorted(p.stem.removeprefix("bench_") for p in HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("names", nargs="*", default=known, metavar="NAME", help=f"of {', '.join(known)}")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the data, 1.0 is the full measure")
    parser.add_argument("--json", type=Path, help="write the rows here, too")
    parser.add_argument("--svg", type=Path, help="draw the server's rows here")
    args = parser.parse_args()
    if unknown := set(args.names) - set(known):
        parser.error(f"no benchmark called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("what", "ours", "theirs", "ratio", "note"):
        table.add_column(column, justify="left" if column in ("what", "note") else "right", overflow="fold")
    rows = []
    for name in args.names:
        print(f"... {name}", file=sys.stderr)
        for row in importlib.import_module(f"tests.benchmarks.bench_{name}").run(args.scale):
            rows.append({"benchmark": name, **row})
            ours, theirs = (row.get(side, seconds(row[f"{side}_s"])) for side in ("ours", "theirs"))
            table.add_row(row["name"], ours, theirs, f"{row['ratio']:.{1 if row['ratio'] >= 10 else 2}f}x", row["note"])
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2))
    if args.svg:
        args.svg.write_text(svg(rows, "Requests per second on 2 cores, clients included (wrk, h2load)"))


if __name__ == "__main__":
    main()

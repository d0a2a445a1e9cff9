"""pictures.py FILE: draws the picture of docs/concepts.md. Those of real runs: `make pictures`."""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

WIDTH, HEIGHT = 1080, 500
ORANGE, BLUE, GREEN, GREY, INK = "#c65d00", "#2563c9", "#1b7a34", "#5f6b7a", "#1f2937"
VERSION = ("saved_model.pb", "contract: signatures", "goldens: requests", "with their answers")
ALT = ("a version is put together in a stage and shown by one rename; the server loads versions; labels point to them, "
       "and clients ask for a label; a rollout writes the ledger, whose known good state is what a restart serves")


def box(place: tuple[int, int, int, int], colour: str, title: str, *lines: str, dashed: bool = False) -> str:
    """A box at (x, y, width, height) with its title and what stands below it."""
    x, y, width, height = place
    dash = ' stroke-dasharray="6 4"' if dashed else ""
    rows = "".join(f'<text x="{x + 14}" y="{y + 46 + 19 * number}" font-size="13" fill="{INK}">{escape(line)}</text>'
                   for number, line in enumerate(lines))
    return (f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="9" fill="#f7f9fc" stroke="{colour}" '
            f'stroke-width="1.6"{dash}/><text x="{x + 14}" y="{y + 25}" font-size="15" font-weight="700" '
            f'fill="{colour}">{escape(title)}</text>{rows}')


def arrow(points: str, label: str, x: int, y: int, colour: str = GREY) -> str:
    return (f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8" marker-end="url(#a)"/>'
            f'<text x="{x}" y="{y}" font-size="12.5" fill="{GREY}">{escape(label)}</text>')


def frame(x: int, y: int, width: int, height: int, title: str) -> str:
    return (f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="12" fill="none" stroke="#8a94a6" '
            f'stroke-width="1.2"/><text x="{x + 14}" y="{y + 22}" font-size="13" font-weight="600" '
            f'fill="{GREY}">{escape(title)}</text>')


def concepts() -> str:
    parts = (
        frame(14, 14, 440, 330, "repository: versions at rest, they never change"),
        box((32, 52, 180, 84), ORANGE, "stage", ".stage-...", "servers don't see it", dashed=True),
        arrow("122,136 122,168 276,168 276,186", "gate, then one rename", 132, 160),
        box((32, 190, 190, 138), ORANGE, "version 1", *VERSION),
        box((238, 190, 190, 138), ORANGE, "version 2", *VERSION),
        frame(510, 14, 300, 330, "server: versions that are loaded"),
        box((530, 190, 124, 64), BLUE, "line/1", "AVAILABLE"),
        box((670, 190, 124, 64), BLUE, "line/2", "AVAILABLE"),
        arrow("454,222 526,222", "loads", 466, 214),
        box((530, 62, 124, 64), GREEN, "stable", "label"),
        box((670, 62, 124, 64), GREEN, "canary", "label, on trial"),
        arrow("592,126 592,186", "", 0, 0, GREEN),
        arrow("732,126 732,186", "", 0, 0, GREEN),
        arrow("648,126 700,186", "promote", 612, 150),
        box((886, 14, 172, 64), GREY, "clients", "ask for line@stable"),
        arrow("886,48 592,48 592,58", "", 0, 0),
        box((530, 270, 264, 60), BLUE, "smoke test, judge", "ask the goldens, compare answers"),
        box((32, 384, 396, 100), ORANGE, "ledger", "r1: load 2, canary, gate, compare, promote, unload 1",
            "r2: load 3, canary, gate, undone: answers differ", "one line a step, on disk before the next step"),
        box((530, 384, 264, 100), GREEN, "known good", "what the last finished", "release left: line/2, stable -> 2"),
        arrow("428,430 526,430", "leaves", 452, 422),
        arrow("794,430 940,430 940,300 814,300", "a restart serves this", 826, 450),
    )
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'font-family="ui-sans-serif, system-ui, sans-serif" aria-label="{ALT}"><defs><marker id="a" '
            'viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0 8 4 0 8z" fill="{GREY}"/></marker></defs><rect width="{WIDTH}" height="{HEIGHT}" rx="10" '
            f'fill="#ffffff"/>{"".join(parts)}</svg>').replace("><", ">\n<") + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(concepts(), encoding="utf-8")

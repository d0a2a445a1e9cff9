"""Requests per second of all servers as an SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

WIDTH, LEFT, BAR, GAP, TOP = 900, 220, 13, 12, 58
COLOURS = {"ours": "#06c", "TF Serving, C++ (recorded)": "#f90", "KServe": "#9ab", "Flask + TensorFlow": "#cba"}
_NAMES = {"Flask": "Flask + TensorFlow"}


def svg(rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """rows: those of bench_server that were measured under load, in their order."""
    groups = [(row["name"], rates(row)) for row in rows if "measured" in row]
    most = max(rate for _, found in groups for rate in found.values())
    parts, y = [_legend(title)], float(TOP)
    for name, found in groups:
        parts.append(f'<text x="{LEFT - 8}" y="{y + BAR * len(found) / 2 + 4:.1f}" text-anchor="end">{name}</text>')
        for server, rate in found.items():
            length = (WIDTH - LEFT - 60) * rate / most
            parts.append(f'<rect x="{LEFT}" y="{y:.1f}" width="{length:.1f}" height="{BAR - 1}" '
                         f'fill="{COLOURS[server]}"/>'
                         f'<text x="{LEFT + length + 5:.1f}" y="{y + BAR - 3:.1f}" font-size="10">{rate:.0f}</text>')
            y += BAR
        y += GAP
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:.0f}" font-family="sans-serif" '
            f'font-size="12"><rect width="{WIDTH}" height="{y:.0f}" fill="white"/>{"".join(parts)}</svg>\n')


def rates(row: Mapping[str, Any]) -> dict[str, float]:
    """Server -> requests per second, in the legend's order."""
    found = {_NAMES.get(name, name): result["rate"] for name, result in row["measured"].items()}
    found["TF Serving, C++ (recorded)"] = 1 / row["theirs_s"]
    return {server: found[server] for server in COLOURS if server in found}


def _legend(title: str) -> str:
    parts, x = [f'<text x="10" y="18" font-size="14">{title}</text>'], 10
    for server, colour in COLOURS.items():
        parts.append(f'<rect x="{x}" y="30" width="12" height="12" fill="{colour}"/>'
                     f'<text x="{x + 17}" y="40">{server}</text>')
        x += 40 + 7 * len(server)
    return "".join(parts)

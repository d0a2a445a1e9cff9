"""HTML pages that stand alone: no scripts, nothing loaded from elsewhere; with bars and curves drawn as SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%}th,td{padding:.3rem .6rem;text-align:right;border-bottom:1px solid #ddd}
th:first-child,td:first-child{text-align:left}.bad{color:#b00020}.good{color:#1b7a34}svg{width:100%;height:auto}"""
_COLORS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2")
_LEFT, _WIDTH, _BAR, _GAP = 200, 420, 18, 14


def page(title: str, parts: Iterable[str]) -> str:
    """The document. parts: HTML, in order."""
    head = (f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
            f"<style>{_STYLE}</style>")
    return "\n".join([head, f"<h1>{escape(title)}</h1>", *(part for part in parts if part), "</html>\n"])


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Cells are text, and are escaped."""

    def row(cells: Iterable[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{row(head, 'th')}{''.join(row(cells, 'td') for cells in rows)}</table>"


def section(title: str, *content: str) -> str:
    """A heading and what stands below it; nothing if that is empty."""
    return f"<h2>{escape(title)}</h2>{''.join(content)}" if any(content) else ""


def listed(items: Iterable[str], style: str = "") -> str:
    """Sentences as a list, escaped; nothing without any."""
    mark = f' class="{style}"' if style else ""
    lines = "".join(f"<li{mark}>{escape(item)}</li>" for item in items)
    return f"<ul>{lines}</ul>" if lines else ""


def verdict(good: bool, word: str, summary: str) -> str:
    """One paragraph in green or red."""
    return f'<p class="{"good" if good else "bad"}"><b>{escape(word)}</b>: {escape(summary)}</p>'


@dataclass(frozen=True, slots=True)
class BarGroup:
    """Bars that are compared with each other: a title, and (name, value, text behind the bar) for each."""

    title: str
    bars: Sequence[tuple[str, float, str]]


def bars(title: str, groups: Sequence[BarGroup], *, one_scale: bool = False) -> str:
    """The longest bar is the largest value: of its group or, on `one_scale`, of all groups."""
    parts, y = [_text(10, 24, title, "bold 15px")] if title else [], 48 if title else 14
    largest = {id(group): max((value for _, value, _ in group.bars), default=0.0) for group in groups}
    for group in groups:
        parts.append(_text(10, y + 12, group.title, "bold 12px"))
        y += _BAR + 4
        full = (max(largest.values()) if one_scale else largest[id(group)]) or 1.0
        for index, (name, value, label) in enumerate(group.bars):
            length = max(1.0, _WIDTH * value / full)
            color = _COLORS[index % len(_COLORS)]
            parts += [_text(_LEFT - 8, y + 13, name, "12px", "end"),
                      f'<rect x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR}" fill="{color}"/>',
                      _text(_LEFT + length + 6, y + 13, label, "12px")]
            y += _BAR + 4
        y += _GAP
    return _drawing(_LEFT + _WIDTH + 140, y, parts)


def percentiles(lines: Sequence[tuple[str, Sequence[float]]], unit: Callable[[float], str]) -> str:
    """A curve for each (name, values from p0 to p99); empty if all of it is 0."""
    top = max((values[99] for _, values in lines), default=0.0)
    if not top:
        return ""
    parts = ['<path d="M60 10V210H760" stroke="#999" fill="none"/>', _text(54, 24, unit(top), "12px", "end"),
             _text(54, 212, "0", "12px", "end"),
             *(_text(60 + 7 * p, 228, f"p{p}", "12px", "middle") for p in (0, 25, 50, 75, 90, 99))]
    for index, (name, values) in enumerate(lines):
        points = " ".join(f"{60 + 7 * p},{210 - 190 * value / top:.1f}" for p, value in enumerate(values))
        color = _COLORS[index % len(_COLORS)]
        parts += [f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>',
                  _text(80, 30 + 18 * index, name, "12px", color=color)]
    return _drawing(800, 240, parts)


def svg_file(drawing: str) -> str:
    """A drawing as a file of its own."""
    return drawing.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"


def _drawing(width: int, height: int, parts: Sequence[str]) -> str:
    return (f'<svg role="img" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            f'font-family="sans-serif"><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>')


def _text(x: float, y: float, text: str, font: str, anchor: str = "start", *, color: str = "") -> str:
    weight, _, size = font.rpartition(" ")
    bold = f' font-weight="{weight}"' if weight else ""
    fill = f' fill="{color}"' if color else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}"{bold}{fill} text-anchor="{anchor}">{escape(text)}</text>'

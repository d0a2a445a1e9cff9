"""An HTML page that stands alone: no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%}th,td{padding:.3rem .6rem;text-align:right;border-bottom:1px solid #ddd}
th:first-child,td:first-child{text-align:left}.bad{color:#b00020}.good{color:#1b7a34}svg{width:100%;height:auto}"""


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

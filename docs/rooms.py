"""Prints docs/rooms.svg: the rooms of deploy/, floor by floor, from import-linter's layers in pyproject.toml."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

WORDS = {
    "cli": "tfs: verbs, tables", "ui": "tfs ui: the page", "fleet": "many servers, in waves",
    "rollout": "change what is served", "testing": "pytest plugin", "report": "JUnit, SARIF, HTML, SVG",
    "serving": "up, status, doctor", "smoke": "verify what is served", "regression": "goldens asked again",
    "export": "[TensorFlow] models in", "inspection": "a version, as a value", "signing": "signatures, receipts",
    "backends": "where servers run", "modelserver": "the embedded server", "client": "any TF Serving",
    "state": "ledger, releases", "checks": "the gate", "repository": "versions at rest",
    "goldens": "requests and answers", "engine": "TensorFlow's C API", "render": "config files, manifests",
    "net": "HTTP, SSH", "savedmodel": "a model as data", "readiness": "one pure rule", "wire": "the serving protocol",
    "spec": "serving.yaml as values", "locks": "who works here", "leases": "locks seen elsewhere",
    "waiting": "deadlines", "types": "small values",
    "naming": "allowed names", "addresses": "s3://, oci://, ...", "files": "read without trust",
    "extras": "pip extras", "version": "one number", "lazy": "names on first use", "errors": "one tree"}
COLOURS = (("signing", "#0f9d58"), ("readiness", "#4285f4"), ("errors", "#5f6b7a"))  # up to this room; cli and ui aside
WIDTH, STEP, BOX, GAP = 1190, 72, 150, 16


def floors(pyproject: Path) -> list[list[str]]:
    layers = re.search(r"^layers = \[(.*?)^\]", pyproject.read_text(), re.MULTILINE | re.DOTALL)
    assert layers is not None, "no layers"
    return [re.split(r" [|:] ", text) for text in re.findall(r'"([^"]+)"', layers[1])]


def drawn(rooms: list[list[str]]) -> Iterator[str]:
    height = STEP * len(rooms) + 14
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="ui-sans-serif, '
           'system-ui, sans-serif" role="img" aria-label="the rooms of deploy/, floor by floor: each imports only from '
           'floors below it">')
    yield ('<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
           '<path d="M0 0 8 4 0 8z" fill="#8a94a6"/></marker></defs>')
    yield f'<rect width="{WIDTH}" height="{height}" rx="10" fill="#ffffff"/>'
    last = {room: number for number, floor in enumerate(rooms) for room in floor}
    for number, floor in enumerate(rooms):
        y, wide = STEP * number + 20, len(floor) * (BOX + GAP) - GAP
        colour = "#ff8f00" if number < 2 else next(c for room, c in COLOURS if number <= last[room])
        if number:
            yield (f'<line x1="{WIDTH / 2:g}" y1="{y - 18}" x2="{WIDTH / 2:g}" y2="{y - 8}" stroke="#8a94a6" '
                   'stroke-width="1.8" marker-end="url(#a)"/>')
        yield (f'<rect x="{(WIDTH - wide) / 2 - 10:g}" y="{y - 6}" width="{wide + 20}" height="58" rx="12" '
               'fill="#f7f9fc" stroke="none"/>')
        for place, room in enumerate(floor):
            x = (WIDTH - wide) / 2 + place * (BOX + GAP)
            middle = f'x="{x + BOX / 2:g}" text-anchor="middle"'
            yield (f'<rect x="{x:g}" y="{y}" width="{BOX}" height="46" rx="8" fill="#ffffff" stroke="{colour}" '
                   'stroke-width="1.5"/>')
            yield f'<text {middle} y="{y + 19}" font-size="14" font-weight="700" fill="{colour}">{room}</text>'
            yield f'<text {middle} y="{y + 36}" font-size="11" fill="#5f6b7a">{escape(WORDS[room])}</text>'
    yield "</svg>"


if __name__ == "__main__":
    print("\n".join(drawn(floors(Path(__file__).parents[1] / "pyproject.toml"))))

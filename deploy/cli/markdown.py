"""A version described in Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deploy.cli.escaping import line

if TYPE_CHECKING:
    from deploy.cli.inspecting import Inspection
    from deploy.types import Signature


_MEANS = re.compile(r"[`|\[\]]")


def write(found: Inspection) -> str:
    """Facts, signatures, and the calls of each."""
    return "\n".join(_lines(found))


def _lines(found: Inspection) -> Iterator[str]:
    from deploy.cli.inspection import facts

    yield f"# {_cell(str(found.mv or found.path.name))}"
    yield ""
    yield "| | |"
    yield "|---|---|"
    for name, value in facts(found).items():
        yield f"| {name} | {_cell(value)} |"
    for signature in found.contract.values():
        yield from ("", f"## {_cell(signature.name)}", "", f"Method: {_code(signature.method_name or 'none')}", "")
        yield from _tensors(signature)
        calls = found.calls[signature.name]
        if calls.curl:
            yield from ("", "```sh", calls.curl, "```")
        elif calls.why:
            yield from ("", f"Not over REST: {_cell(calls.why)}.")
        if calls.python:
            yield from ("", "```python", calls.python, "```")
        if signature.name in found.devices:
            yield from ("", "On a device:", "", "```python", found.devices[signature.name], "```")
    if found.manifest and found.manifest.tolerances:
        yield from ("", "## Tolerances of the golden answers", "", "| output | absolute | relative |", "|---|---|---|")
        for name, values in found.manifest.tolerances.items():
            yield f"| {_cell(name)} | {values.get('absolute', 0):g} | {values.get('relative', 0):g} |"
    if found.manifest:
        yield from ("", "## Files", "", f"| file | bytes | {_cell(found.manifest.algorithm)} |", "|---|---|---|")
        for name, record in sorted(found.manifest.files.items()):
            yield f"| {_cell(name)} | {record.size:,} | {_code(record.digest)} |"


def _tensors(signature: Signature) -> Iterator[str]:
    yield "| | name | dtype | shape |"
    yield "|---|---|---|---|"
    for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            shape = "any" if spec.shape is None else f"[{', '.join('?' if s is None else str(s) for s in spec.shape)}]"
            yield f"| {kind} | {_cell(spec.name)} | {spec.dtype} | {shape} |"


def _cell(text: str) -> str:
    """Text of others, as nothing but text: no table, link, code or HTML of theirs."""
    return _MEANS.sub(r"\\\g<0>", html.escape(line(text.replace("\n", " ")), quote=False))


def _code(text: str) -> str:
    return f"`{line(text).replace('`', chr(39)).replace('|', '/')}`"

"""tfs inspect: what a version holds, and how to ask it; for a terminal and in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.escaping import line
from deploy.cli.options import command, console, repository_option, table, tell
from deploy.cli.signing import receipts_table, signing_json
from deploy.cli.targets import place, where

if TYPE_CHECKING:
    from deploy.client.snippets import CallSnippets
    from deploy.goldens.warmup import Checked
    from deploy.inspection import Inspection
    from deploy.types import ModelVersion, Signature

_EXAMPLE = """tfs inspect digits/3
tfs inspect digits/3 --calls --grpc 10.0.0.5:8500 --rest-url http://10.0.0.5:8501
tfs inspect build/saved_model --markdown > model.md
tfs inspect model.tflite"""
_OPS_SHOWN = 8
_MARKUP = re.compile(r"[`|\[\]]")


def register(app: click.Group) -> None:
    @command(app, "inspect", example=_EXAMPLE)
    @click.argument("what")
    @repository_option
    @click.option("--calls", "with_calls", is_flag=True, help="Show a curl and a Python call for each signature.")
    @click.option("--markdown", is_flag=True, help="Print Markdown, calls included, for a README or a pull request.")
    @click.option("--rest-url", metavar="URL", default="http://127.0.0.1:8501", show_default=True,
                  help="The server that the calls are for.")
    @click.option("--grpc", "grpc_target", metavar="HOST:PORT", default="127.0.0.1:8500", show_default=True,
                  help="Its gRPC address.")
    @click.option("--as", "ref", metavar="MODEL[/VERSION|@LABEL]",
                  help="What the calls ask for.  [default: WHAT, or the directory's name]")
    def inspect(what: str, repository: Path | str, with_calls: bool, markdown: bool, rest_url: str, grpc_target: str,
                ref: str | None, as_json: bool) -> None:
        """Show what a version holds: signatures, ops, variables, goldens.

        Also assets, digests, a TFLite model, and calls to paste. WHAT is MODEL (its newest version), MODEL/VERSION, the
        path of a SavedModel directory, or a TFLite file.
        """
        from deploy import client
        from deploy.inspection import inspect as inspect_version

        path, mv = place(repository, what)
        server = client.snippets.ServerAddress(grpc_target, rest_url.rstrip("/")) if with_calls or markdown else None
        inspection = inspect_version(path, mv, server=server, ref=ref)
        if markdown and not as_json:
            click.echo(to_markdown(inspection))
            return
        beside = signing_json(repository, mv) if mv else {}
        address = where(repository, path, mv)
        tell({**inspection.to_json(), "path": address, **beside}, as_json, lambda: _shown(inspection, address))
        for text in () if as_json else _call_lines(inspection):
            click.echo(text)
        if mv and not as_json:
            _tell_beside(repository, mv)


def _tell_beside(repository: Path | str, mv: ModelVersion) -> None:
    """Who has signed it, and what was done to it; nothing of a version without either."""
    from deploy import signing
    from deploy.repository import Repository

    repo = Repository(repository)
    hints = [bundle.key_hint[:16] or "a certificate" for bundle in signing.signatures_of(repo, mv)]
    if hints:
        click.echo(f"signed by {', '.join(hints)} (nobody looked whether they are trusted: tfs verify)")
    if receipts := signing.receipts_of(repo, mv):
        console().print(receipts_table(receipts))


def _facts(inspection: Inspection) -> dict[str, str]:
    """The lines above the signatures."""
    rows = {"path": str(inspection.path)}
    info, manifest = inspection.info, inspection.manifest
    if info:
        rows["producer"] = f"TensorFlow {info.producer.tensorflow}, graph version {info.producer.graph}"
        rows["tags"] = ", ".join(info.tags)
        rows["size"] = f"{info.size:,} bytes"
        rows["variables"] = (f"{inspection.variables.count}, {inspection.variables.parameters:,} numbers in all, "
                             f"{inspection.variables.bytes:,} bytes")
        rows["assets"] = ", ".join(info.assets) or "none"
        names = sorted(info.ops)
        rows["ops"] = f"{len(names)}: {', '.join(names[:_OPS_SHOWN])}{', ...' if len(names) > _OPS_SHOWN else ''}"
    if inspection.tflite:
        rows["TFLite"] = (f"{inspection.tflite.size:,} bytes, {inspection.tflite.operations} operations: "
                          f"{', '.join(map(str, inspection.tflite.operators)) or 'none'}")
        if inspection.tflite.associated:
            rows["with files"] = ", ".join(inspection.tflite.associated)
    if inspection.path.is_dir():
        rows["goldens"] = _goldens(inspection.warmup)
    if manifest:
        rows["published"] = f"{manifest.created}, {len(manifest.files)} files"
        rows["digest"] = manifest.digest
        rows |= {"recipes": "; ".join(map(str, manifest.recipes))} if manifest.recipes else {}
        edited = manifest.producer.get("edited_from")
        rows |= {"edited from": edited} if edited else {}
    return rows


def _goldens(warmup: Checked | None) -> str:
    if warmup is None:
        return "none"
    wrong = "" if warmup.ok else f"; a server refuses them: {next(p for p in warmup.problems if p.fatal)}"
    return f"{warmup.goldens} of {warmup.records} warm-up requests have their answer{wrong}"


def _shown(inspection: Inspection, address: str) -> object:
    from rich.console import Group
    from rich.text import Text

    from deploy.cli.tables import signatures_table

    shown = table("", "", "")
    shown.show_header = False
    for name, value in {**_facts(inspection), "path": address}.items():
        shown.add_row(name, Text(line(value)))
    return Group(shown, "", signatures_table(inspection.contract))


def _rest_lines(calls: CallSnippets) -> Iterator[str]:
    """A long body goes to a file beside, which nothing else is overwritten for."""
    from deploy.client import snippets

    file = None if calls.long is None else _written(calls.long[0])
    if calls.long is None or file is None:
        yield calls.curl or f"# not over REST: {line(calls.why)}"
    else:
        body, url = calls.long
        yield f"# the body, {len(body):,} bytes, was written to {file} in this directory"
        yield snippets.curl_of_file(url, file)


def _written(body: bytes) -> Path | None:
    """The file with this body in the working directory: request.json, request-2.json, ...; None if it can't be written.
    """
    for number in range(1, 100):
        file = Path("request.json" if number == 1 else f"request-{number}.json")
        try:
            with file.open("xb") as opened:
                opened.write(body)
            return file
        except FileExistsError:
            if file.is_file() and file.stat().st_size == len(body) and file.read_bytes() == body:
                return file
        except OSError:
            return None
    return None


def _call_lines(inspection: Inspection) -> Iterator[str]:
    """Whole lines, however long: they are there to be pasted."""
    for name, calls in inspection.calls.items():
        yield f"\n# {line(name)}"
        yield from _rest_lines(calls)
        if calls.python:
            yield f"\n{calls.python}"
        if name in inspection.devices:
            yield f"\n{inspection.devices[name]}"


def to_markdown(inspection: Inspection) -> str:
    """Facts, signatures, and the calls of each."""
    return "\n".join(_markdown(inspection))


def _markdown(inspection: Inspection) -> Iterator[str]:
    yield f"# {_cell(str(inspection.mv or inspection.path.name))}"
    yield ""
    yield "| | |"
    yield "|---|---|"
    for name, value in _facts(inspection).items():
        yield f"| {name} | {_cell(value)} |"
    for signature in inspection.contract.values():
        yield from ("", f"## {_cell(signature.name)}", "", f"Method: {_code(signature.method_name or 'none')}", "")
        yield from _tensors(signature)
        calls = inspection.calls[signature.name]
        if calls.curl:
            yield from ("", "```sh", calls.curl, "```")
        elif calls.why:
            yield from ("", f"Not over REST: {_cell(calls.why)}.")
        if calls.python:
            yield from ("", "```python", calls.python, "```")
        if signature.name in inspection.devices:
            yield from ("", "On a device:", "", "```python", inspection.devices[signature.name], "```")
    if inspection.manifest and inspection.manifest.tolerances:
        yield from ("", "## Tolerances of the golden answers", "", "| output | absolute | relative |", "|---|---|---|")
        for name, values in inspection.manifest.tolerances.items():
            yield f"| {_cell(name)} | {values.get('absolute', 0):g} | {values.get('relative', 0):g} |"
    if inspection.manifest:
        yield from ("", "## Files", "", f"| file | bytes | {_cell(inspection.manifest.algorithm)} |", "|---|---|---|")
        for name, record in sorted(inspection.manifest.files.items()):
            yield f"| {_cell(name)} | {record.size:,} | {_code(record.digest)} |"


def _tensors(signature: Signature) -> Iterator[str]:
    yield "| | name | dtype | shape |"
    yield "|---|---|---|---|"
    for side, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            shape = "any" if spec.shape is None else f"[{', '.join('?' if s is None else str(s) for s in spec.shape)}]"
            yield f"| {side} | {_cell(spec.name)} | {spec.dtype} | {shape} |"


def _cell(text: str) -> str:
    """Text of others, as nothing but text: no table, link, code or HTML of theirs."""
    from html import escape

    return _MARKUP.sub(r"\\\g<0>", escape(line(text.replace("\n", " ")), quote=False))


def _code(text: str) -> str:
    return f"`{line(text).replace('`', chr(39)).replace('|', '/')}`"

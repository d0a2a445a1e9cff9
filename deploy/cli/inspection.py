"""tfs inspect: what a version holds, and how to ask it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.escaping import line
from deploy.cli.inspecting import Inspection, inspected
from deploy.cli.options import command, repository_option, table, tell
from deploy.cli.targets import place

if TYPE_CHECKING:
    from deploy.client.snippets import Calls
    from deploy.goldens.warmup import Checked

_EXAMPLE = """tfs inspect digits/3
tfs inspect digits/3 --calls --grpc 10.0.0.5:8500 --rest-url http://10.0.0.5:8501
tfs inspect build/saved_model --markdown > model.md
tfs inspect model.tflite"""
_OPS_SHOWN = 8


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
    def inspect(what: str, repository: Path, with_calls: bool, markdown: bool, rest_url: str, grpc_target: str,
                ref: str | None, as_json: bool) -> None:
        """Show what a version holds: signatures, ops, variables, goldens.

        Also assets, digests, a TFLite model, and calls to paste. WHAT is MODEL (its newest version), MODEL/VERSION, the
        path of a SavedModel directory, or a TFLite file.
        """
        path, mv = place(repository, what)
        addresses = (grpc_target, rest_url.rstrip("/")) if with_calls or markdown else None
        found = inspected(path, mv, addresses, ref)
        if markdown and not as_json:
            from deploy.cli.markdown import write

            click.echo(write(found))
            return
        tell(found.to_json(), as_json, lambda: _shown(found))
        for text in () if as_json else _call_lines(found):
            click.echo(text)


def facts(found: Inspection) -> dict[str, str]:
    """The lines above the signatures."""
    rows = {"path": str(found.path)}
    info, manifest = found.info, found.manifest
    if info:
        rows["producer"] = f"TensorFlow {info.producer.tensorflow}, graph version {info.producer.graph}"
        rows["tags"] = ", ".join(info.tags)
        rows["size"] = f"{info.size:,} bytes"
        rows["variables"] = (f"{found.variables['count']}, {found.variables['parameters']:,} numbers in all, "
                             f"{found.variables['bytes']:,} bytes")
        rows["assets"] = ", ".join(info.assets) or "none"
        names = sorted(info.ops)
        rows["ops"] = f"{len(names)}: {', '.join(names[:_OPS_SHOWN])}{', ...' if len(names) > _OPS_SHOWN else ''}"
    if found.tflite:
        rows["TFLite"] = (f"{found.tflite.size:,} bytes, {found.tflite.operations} operations: "
                          f"{', '.join(map(str, found.tflite.operators)) or 'none'}")
    if found.path.is_dir():
        rows["goldens"] = _goldens(found.warmup)
    if manifest:
        rows["published"] = f"{manifest.created}, {len(manifest.files)} files"
        rows["digest"] = manifest.digest
        edited = manifest.producer.get("edited_from")
        rows |= {"edited from": edited} if edited else {}
    return rows


def _goldens(warmup: Checked | None) -> str:
    if warmup is None:
        return "none"
    wrong = "" if warmup.ok else f"; a server refuses them: {next(p for p in warmup.problems if p.fatal)}"
    return f"{warmup.goldens} of {warmup.records} warm-up requests have their answer{wrong}"


def _shown(found: Inspection) -> object:
    from rich.console import Group
    from rich.text import Text

    from deploy.cli.models import signatures_table

    shown = table("", "", "")
    shown.show_header = False
    for name, value in facts(found).items():
        shown.add_row(name, Text(line(value)))
    return Group(shown, "", signatures_table(found.contract))


def _rest_lines(calls: Calls) -> Iterator[str]:
    """A long body goes to a file beside, which nothing else is overwritten for."""
    from deploy.client import curl

    file = None if calls.long is None else _written(calls.long[0])
    if calls.long is None or file is None:
        yield calls.curl or f"# not over REST: {line(calls.why)}"
    else:
        body, url = calls.long
        yield f"# the body, {len(body):,} bytes, was written to {file} in this directory"
        yield curl.of_file(url, file)


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


def _call_lines(found: Inspection) -> Iterator[str]:
    """Whole lines, however long: they are there to be pasted."""
    for name, calls in found.calls.items():
        yield f"\n# {line(name)}"
        yield from _rest_lines(calls)
        if calls.python:
            yield f"\n{calls.python}"
        if name in found.devices:
            yield f"\n{found.devices[name]}"

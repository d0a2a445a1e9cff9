"""tfs export: from a Python model to a published version."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from deploy.cli.checks import allowing, gate
from deploy.cli.options import command, repository_option, steps, table, tell
from deploy.cli.signing import sign_with, vouch

if TYPE_CHECKING:
    from rich.console import RenderableType

    from deploy.export import Exported, Recording
    from deploy.export.tflite import Sibling
    from deploy.signing import Signer

F = TypeVar("F", bound=Callable[..., Any])

_EXAMPLE = """tfs export docs/examples/digits.py:build --name digits
tfs export my_package.models:make_model --name ranking --input "features: float32[?, 20]"
tfs export model.keras --custom-object my_package.layers:Scale
tfs export build/saved_model --name digits --version 7
tfs export graph.pb --inputs x:0 --outputs y:0 --input "x: float32[?, 20]" --name digits
tfs export model.keras --examples rows.npz --tflite int8 --tflite-out digits.tflite
tfs export model.keras --recipe 'image-bytes(scale=-1..1)' --recipe 'top-k(5, labels=labels.txt)'"""


def register(app: click.Group) -> None:
    @command(app, "export", example=_EXAMPLE)
    @click.argument("target")
    @click.option("--name", help="The model's name.  [default: from the target]")
    @click.option("--version", help="Its number.  [default: the next free one]")
    @repository_option
    @click.option("--input", "inputs", multiple=True, metavar="SPEC",
                  help='What it takes, where the model doesn\'t say: "pixels: float32[?, 784]". Repeatable.')
    @click.option("--examples", type=click.Path(path_type=Path, dir_okay=False),
                  help="Inputs to verify and record answers for (.npz, .json, an image, a .txt of texts).  "
                  "[default: generated]")
    @_of_files
    @click.option("--custom-object", "custom_objects", multiple=True, metavar="PKG.MODULE:CLASS",
                  help="A class or function that a .keras or .h5 file names. Repeatable.")
    @click.option("--recipe", "recipes", multiple=True, metavar="NAME(OPTIONS)",
                  help="What serving needs around it: image-bytes, text, tf-example, classify, regress, top-k, keys, "
                  "copy-signature, rename-inputs, rename-outputs, cast-outputs. Repeatable, applied in this order.")
    @click.option("--tolerance", "tolerances", multiple=True, metavar="[SIGNATURE[/OUTPUT]=]NUMBER[,NUMBER]",
                  help="How far answers may be apart: absolute and relative, or both alike. Repeatable.")
    @click.option("--batch-sizes", metavar="N,N,...", help="Of generated examples.  [default: 1,2]")
    @click.option("--spec", "spec_path", type=click.Path(path_type=Path, dir_okay=False, exists=True),
                  help="A serving.yaml: its allowed batch sizes are covered, and the checks are for its server, with "
                  "what it allows.  [default: for the checks, serving.yaml, if it is there]")
    @click.option("--tflite", type=click.Choice(["none", "dynamic", "float16", "int8"]),
                  help="Write model.tflite into the version, too, quantized like this.")
    @click.option("--tflite-out", type=click.Path(path_type=Path, dir_okay=False), help="Write it here as well.")
    @click.option("--tflite-limit", type=click.FloatRange(min=0), metavar="SHARE",
                  help="How far its answers may be off, of the outputs' largest magnitude.")
    @click.option("--tflite-plot", type=click.Path(path_type=Path, dir_okay=False),
                  help="Write its size and latency beside the SavedModel's as SVG.")
    @sign_with
    @allowing
    def export_model(target: str, name: str | None, version: str | None, repository: Path | str,
                     inputs: tuple[str, ...], fed: tuple[str, ...], fetched: tuple[str, ...],
                     tags: str | None, default_signature: str,
                     examples: Path | None, custom_objects: tuple[str, ...], recipes: tuple[str, ...],
                     tolerances: tuple[str, ...], batch_sizes: str | None,
                     spec_path: Path | None, tflite: str | None, tflite_out: Path | None,
                     tflite_limit: float | None, tflite_plot: Path | None, signer: Signer | None,
                     allowances: tuple[str, ...], as_json: bool) -> None:
        """Export a Python model, verify it, and publish it.

        TARGET is pkg.module:attribute or path/file.py:attribute (a model, or a function that builds one), a .keras or
        .h5 file, a SavedModel directory, a module of TensorFlow Hub, or a frozen graph (.pb, .pbtxt). What was
        saved is loaded in a fresh process and has to answer as the model does; questions and answers are kept in the
        version as golden cases. What `tfs check` refuses isn't published.
        """
        from deploy.naming import check_version

        number = None if version is None else check_version(version)
        if tflite is None and (tflite_out or tflite_plot or tflite_limit is not None):
            raise click.UsageError("say with --tflite which kind of TFLite model to make")
        if tflite_out and isinstance(repository, str):
            raise click.UsageError("--tflite-out copies from a repository on this machine: pull the version, then take "
                                   "its model.tflite")
        for path in filter(None, (tflite_out, tflite_plot)):
            _check_parent(path)
        with steps(f"exporting {name or target}", quiet=as_json) as progress, _stdout_for_json(as_json):
            from deploy.export import Exportable, TFLite, default_name, export_model  # numpy: something is shown by now

            exported = export_model(
                Exportable(_named(target, fed, fetched, tags, default_signature), inputs=list(inputs) or None,
                           custom_objects=custom_objects or None, recipes=recipes or None),
                repository, name, number, recording=_recording(examples, tolerances, batch_sizes, spec_path),
                tflite=TFLite(tflite, tflite_limit) if tflite else None, progress=progress, copied=progress.copied,
                gate=gate(name or default_name(target), spec_path, allowances))
        if exported.tflite and tflite_out:
            _copy(exported.tflite.path, tflite_out)
        if exported.tflite and tflite_plot:
            _write(tflite_plot, _plot(exported.tflite))
        vouch(repository, exported.model_version, signer, notes=exported.notes,
              passed=["check", f"parity: {exported.parity}", f"goldens: {exported.goldens}"])
        tell(exported.to_json(), as_json, lambda: _summary(exported))


def _of_files(function: F) -> F:
    """Add what files and directories don't say themselves."""
    for option in (
            click.option("--default-signature", default="", metavar="NAME",
                         help="Of a SavedModel: the signature that serving_default is to be a second name of."),
            click.option("--tags", metavar="TAG,TAG,...",
                         help="Of a SavedModel: those of the graph to publish, which is tagged as the server wants it. "
                         "'' for one without tags.  [default: the server's]"),
            click.option("--outputs", "fetched", multiple=True, metavar="[NAME=]TENSOR,...",
                         help="Of a frozen graph: the tensors that requests get. Repeatable."),
            click.option("--inputs", "fed", multiple=True, metavar="[NAME=]TENSOR,...",
                         help="Of a frozen graph: the tensors that requests give, such as x:0. Repeatable.")):
        function = option(function)
    return function


def _named(target: str, fed: tuple[str, ...], fetched: tuple[str, ...], tags: str | None,
           default_signature: str) -> object:
    """The target with what is said of it. Raises UsageError where both is, of a graph and of a SavedModel."""
    from deploy.export import FrozenGraph, SavedModelDirectory

    of_graph, of_directory = bool(fed or fetched), tags is not None or bool(default_signature)
    if of_graph and of_directory:
        raise click.UsageError("--inputs and --outputs are for frozen graphs, --tags and --default-signature for "
                               "SavedModels")
    if of_directory:
        return SavedModelDirectory(Path(target), None if tags is None else _split(tags), default_signature)
    return FrozenGraph(Path(target), _split(*fed), _split(*fetched)) if of_graph else target


def _split(*texts: str) -> tuple[str, ...]:
    return tuple(part.strip() for text in texts for part in text.split(",") if part.strip())


def _summary(exported: Exported) -> object:
    from rich.console import Group

    from deploy.cli.tables import signatures_table

    cases = f"{exported.goldens} golden case{'s' * (exported.goldens != 1)}"
    lines = [f"published {exported.model_version} at {exported.where}",
             f"verified: {exported.parity}; {cases}; {exported.seconds:.1f} s", ""]
    notes = [f"note: {note}" for note in exported.notes]
    small = _sibling_table(exported.tflite) if exported.tflite else []
    return Group(*lines, signatures_table(exported.contract), *small, *notes)


def _sibling_table(sibling: Sibling) -> list[RenderableType]:
    shown = table("", "", ">SavedModel", f">model.tflite ({sibling.mode})", ">apart", ">argmax flips")
    shown.add_row("bytes", f"{sibling.saved_size:,}", f"{sibling.size:,}", "", "")
    for name, seconds in sibling.latency.items():
        outputs = [output for output in sibling.drift.outputs if output.signature == name]
        flips, rows = sum(o.flips for o in outputs), sum(o.decisions for o in outputs)
        shown.add_row(f"{name}, one call", f"{sibling.saved_latency[name] * 1e6:,.0f} us", f"{seconds * 1e6:,.0f} us",
                      f"{max((o.max for o in outputs), default=0.0):.2g}", f"{flips} of {rows}" if rows else "")
    return ["", shown, f"run by {sibling.runtime}; allowed apart: {sibling.limit:g} of the outputs' largest magnitude"]


def _plot(sibling: Sibling) -> str:
    from deploy.report.html import BarGroup, bars, svg_file

    def pair(one: float, other: float, unit: str) -> list[tuple[str, float, str]]:
        return [("SavedModel", one, f"{one:,.0f} {unit}"), (f"TFLite, {sibling.mode}", other, f"{other:,.0f} {unit}")]

    calls = [BarGroup(f"one call of {name}", pair(sibling.saved_latency[name] * 1e6, seconds * 1e6, "us"))
             for name, seconds in sibling.latency.items()]
    return svg_file(bars("SavedModel and TFLite", [BarGroup("size", pair(sibling.saved_size, sibling.size, "bytes")),
                                                   *calls]))


def _stdout_for_json(as_json: bool) -> contextlib.AbstractContextManager[object]:
    """What the user's code prints goes to stderr where stdout is a document."""
    return contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()


def _check_parent(path: Path) -> None:
    """Told before somebody trains for it, and before anything is published."""
    from deploy.errors import SpecError

    if not path.parent.is_dir():
        raise SpecError(f"can't write {path}: there is no directory {path.parent}", hint="make it, or name another",
                        id="cant-write")


def _copy(source: Path, target: Path) -> None:
    import shutil

    from deploy.errors import SpecError

    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise SpecError(f"can't write {target}: {error.strerror}", hint="name another file", id="cant-write") from None


def _write(path: Path, text: str) -> None:
    from deploy.errors import SpecError

    try:
        path.write_text(text)
    except OSError as error:
        raise SpecError(f"can't write {path}: {error.strerror}", hint="name another file", id="cant-write") from None


def _recording(examples: Path | None, tolerances: tuple[str, ...], batch_sizes: str | None,
               spec_path: Path | None) -> Recording:
    from deploy.export import Recording

    sizes = _batches(batch_sizes, spec_path)
    recording = Recording(examples, tolerance=_tolerances(tolerances))
    return recording if sizes is None else replace(recording, batch_sizes=sizes)


def _tolerances(given: tuple[str, ...]) -> dict[str, dict[str, float]] | None:
    """`1e-4`, `scale=1e-3`, `scale/total=1e-3,1e-2`, as export takes them. Raises SpecError."""
    from deploy.errors import SpecError

    by_name: dict[str, dict[str, float]] = {}
    for text in given:
        name, _, numbers = text.rpartition("=")
        try:
            values = [float(number) for number in numbers.split(",")]
        except ValueError:
            values = []
        if len(values) not in (1, 2) or not all(0 <= value < float("inf") for value in values):
            raise SpecError(f"tolerance {text!r} is not valid", hint="write 1e-4, or SIGNATURE/OUTPUT=1e-4, or "
                            "SIGNATURE/OUTPUT=1e-4,1e-3 for absolute and relative", id="bad-tolerance")
        by_name[name or "default"] = {"absolute": values[0], "relative": values[-1]}
    return by_name or None


def _batches(text: str | None, spec_path: Path | None) -> tuple[int, ...] | None:
    from deploy.cli.goldens import parse_batches

    sizes = parse_batches(text)
    if spec_path is None:
        return sizes
    from deploy import spec

    batching = spec.load_spec(spec_path).server.batching
    return tuple(dict.fromkeys((*(sizes or (1, 2)), *(batching.allowed_batch_sizes if batching else ()))))

"""tfs goldens: the requests and answers that a version carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.cli.checks import gate, gated
from deploy.cli.escaping import line
from deploy.cli.options import command, repository_option, steps, table, tell
from deploy.cli.targets import check_may_run, connected, place, run_option, server_options, version
from deploy.errors import RepositoryError

if TYPE_CHECKING:
    from deploy.checks import Gate
    from deploy.goldens.compare import AnswerDrift
    from deploy.goldens.warmup import Checked
    from deploy.regression import Edited
    from deploy.types import ModelVersion
    from deploy.wire.serving_pb2 import PredictionLog

_number_option = click.option("--version", "number", help="The new version's number.  [default: the next free one]")


def register(app: click.Group) -> None:
    @app.group()
    def goldens() -> None:
        """Recorded requests with their answers: warm-up, smoke test and regression test in one file.

        They are kept in assets.extra/tf_serving_warmup_requests, where any TensorFlow Serving finds its warm-up.
        Published versions never change: `add`, `remove` and `import` publish another version of the same model.
        """

    for add in (_list, _check, _add, _remove, _import, _replay):
        add(goldens)


def _list(group: click.Group) -> None:
    @command(group, "list", example="tfs goldens list digits/3")
    @click.argument("what")
    @repository_option
    def list_(what: str, repository: Path | str, as_json: bool) -> None:
        """List the records of a version. WHAT is MODEL, MODEL/VERSION or a directory."""
        rows = _records(place(repository, what)[0])

        def show() -> object:
            shown = table("", ">number", "kind", "signature", "inputs", "answer", "answered by")
            for row in rows:
                shown.add_row(*(line(str(row[key])) for key in ("number", "kind", "signature")), _shapes(row["inputs"]),
                              _shapes(row["outputs"]) or "none: warm-up only", row["origin"])
            return shown if rows else f"{what} has no recorded requests"

        tell(rows, as_json, show)


def _check(group: click.Group) -> None:
    @command(group, "check", example="tfs goldens check digits/3\ntfs goldens check build/saved_model")
    @click.argument("what")
    @repository_option
    def check(what: str, repository: Path | str, as_json: bool) -> None:
        """Check the file of warm-up requests without a server.

        Number of records, checksums, kinds, and whether each fits the signatures. Exit code 4 if a server would refuse
        the version. WHAT is MODEL, MODEL/VERSION or a directory.
        """
        from deploy import savedmodel
        from deploy.goldens import warmup

        path = place(repository, what)[0]
        checked = warmup.check(path, savedmodel.read(path).contract)
        checked = warmup.with_tflite(checked, path) if checked else None
        tell(checked.to_json() if checked else {"ok": True, "records": 0}, as_json,
             lambda: _checked(checked) if checked else f"{what} has no warm-up requests")
        if checked and not (checked.ok or not as_json):
            raise click.exceptions.Exit(RepositoryError.exit_code)
        if checked:
            checked.raise_if_refused()


def _add(group: click.Group) -> None:
    @command(group, "add", example="tfs goldens add digits/3 --examples more.npz\n"
                                   "tfs goldens add digits --batch-sizes 1,8,32")
    @click.argument("what")
    @click.option("--examples", type=click.Path(path_type=Path, dir_okay=False, exists=True),
                  help="Inputs (.npz or .json).  [default: generated from the signatures]")
    @click.option("--batch-sizes", metavar="N,N,...", help="Of generated inputs.  [default: 1,2]")
    @_number_option
    @repository_option
    @run_option
    @gated
    def add(what: str, examples: Path | None, batch_sizes: str | None, number: str | None, repository: Path | str,
            may_run: bool, allowances: tuple[str, ...], spec_path: Path | None, as_json: bool) -> None:
        """Publish a version again with more golden cases.

        The version itself answers the requests, run without a server if `tfs check` lets it pass. WHAT is MODEL or
        MODEL/VERSION.
        """
        from deploy import regression, savedmodel
        from deploy.export import examples as given
        from deploy.repository import Repository

        mv, path = version(repository, what)
        check_may_run(path, mv, may_run)
        info = savedmodel.read(path)
        cases = given.cases(examples, info.contract, info.features, {}, batches=parse_batches(batch_sizes))
        with steps(f"adding to {mv}", quiet=as_json) as progress:
            edited = regression.add(Repository(repository), mv, cases,
                                    _checked_number(number), progress, gate=gate(mv.name, spec_path, allowances))
        tell(edited.to_json(), as_json, lambda: _edited(edited))


def _remove(group: click.Group) -> None:
    @command(group, "remove", example="tfs goldens remove digits/3 4 5")
    @click.argument("what")
    @click.argument("numbers", nargs=-1, required=True, type=int)
    @_number_option
    @repository_option
    @gated
    def remove(what: str, numbers: tuple[int, ...], number: str | None, repository: Path | str,
               allowances: tuple[str, ...], spec_path: Path | None, as_json: bool) -> None:
        """Publish a version again without some of its records.

        NUMBERS are those that `tfs goldens list` shows.
        """
        from deploy import regression
        from deploy.repository import Repository

        mv, _ = version(repository, what)
        edited = regression.remove(Repository(repository), mv, numbers, _checked_number(number),
                                   gate=gate(mv.name, spec_path, allowances))
        tell(edited.to_json(), as_json, lambda: _edited(edited))


def _import(group: click.Group) -> None:
    @command(group, "import", example="tfs goldens import digits/3 requests.tfrecord --most 200")
    @click.argument("what")
    @click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
    @click.option("--most", type=click.IntRange(min=1), help="Take this many at most, spread over the file.")
    @click.option("--ask-again", is_flag=True, help="Ask the version itself, also where an answer is recorded.")
    @_number_option
    @repository_option
    @run_option
    @gated
    def import_(what: str, file: Path, most: int | None, ask_again: bool, number: str | None, repository: Path | str,
                may_run: bool, allowances: tuple[str, ...], spec_path: Path | None, as_json: bool) -> None:
        """Publish a version again with requests that a server recorded.

        FILE is a TFRecord of PredictionLogs. Requests without an answer are answered by the version itself.
        """
        from deploy import regression
        from deploy.repository import Repository

        mv, path = version(repository, what)
        check_may_run(path, mv, may_run)
        with steps(f"importing into {mv}", quiet=as_json) as progress:
            edited = regression.import_file(Repository(repository), mv, file, _checked_number(number), most=most,
                                            recorded_answers=not ask_again, progress=progress,
                                            gate=gate(mv.name, spec_path, allowances))
        tell(edited.to_json(), as_json, lambda: _edited(edited))


def _replay(group: click.Group) -> None:
    @command(group, "replay", example="tfs goldens replay digits/3\n"
                                      "tfs goldens replay digits/3 --grpc 10.0.0.5:8500 --as digits@canary")
    @click.argument("what")
    @server_options
    @click.option("--as", "ref", metavar="MODEL[/VERSION|@LABEL]", help="What to ask of the server.  [default: WHAT]")
    @repository_option
    @run_option
    @gated
    def replay(what: str, rest_url: str | None, grpc_target: str | None, ref: str | None, repository: Path | str,
               may_run: bool, allowances: tuple[str, ...], spec_path: Path | None, as_json: bool) -> None:
        """Ask a version's golden cases again, and compare.

        Without a server, if `tfs check` lets the version pass, or of the one at --rest-url or --grpc. WHAT is MODEL,
        MODEL/VERSION or a directory. Exit code 9 if an answer isn't within its tolerance.
        """
        from deploy.cli.tables import drift_table
        from deploy.errors import SmokeFailed

        path, mv = place(repository, what, weights=not (rest_url or grpc_target))

        def decide() -> Gate:
            check_may_run(path, mv, may_run)
            return gate(mv.name if mv else "", spec_path, allowances)

        drift = _replayed(what, (rest_url, grpc_target), ref, (path, mv), decide)
        tell(drift.to_json(), as_json, lambda: drift_table(drift))
        if not drift.within:
            if as_json:
                raise click.exceptions.Exit(SmokeFailed.exit_code)
            why = drift.refused[0] if drift.refused else next(o.outside[0] for o in drift.outputs if o.outside)
            raise SmokeFailed(f"{what} doesn't answer as recorded: {why}", hint="see the table", id="goldens-differ")


def _replayed(what: str, server: tuple[str | None, str | None], ref: str | None,
              place: tuple[Path, ModelVersion | None], decide: Callable[[], Gate]) -> AnswerDrift:
    from deploy import regression
    from deploy.repository import read_facts
    from deploy.types import ModelRef

    path, mv = place
    facts = read_facts(path)
    if not facts.goldens:
        raise RepositoryError(f"{what} has no golden answers, only {facts.skipped} requests without one"
                              if facts.skipped else f"{what} has no golden answers",
                              hint="`tfs goldens add` publishes it again with some", id="no-goldens")
    if not any(server):
        with regression.on_engine(path, decide()) as ask:
            return regression.replay(facts.goldens, ask, facts.tolerances)
    if ref is None and mv is None:
        raise click.UsageError("a directory has no name on a server: say which with --as")
    with connected(*server) as client:
        asked = ModelRef.parse(ref or str(mv))
        return regression.replay(facts.goldens, regression.on_server(client, asked), facts.tolerances)


def parse_batches(text: str | None) -> tuple[int, ...] | None:
    """`1,2,8` as numbers. Raises SpecError."""
    if text is None:
        return None
    from deploy.errors import SpecError

    sizes = [part.strip() for part in text.split(",")]
    if not all(size.isdecimal() and 0 < int(size) <= 1_000_000 for size in sizes):
        raise SpecError(f"batch sizes {text!r} are not valid", hint="give whole numbers: --batch-sizes 1,2,8")
    return tuple(dict.fromkeys(int(size) for size in sizes))


def _records(path: Path) -> list[dict[str, Any]]:
    from deploy import goldens
    from deploy.errors import BadReply, Malformed
    from deploy.regression.editing import stored

    rows: list[dict[str, Any]] = []
    for number, data in enumerate(stored(path)):
        where = f"{path / goldens.FILE}: record {number}"
        try:
            rows.append({"number": number, **_row(goldens.parse(data, where))})
        except BadReply as error:
            raise Malformed(f"{where}: {error.message}", hint=error.hint) from error
    return rows


def _row(log: PredictionLog) -> dict[str, Any]:
    """What a record holds, in words; its values aren't decoded. Raises BadReply for a damaged tensor."""
    from deploy.types import DEFAULT_SIGNATURE

    kind = log.WhichOneof("log_type") or "empty"
    row: dict[str, Any] = {"kind": kind.removesuffix("_log"), "signature": "", "inputs": {}, "outputs": {},
                           "origin": ""}
    if kind != "predict_log":
        return row
    request, response = log.predict_log.request, log.predict_log.response
    origin = log.log_metadata.request_origin or ("export" if response.outputs else "")
    return row | {"signature": request.model_spec.signature_name or DEFAULT_SIGNATURE, "origin": origin,
                  "inputs": _described(request.inputs), "outputs": _described(response.outputs)}


def _described(given: Mapping[str, Any]) -> dict[str, str]:
    from deploy.wire import tensors

    for tensor in given.values():
        tensors.check(tensor)
    return {name: f"{tensors.dtype_from_number(t.dtype)}{list(tensors.shape_of(t))}" for name, t in given.items()}


def _shapes(described: Mapping[str, str]) -> str:
    return ", ".join(f"{line(name)} {form}" for name, form in described.items())


def _checked(checked: Checked) -> object:
    kinds = ", ".join(f"{count} {kind.removesuffix('_log')}" for kind, count in checked.kinds.items())
    lines = [f"{checked.records} records ({kinds}), {checked.goldens} with their answers"]
    lines += [f"{'error' if problem.fatal else 'note'}: {line(str(problem))}" for problem in checked.problems]
    return "\n".join(lines if len(lines) > 1 else [*lines, "all fit the signatures"])


def _edited(edited: Edited) -> str:
    what: Sequence[str] = [f"{edited.added} added"] * bool(edited.added) + [f"{edited.removed} removed"] * bool(
        edited.removed)
    published = edited.published
    return "\n".join([f"published {published.mv} at {published.where}: {', '.join(what)}, "
                      f"{published.manifest.goldens} golden cases", *(f"note: {note}" for note in edited.notes)])


def _checked_number(text: str | None) -> int | None:
    from deploy.naming import check_version

    return None if text is None else check_version(text)

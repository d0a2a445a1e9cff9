"""tfs check, and the gate that `tfs publish` and `tfs export` put in front of the repository."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from deploy.cli.options import command, console, repository_option
from deploy.cli.targets import place, where
from deploy.errors import CheckFailed, DeployError

if TYPE_CHECKING:
    from deploy.checks import CheckReport, Gate, Target
    from deploy.spec import Spec

F = TypeVar("F", bound=Callable[..., Any])

_EXAMPLE = """tfs check build/saved_model
tfs check digits/3 --server-version 2.20
tfs check build/saved_model --allow log-op="we watch it for a week"
tfs check build/saved_model --format sarif > check.sarif"""

_allow_option = click.option("--allow", "allowances", multiple=True, metavar="RULE=REASON",
                             help="Accept a rule's findings, and say why. Repeatable.")
_spec_option = click.option(
    "--spec", "spec_path", type=click.Path(path_type=Path, dir_okay=False), envvar="TFS_SPEC",
    help="The serving.yaml that names the server and what is allowed.  [default: serving.yaml, if it is there]")


def allowing(function: F) -> F:
    """Add --allow, which `gate` takes."""
    return _allow_option(function)


def gated(function: F) -> F:
    """Add --allow and --spec, which `gate` takes."""
    return _allow_option(_spec_option(function))


def register(app: click.Group) -> None:
    @command(app, "check", example=_EXAMPLE)
    @click.argument("what", nargs=-1, required=True)
    @repository_option
    @gated
    @click.option("--server-version", metavar="2.20", help="TensorFlow Serving's version.  [default: the spec's]")
    @click.option("--image", help="The image that serves it.  [default: the spec's]")
    @click.option("--model", "name", help="The model in the spec whose allowances count.  [default: from WHAT]")
    @click.option("--format", "form", type=click.Choice(["table", "json", "sarif"]), default="table",
                  show_default=True, help="How to report.")
    @click.option("--strict", is_flag=True, help="Refuse warnings, too.")
    def check(what: tuple[str, ...], repository: Path | str, allowances: tuple[str, ...], spec_path: Path | None,
              server_version: str | None, image: str | None, name: str | None, form: str, strict: bool,
              as_json: bool) -> None:
        """Check a model: is it servable, does that server load it, is it safe?

        WHAT is MODEL (its newest version), MODEL/VERSION, or a path: a SavedModel directory or its saved_model.pb, a
        .tflite file, a .keras or .h5 file; several as a table only. Nothing is run and TensorFlow isn't needed. Of a
        spec with several servers it is checked for each of them. Exit code 3 if there is an error that isn't allowed,
        here or in the spec (models/0/allow).
        """
        form = "json" if as_json else form
        if len(what) > 1 and form != "table":
            raise click.UsageError(f"--format {form} reports one model, and {len(what)} are named")
        spec = _spec(spec_path)
        loaders = _targets(spec, server_version, image)
        _check_flags(spec, server_version, image)
        failures: list[DeployError] = []
        for one in what:
            try:
                _check(one, repository, loaders, lambda model: _allowed(spec, name or model, allowances), form, strict)
            except DeployError as failure:
                failures.append(failure)
        for earlier in failures[:-1]:
            click.echo(f"tfs: {earlier}", err=True)
        if failures:
            raise failures[-1]


def _check(what: str, repository: Path | str, loaders: Sequence[Target], allowed: Callable[[str], Mapping[str, str]],
           form: str, strict: bool) -> None:
    """Check one model and report. Raises CheckFailed, or Exit where the report on stdout says it already."""
    from deploy import checks

    path, model, address = _found(what, repository)
    report = replace(checks.check(path, loaders[0], allowed(model), further=loaders[1:]), path=address)
    _tell(report, form)
    if form == "table":
        report.raise_if_refused(strict=strict)
    elif not report.accepted(strict=strict):
        raise click.exceptions.Exit(CheckFailed.exit_code)


def gate(model: str, spec_path: Path | None, allowances: tuple[str, ...]) -> Gate:
    """What checks a directory before it is published as a version of `model`, by the spec and the command line."""
    from deploy import checks

    spec = _spec(spec_path)
    loaders, allow = _targets(spec, None, None), _allowed(spec, model, allowances)
    return checks.gate(loaders[0], allow, loaders[1:])


def _tell(report: CheckReport, form: str) -> None:
    if form == "json":
        click.echo(json.dumps(report.to_json(), indent=2))
    elif form == "sarif":
        from deploy.report import sarif

        click.echo(json.dumps(sarif(report), indent=2))
    elif report.findings:
        from deploy.cli.tables import check_table

        console().print(check_table(report))
    else:
        click.echo(f"{report.path}: nothing to object to, for {report.target}")
    if form == "table" and report.unused:
        click.echo(f"allowed, but not found: {', '.join(report.unused)}")


def _found(what: str, repository: Path | str) -> tuple[Path, str, str]:
    """The path, the model's name as far as that tells it, and where it is for people."""
    path, mv = place(repository, what)
    path = path.parent if path.name == "saved_model.pb" else path
    return path, mv.name if mv else "", where(repository, path, mv)


def _spec(path: Path | None) -> Spec | None:
    """The spec that is named, or the one that is there."""
    from deploy import spec

    if path is None and not Path("serving.yaml").is_file():
        return None
    return spec.load_spec(path or "serving.yaml")


def _base_of(image: str) -> str:
    """An image that isn't called like a serving image may have been built on one: its labels know."""
    from deploy import serving

    return image if image.partition("@")[0].startswith("tensorflow/serving") else serving.base_of(image) or image


def _targets(spec: Spec | None, version: str | None, image: str | None) -> Sequence[Target]:
    """The servers that are to load it: all of a spec, those that are alike once."""
    return list(dict.fromkeys(_target(one, version, image) for one in (spec.members if spec else (None,))))


def _target(spec: Spec | None, version: str | None, image: str | None) -> Target:
    """The server: of an image or a version if one is given, set up as the spec says."""
    from deploy import checks

    described = None
    if spec:
        from deploy import serving

        described = serving.target_of(spec)
    named = checks.of_image(_base_of(image)) if image else described
    target = named or checks.default()
    if version is not None:
        target = checks.of_version(version) if named is None else \
            checks.of_version(version, libraries=named.libraries, gpu=named.gpu)
    if described is None:
        return target
    return replace(target, batching=described.batching, prefers_tflite=described.prefers_tflite,
                   compiles=described.compiles)


def _check_flags(spec: Spec | None, version: str | None, image: str | None) -> None:
    """Raises SpecError for a server of the spec with a flag that its release is known to lack."""
    from deploy import backends, serving

    for one in spec.members if spec else ():
        named = f"tensorflow/serving:{version}" if version else image or ""
        serving.check_release(one, backends.preferred(one), named)


def _allowed(spec: Spec | None, model: str, given: tuple[str, ...]) -> Mapping[str, str]:
    """What the spec and the command line allow; the command line's reasons count."""
    from deploy import checks
    from deploy.errors import SpecError

    index = next((i for i, m in enumerate(spec.models) if m.name == model), 0) if spec else 0
    allow = dict(checks.check_allowances(spec.allow.get(model, {}), f"models/{index}/allow")) if spec else {}
    for text in given:
        rule, equals, reason = text.partition("=")
        if not equals or not reason.strip():
            raise SpecError(f"--allow {text!r} gives no reason", hint=f'say why: --allow {rule}="the reason"',
                            id="bad-allowance")
        allow[rule.strip()] = reason.strip()
    return checks.check_allowances(allow)

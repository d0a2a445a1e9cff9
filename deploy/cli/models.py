"""tfs publish, repository: versions at rest. (`export` has a file of its own.)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.checks import gate, gated
from deploy.cli.options import LocalPath, bytes_bar, command, repository_option, steps, table, tell
from deploy.cli.signing import sign_with, vouch
from deploy.cli.targets import named
from deploy.errors import DigestMismatch, IncompleteVersion, Malformed, RepositoryError, VersionNotFound

if TYPE_CHECKING:

    from deploy.repository import Published
    from deploy.signing import Signer
    from deploy.types import ModelVersion

DAMAGE = (DigestMismatch, IncompleteVersion, Malformed, VersionNotFound)  # of one version; others go on being verified


def register(app: click.Group) -> None:
    _publish(app)

    @app.group()
    def repository() -> None:
        """List, verify and clean the model repository."""

    _list(repository)
    _verify(repository)
    _clean(repository)


def _publish(app: click.Group) -> None:
    @command(app, "publish", example="tfs publish build/saved_model --name digits\n"
                                     "tfs publish build/saved_model --name digits --version 7\n"
                                     "tfs publish build/saved_model --name digits --sign-with signer.key\n"
                                     "tfs publish --from mlflow:models:/digits@champion")
    @click.argument("directory", required=False, type=LocalPath(
        "a version that is there comes by tfs pull MODEL/VERSION --from ADDRESS", either=True))
    @click.option("--from", "reference", metavar="REFERENCE",
                  help="A model of an MLflow registry: mlflow:models:/NAME@ALIAS or mlflow:models:/NAME/VERSION.")
    @click.option("--name", help="The model's name; with --from the registry's by default.")
    @click.option("--version", help="Its number; the next free one by default.")
    @repository_option
    @click.option("--move", is_flag=True, help="Take the directory itself instead of a copy.")
    @sign_with
    @gated
    def publish(directory: Path | None, reference: str | None, name: str | None, version: str | None,
                repository: Path | str, move: bool, signer: Signer | None,
                allowances: tuple[str, ...], spec_path: Path | None, as_json: bool) -> None:
        """Publish a SavedModel directory as a version.

        It is checked (see `tfs check`), copied as it is, verified, synced to disk and made visible by one rename. For
        golden answers use `tfs export`. With --from the model is downloaded and exported, with golden answers, and the
        version says where it came from.
        """
        from deploy.naming import check_version
        from deploy.repository import Repository

        if (directory is None) == (reference is None):
            raise click.UsageError("name a SavedModel directory, or --from REFERENCE")
        number = None if version is None else check_version(version)
        if directory is None:
            published, notes = _exported(str(reference), name, number, repository, (spec_path, allowances), as_json)
        else:
            if name is None:
                raise click.UsageError("say what the model is called: --name NAME")
            notes = gate(name, spec_path, allowances)(directory)
            with bytes_bar(f"publishing {name}", quiet=as_json) as progress:
                published = Repository(repository).publish(directory, name, number, move=move, progress=progress)
        signature = vouch(repository, published.mv, signer, passed=["check"], notes=notes)
        signed = {"signed_by": signature.key_hint} if signature else {}
        tell({**published_json(published), **signed, "notes": list(notes)}, as_json, lambda: "\n".join(
            [f"published {published.mv} at {published.where}", *(f"signed with {hint}" for hint in signed.values()),
             *(f"note: {note}" for note in notes)]))


def _exported(reference: str, name: str | None, number: int | None, repository: Path | str,
              accepted: tuple[Path | None, tuple[str, ...]], quiet: bool) -> tuple[Published, tuple[str, ...]]:
    """What `tfs publish --from` publishes. accepted: the spec and the allowances."""
    from deploy.errors import SpecError
    from deploy.export import export_model, registries
    from deploy.repository import Published, Repository

    if not registries.is_reference(reference):
        raise SpecError(f"--from {reference}: expected mlflow:models:/NAME@ALIAS or mlflow:models:/NAME/VERSION",
                        hint="a SavedModel directory is named without --from")
    name = name or registries.name_in(reference)
    with steps(f"publishing {name}", quiet=quiet) as progress:
        exported = export_model(reference, repository, name, number, gate=gate(name, *accepted), progress=progress,
                                copied=progress.copied)
    manifest = Repository(repository).manifest(exported.model_version)
    return Published(exported.model_version, exported.where, manifest, exported.local), exported.notes


def published_json(published: Published) -> dict[str, object]:
    return {"model": published.mv.name, "version": published.mv.version, "path": published.where,
            "digest": published.manifest.digest, "size": published.manifest.size,
            "goldens": published.manifest.goldens, "contract": published.manifest.contract.to_json()}


def _list(group: click.Group) -> None:
    @command(group, "list", example="tfs repository list --repository models")
    @click.argument("model", required=False)
    @repository_option
    def list_(model: str | None, repository: Path | str, as_json: bool) -> None:
        """List the versions of all models, or of one."""
        from deploy.repository import Repository

        entries = Repository(repository).entries(model)

        def show() -> object:
            shown = table("", "model", ">version", ">size", ">goldens", "created", "digest")
            for e in entries:
                digest = e.error or (e.digest.partition(":")[2][:12] if e.digest else "no manifest")
                shown.add_row(e.mv.name, str(e.mv.version), f"{e.size:,}", str(e.goldens), e.created, digest)
            return shown if entries else f"no versions in {repository}"

        if model and not entries:
            named(repository, model)  # raises, and says why
        tell([e.to_json() for e in entries], as_json, show)


def _verify(group: click.Group) -> None:
    @command(group, "verify", example="tfs repository verify digits/3\ntfs repository verify")
    @click.argument("what", required=False)
    @repository_option
    def verify(what: str | None, repository: Path | str, as_json: bool) -> None:
        """Compare every byte of a version with its manifest.

        Without WHAT (MODEL or MODEL/VERSION): of all versions; those that are damaged are told together at the end.
        """
        from deploy.repository import Repository

        repo = Repository(repository)
        chosen = [named(repository, what)] if what else [e.mv for e in repo.entries() if e.digest or e.error]
        damaged: dict[ModelVersion, RepositoryError] = {}
        for mv in chosen:
            with bytes_bar(f"verifying {mv}", quiet=as_json) as progress:
                try:
                    repo.verify(mv, progress=progress)
                except RepositoryError as error:
                    if what or not (repo.local or isinstance(error, DAMAGE)):
                        raise
                    damaged[mv] = error
        good = [mv for mv in chosen if mv not in damaged]
        lines = [f"{mv} is as published" if mv in good else damaged[mv].message for mv in chosen]
        if damaged and not as_json:
            click.echo("\n".join(lines))
        if damaged:
            raise _damaged(damaged, good)
        tell({"verified": list(map(str, good))}, as_json,
             lambda: "\n".join(lines) or "nothing with a manifest to verify")


def _damaged(damaged: Mapping[ModelVersion, RepositoryError], good: Sequence[ModelVersion]) -> RepositoryError:
    """What is told of a repository with damaged versions, and with good ones."""
    count = f"{len(damaged)} of {len(damaged) + len(good)} versions"
    first = next(iter(damaged.values()))
    return DigestMismatch(
        f"{count} {'is' if len(damaged) == 1 else 'are'} not as published: {', '.join(map(str, damaged))}",
        hint="publish them again under other numbers", id=first.id,
        details={"verified": list(map(str, good)),
                 "damaged": [{"version": str(mv), **error.to_json()} for mv, error in damaged.items()]})


def _clean(group: click.Group) -> None:
    @command(group, "clean", example="tfs repository clean")
    @repository_option
    @click.option("--older-than", type=float, default=3600.0, show_default=True,
                  help="Seconds without a change, for stages whose owner can't be seen from here.")
    def clean(repository: Path | str, older_than: float, as_json: bool) -> None:
        """Remove what crashed publishers left behind. Published versions are never touched."""
        from deploy.repository import Repository

        removed = Repository(repository).clean(older_than)
        tell({"removed": [str(p) for p in removed]}, as_json,
             lambda: "\n".join(f"removed {p}" for p in removed) or "nothing to clean")

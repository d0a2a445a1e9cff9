"""tfs sign, verify, bom; what --sign-with names."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from deploy.cli.options import bytes_bar, command, repository_option, table, tell
from deploy.cli.targets import looked_at, named, repository_at

if TYPE_CHECKING:
    from deploy.signing import Receipt, SignatureBundle, Signer
    from deploy.types import ModelVersion

F = TypeVar("F", bound=Callable[..., Any])

_SIGN = """tfs sign digits/3 --key signer.key
tfs sign digits/3 --key signer.key --certificate signer.pem --certificate between.pem
tfs sign digits/3 --key my_package.kms:signer
tfs sign build/saved_model --key signer.key --output saved_model.sig"""
_VERIFY = """tfs verify digits/3 --key signer.pub
tfs verify digits/3 --key authority.pem --key deputy.pub
tfs verify build/saved_model --signature saved_model.sig --key signer.pub"""
_MOST_PASSPHRASE = 4096  # bytes


def register(app: click.Group) -> None:
    _sign(app)
    _verify(app)
    _bom(app)


def _key_options(name: str, help_text: str, *, required: bool) -> Callable[[F], F]:
    """Add the options that name a signer, and pass what they name as `load_signer`, a function; None without a key."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def run(*args: Any, signing_key: str | None, certificates: tuple[Path, ...], passphrase_file: Path | None,
                **kwargs: Any) -> Any:
            if signing_key is None and (certificates or passphrase_file):
                raise click.UsageError(f"--certificate and --passphrase-file go with {name}")
            signer = None if signing_key is None else _signer(signing_key, certificates, passphrase_file)
            return function(*args, signer=signer, **kwargs)

        file = click.Path(path_type=Path, dir_okay=False)
        options = (
            click.option(name, "signing_key", metavar="FILE|PKG.MODULE:SIGNER", required=required, help=help_text),
            click.option("--certificate", "certificates", multiple=True, type=file,
                         help="The signer's certificate (PEM), then those between it and its authority. Repeatable."),
            click.option("--passphrase-file", type=file, envvar="TFS_PASSPHRASE_FILE", show_envvar=True,
                         help="Holds the passphrase of an encrypted key.  [default: asked on a terminal]"))
        decorated: Any = run
        for option in reversed(options):
            decorated = option(decorated)
        return decorated  # type: ignore[no-any-return]

    return decorate


sign_with = _key_options("--sign-with", "Sign it with this private key (PEM), or with a signer in Python.",
                         required=False)


def vouch(repository: Path | str, mv: ModelVersion, signer: Signer | None, *, passed: Iterable[str],
          notes: Iterable[str]) -> SignatureBundle | None:
    """Sign what was just published, if that is asked for, and note that it passed its checks."""
    from deploy import signing
    from deploy.errors import RepositoryError
    from deploy.repository import Repository

    repo = Repository(repository)
    signature = None if signer is None else signing.sign(repo, mv, signer)
    try:
        signing.receipts.checked(repo, mv, passed=passed, notes=notes, signer=signer)
    except RepositoryError as error:  # the version is there, and good
        click.echo(f"warning: no receipt: {error}", err=True)
    return signature


def signing_json(repository: Path | str, mv: ModelVersion) -> dict[str, object]:
    """The keys that have signed a version, and its receipts."""
    from deploy import signing
    from deploy.repository import Repository

    repo = Repository(repository)
    return {"signatures": [bundle.key_hint or "certificate" for bundle in signing.signatures_of(repo, mv)],
            "receipts": [receipt.to_json() for receipt in signing.receipts_of(repo, mv)]}


def receipts_table(receipts: Sequence[Receipt]) -> object:
    """For people."""
    shown = table("", "at", "what", "result", "by", "passed", "notes", "signed with")
    for receipt in receipts:
        shown.add_row(receipt.at[:19].replace("T", " "), receipt.kind, receipt.result, receipt.by,
                      "\n".join(receipt.passed), "\n".join(receipt.notes), receipt.key_hint[:16] or "-")
    return shown


def _signer(key: str, certificates: tuple[Path, ...], passphrase_file: Path | None) -> Signer:
    from deploy import extras, signing

    extras.require("sign", "signing")
    if ":" in key and not Path(key).exists():
        return _python_signer(key)
    signer = signing.load_signer(key, certificates, functools.partial(_passphrase, key, passphrase_file))
    signing.keys.refuse_outdated(signer)
    return signer


def _python_signer(text: str) -> Signer:
    """The signer in a module, or what a function there returns. Raises SpecError."""
    import importlib
    import sys

    from deploy.errors import SpecError
    from deploy.signing import Signer

    module, _, attribute = text.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        named = getattr(importlib.import_module(module), attribute)
        signer = named if isinstance(named, Signer) else named()
    except Exception as error:
        raise SpecError(f"can't get a signer from {text}: {type(error).__name__}: {error!s:.200}",
                        hint="name pkg.module:attribute, a deploy.Signer or a function that returns one") from error
    if not isinstance(signer, Signer):
        raise SpecError(f"expected a deploy.Signer from {text}, got {type(signer).__name__}",
                        hint="deploy.Signer(public_key=..., sign=...)")
    return signer


def _passphrase(key: str, path: Path | None) -> bytes:
    """From the file, or asked for; empty where nobody can be asked."""
    import sys

    from deploy import files, signing
    from deploy.errors import SpecError

    if path is None:
        if not sys.stdin.isatty():
            return b""
        return str(click.prompt(f"passphrase of {key}", hide_input=True, err=True)).encode()
    try:
        text = files.read_given(path, _MOST_PASSPHRASE)
    except OSError as error:
        raise SpecError(f"can't read the passphrase file {path}: {files.reason(error)}",
                        hint="check the path, and who may read it") from None
    signing.keys.check_private(path, "the passphrase file")
    return text.rstrip(b"\r\n")


def _sign(app: click.Group) -> None:
    @command(app, "sign", example=_SIGN)
    @click.argument("what")
    @repository_option
    @_key_options("--key", "The private key (PEM), or a signer in Python.", required=True)
    @click.option("--output", type=click.Path(path_type=Path, dir_okay=False),
                  help="Of a directory: the file for the signature.")
    def sign(what: str, repository: Path | str, signer: Signer, output: Path | None, as_json: bool) -> None:
        """Sign a version, so that everybody can verify whose it is.

        The signature is an OpenSSF model signature (a Sigstore bundle), kept beside the version. WHAT is MODEL (its
        newest version), MODEL/VERSION, or the path of a directory that isn't published: then --output says where to.
        A version may be signed by many.
        """
        from deploy import signing

        directory = looked_at(what)
        if (directory is None) != (output is None):
            raise click.UsageError("--output goes with the path of a directory, and a directory needs it")
        with bytes_bar(f"signing {what}", quiet=as_json) as progress:
            if directory is not None:
                assert output is not None
                _check_outside(output, directory)
                bundle, name = signing.sign_directory(directory, signer, progress=progress), str(directory)
                _write(output, bundle.to_bytes())
            else:
                repo, mv = repository_at(repository), named(repository, what)
                bundle, name = signing.sign(repo, mv, signer, progress=progress), str(mv)
        signed = bundle.statement()
        tell({"what": name, "digest": f"sha256:{signed.digests['sha256']}", "key_hint": bundle.key_hint,
              "certificates": len(bundle.certificates), "signature": str(output) if output else None}, as_json,
             lambda: f"signed {name} with the key {bundle.key_hint[:16]}" + (f", in {output}" if output else ""))


def _verify(app: click.Group) -> None:
    @command(app, "verify", example=_VERIFY)
    @click.argument("what")
    @repository_option
    @click.option("--key", "signed_by", multiple=True, required=True, type=click.Path(path_type=Path, dir_okay=False),
                  help="Whom you trust: a public key, or certificates of a signer or an authority (PEM). Repeatable; "
                  "one of them has to have signed.")
    @click.option("--signature", type=click.Path(path_type=Path, dir_okay=False),
                  help="Of a directory: the file with its signature.")
    def verify(what: str, repository: Path | str, signed_by: tuple[Path, ...], signature: Path | None, as_json: bool
               ) -> None:
        """Verify who has signed a version, and that every byte is as signed.

        WHAT is MODEL (its newest version), MODEL/VERSION, or the path of a directory with its --signature, which
        `tfs sign` or `model_signing sign` wrote. (For digests without a signature: `tfs repository verify`.)
        """
        from deploy import signing

        directory = looked_at(what)
        if (directory is None) != (signature is None):
            raise click.UsageError("--signature goes with the path of a directory, and a directory needs it")
        with bytes_bar(f"verifying {what}", quiet=as_json) as progress:
            if directory is not None:
                assert signature is not None
                signed = signing.verify_directory(directory, signature, signed_by, progress=progress)
            else:
                repo, mv = repository_at(repository), named(repository, what)
                signed = signing.verify_signature(repo, mv, signed_by, progress=progress)
        tell(signed.to_json(), as_json, lambda: f"{signed.what} is as signed by {signed.signer} "
                                                f"({signed.files} files, sha256:{signed.digest[:16]})")


def _bom(app: click.Group) -> None:
    @command(app, "bom", example="tfs bom digits/3\ntfs bom digits/3 --output digits.cdx.json")
    @click.argument("what")
    @repository_option
    @click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write it here.")
    def bom(what: str, repository: Path | str, output: Path | None, as_json: bool) -> None:
        """Print a version's bill of materials: CycloneDX 1.6, JSON.

        Files with their digests, what made the model, what it takes and answers (a model card), who has signed it.
        WHAT is MODEL (its newest version) or MODEL/VERSION.
        """
        import json

        from deploy.report import ml_bom

        repo, mv = repository_at(repository), named(repository, what)
        data = ml_bom(repo, mv)
        if output is None:
            tell(data, True, lambda: "")
            return
        _write(output, json.dumps(data, indent=2).encode() + b"\n")
        tell({"what": str(mv), "output": str(output)}, as_json, lambda: f"wrote the bill of {mv} to {output}")


def _check_outside(output: Path, directory: Path) -> None:
    from deploy.errors import SpecError

    if output.resolve().is_relative_to(directory.resolve()):
        raise SpecError(f"the signature {output} would be a file of {directory} that isn't signed",
                        hint="write it beside the directory")


def _write(path: Path, data: bytes) -> None:
    from deploy.errors import SpecError

    try:
        path.write_bytes(data)
    except OSError as error:
        raise SpecError(f"can't write {path}: {error.strerror}", hint="name another file") from None

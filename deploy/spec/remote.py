"""The part `server/remote`: a TF Serving that somebody else starts and stops, known by its addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated

import msgspec
from msgspec import Meta

from deploy.addresses import Address, grpc_address, rest_url
from deploy.errors import SpecError
from deploy.spec.base import Struct

WHERE = "server/remote"


class RemoteTls(Struct, frozen=True):
    """How tfs connects over gRPC. PEM files, relative to this file."""

    ca: Annotated[str | None, Meta(description="authority to trust; the system's, if not given")] = None
    server_name: Annotated[str | None, Meta(
        description="name that the certificate is for, if it isn't the address that tfs connects to")] = None
    client_certificate: Annotated[str | None, Meta(
        description="what tfs shows to a server that wants to know its clients")] = None
    client_key: Annotated[str | None, Meta(description="private key of client_certificate")] = None


class RemotePart(Struct, frozen=True):
    """Where a server answers that somebody else starts, and where its files are."""

    grpc: Annotated[str, Meta(description="where it answers over gRPC, host:port")]
    rest: Annotated[str | None, Meta(description="its REST address, http://host:port; none, if not given")] = None
    config_file: Annotated[str | None, Meta(
        description="its --model_config_file, if tfs can write it: a path here, or ssh://user@host/path")] = None
    models: Annotated[str | dict[str, str] | None, Meta(
        description="directory that holds the models' base paths as the server sees them, or each model's base path; "
                    "if not given, the server sees the same paths as tfs")] = None
    stage: Annotated[str | None, Meta(
        description="where versions are copied to before the server is told: its directory of models as tfs can "
                    "write it, a path here or an address such as ssh://user@host/path")] = None
    unload: Annotated[tuple[str, ...], Meta(
        description="models that it serves, that this file doesn't have, and that the next change may unload")] = ()
    tls: Annotated[RemoteTls | None, Meta(description="TLS on the gRPC port")] = None


def checked_remote(part: RemotePart, beside: Path) -> RemotePart:
    """The part with absolute paths. beside: what relative ones start from. Raises SpecError."""
    _at("grpc", lambda: grpc_address(part.grpc))
    if part.rest is not None:
        rest = part.rest
        _at("rest", lambda: rest_url(rest))
    paths = (part.models,) if isinstance(part.models, str) else (part.models or {}).values()
    for path in paths:
        if not (path.startswith("/") or "://" in path) or ".." in PurePosixPath(path).parts:
            raise SpecError(f"expected an absolute path, got {path!r}", path=f"{WHERE}/models",
                            hint="the directory as the server sees it: the base_path in its config file",
                            id="bad-path")
    return msgspec.structs.replace(part, config_file=_place(part.config_file, beside, "config_file"),
                                   stage=_place(part.stage, beside, "stage"), tls=_tls(part.tls, beside))


def check_models(part: RemotePart, names: Iterable[str]) -> None:
    """Raises SpecError for a model whose base path on the server nobody has named."""
    for name in names:
        if isinstance(part.models, dict) and name not in part.models:
            raise SpecError(f"model {name!r} has no base path here", path=f"{WHERE}/models",
                            hint=f"{name}: /where/the/server/sees/it", id="missing-key")


def _at(field: str, check: Callable[[], object]) -> None:
    """Run a check; its message gets the field's path."""
    try:
        check()
    except SpecError as e:
        raise SpecError(e.message, path=f"{WHERE}/{field}", hint=e.hint, id=e.id) from None


def _place(text: str | None, beside: Path, field: str) -> str | None:
    """A path of this machine made absolute; an address as it is."""
    if text is None:
        return None
    address = Address.parse(text, f"{WHERE}/{field}")
    if address is None:
        return str((beside / Path(text).expanduser()).absolute())
    if not address.path:
        raise SpecError(f"{text!r} names no path", path=f"{WHERE}/{field}", hint="for example ssh://user@host/path",
                        id="bad-address")
    return str(address)


def _tls(tls: RemoteTls | None, beside: Path) -> RemoteTls | None:
    if tls is None:
        return None
    if (tls.client_certificate is None) != (tls.client_key is None):
        missing = "client_key" if tls.client_key is None else "client_certificate"
        raise SpecError(f"{missing} is missing: a certificate and its key go together", path=f"{WHERE}/tls",
                        id="bad-certificate")
    files = {}
    for name in ("ca", "client_certificate", "client_key"):
        value = getattr(tls, name)
        if value is not None:
            files[name] = str((beside / Path(value).expanduser()).absolute())
    return msgspec.structs.replace(tls, **files)

"""server/tls: PEM files looked at before a server is started with them, and what clients of that server need."""

from __future__ import annotations

import hashlib
import os
import ssl
import stat
from collections.abc import Mapping
from pathlib import Path

from deploy import render
from deploy.backends.base import CERTIFICATE_LABEL, tls_label
from deploy.errors import SpecError
from deploy.render.configs import TLS
from deploy.spec import Spec

_MOST_BYTES = 1 << 20
_FILES = ("certificate", "key", "client_ca", "ca", "client_certificate", "client_key")


def secrets(spec: Spec) -> dict[str, str]:
    """The config file that holds the private key, by its name; nothing without server/tls. Raises SpecError naming the
    file that can't be read, or that isn't what it should be."""
    tls = spec.server.tls
    if tls is None:
        return {}
    if spec.server.kubernetes is not None and spec.server.kubernetes.tls_secret is not None:
        return {}  # it is somebody else's, and there already
    texts = {name: _read(path, name) for name in _FILES if (path := getattr(tls, name)) is not None}
    assert tls.certificate and tls.key  # as the spec is checked
    _check_pair(tls.certificate, tls.key, "key")
    if tls.client_certificate and tls.client_key:
        _check_pair(tls.client_certificate, tls.client_key, "client_key")
    for name in ("client_ca", "ca"):
        if name in texts:
            _check_authority(texts[name], getattr(tls, name), name)
    return {TLS: render.ssl_config(texts["certificate"], texts["key"], texts.get("client_ca"))}


def fingerprint(spec: Spec) -> dict[str, str]:
    """What tells one set of files from another, without their contents; empty without server/tls."""
    tls = spec.server.tls
    if tls is None:
        return {}
    digest = hashlib.sha256()
    for name in ("certificate", "key", "client_ca"):
        path = getattr(tls, name)
        try:
            digest.update(f"{name} {_read(path, name) if path else ''}\0".encode())
        except SpecError:
            digest.update(f"{name} unreadable\0".encode())
    return {"tls": f"sha256:{digest.hexdigest()}"}


def labels(spec: Spec) -> Mapping[str, str]:
    """How clients connect, and with which files the server was started, for the server's labels."""
    tls = spec.server.tls
    return {} if tls is None else {**tls_label(tls.for_clients), CERTIFICATE_LABEL: fingerprint(spec)["tls"]}


def _read(path: str, name: str) -> str:
    where = f"server/tls/{name}"
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise SpecError(f"expected a PEM file, got {path}, which is no file", path=where, id="bad-certificate")
            text = file.read(_MOST_BYTES + 1).decode("ascii")
    except OSError as e:
        raise SpecError(f"can't read {path}: {e.strerror or e}", path=where, id="bad-certificate") from None
    except UnicodeDecodeError:
        text = ""
    if "-----BEGIN " not in text or len(text) > _MOST_BYTES:
        raise SpecError(f"expected a PEM file (-----BEGIN ...), got {path}", path=where,
                        hint="convert DER with: openssl x509 -inform der -in FILE" if name != "key" else
                        "convert DER with: openssl pkey -inform der -in FILE", id="bad-certificate")
    return text


def _check_pair(certificate: str, key: str, name: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def locked() -> str:
        raise SpecError(f"{key} has a pass phrase, and the server can't be told one", path=f"server/tls/{name}",
                        hint="write it without: openssl pkey -in FILE", id="bad-certificate")

    try:
        context.load_cert_chain(certificate, key, password=locked)
    except (ssl.SSLError, OSError, ValueError) as e:
        mismatch = "KEY_VALUES_MISMATCH" in str(e)
        why = "is the key of another certificate than" if mismatch else "can't be used with"
        raise SpecError(f"{Path(key).name} {why} {certificate}" + ("" if mismatch else f": {e}"),
                        path=f"server/tls/{name}", id="bad-certificate") from None


def _check_authority(text: str, path: str, name: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as e:
        raise SpecError(f"{path} holds no certificates that can be used: {e}", path=f"server/tls/{name}",
                        id="bad-certificate") from None

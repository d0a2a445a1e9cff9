"""Keys and who signs with them: PEM files, or a callable where the private key is in a token or a key service.

ECDSA on P-256, P-384 and P-521, each with the hash of its size, as OpenSSF model signing has it. Needs `cryptography`.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from deploy import files
from deploy.errors import SpecError

Passphrase = Callable[[], bytes]
"""Asked only for a key that is encrypted."""

_HASHES: dict[str, Callable[[], hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256, "secp384r1": hashes.SHA384, "secp521r1": hashes.SHA512}
_MOST = 1 << 20  # bytes of a PEM file
_WANTED = "an elliptic curve key on P-256, P-384 or P-521"
_MAKE = "make one: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out signer.key"


@dataclass(frozen=True)
class Signer:
    """Whoever signs.

    public_key: PEM. sign: from bytes to their ECDSA signature in DER, with SHA-256 for P-256, SHA-384 for P-384,
    SHA-512 for P-521; what a PKCS#11 token or a cloud's key service is asked in. certificates: PEM, of the key first,
    then those between it and the authority; none for a bare key.
    """

    public_key: bytes
    sign: Callable[[bytes], bytes] = field(repr=False)
    certificates: bytes = field(default=b"", repr=False)


def load_signer(path: str | Path, certificates: Iterable[str | Path] = (), passphrase: Passphrase | None = None,
                ) -> Signer:
    """A signer with a private key in a PEM file that only its owner can read; a pipe is fine, too.

    Raises SpecError, which never quotes the file.
    """
    text = _read(path, "the private key")
    if b"PRIVATE KEY-----" not in text:
        _refuse_public(text, str(path))
    check_private(Path(path), "the private key")
    key = _private_key(text, str(path), passphrase)
    chain = b"".join(_read(certificate, "the certificate") for certificate in certificates)
    public = public_pem(key.public_key())
    if chain and public_pem(certificate_key(load_certificates(chain, "--certificate")[0], "--certificate")) != public:
        raise SpecError(f"the first certificate isn't the one of {path}: it has another public key", id="wrong-key",
                        hint="name the signer's own certificate first, then those between it and its authority")
    algorithm = ec.ECDSA(hash_of(key.public_key()))
    return Signer(public, lambda data: key.sign(data, algorithm), chain)


def refuse_outdated(signer: Signer) -> None:
    """Raises SpecError if the signer's certificate isn't valid now, so that nobody would accept what is signed."""
    if not signer.certificates:
        return
    leaf, now = load_certificates(signer.certificates, "--certificate")[0], datetime.now(timezone.utc)
    begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if not begin <= now <= end:
        why = f"expired on {end:%Y-%m-%d %H:%M} UTC" if now > end else f"is valid from {begin:%Y-%m-%d %H:%M} UTC on"
        raise SpecError(f"the certificate of {leaf.subject.rfc4514_string()} {why}: nobody would accept the signature",
                        hint="have another one issued, or sign with the bare key: leave --certificate out"
                        if now > end else "look at this machine's clock", id="bad-key")


def _refuse_public(text: bytes, where: str) -> None:
    """Before its mode is looked at: a public key may be read by all."""
    for begin, what in ((b"BEGIN PUBLIC KEY-----", "public key"), (b"BEGIN CERTIFICATE-----", "public certificate")):
        if begin in text:
            raise SpecError(f"expected a private key in PEM, got {where}: it is a {what}", id="wrong-key",
                            hint="name the private key that belongs to it; whoever verifies gets the public one")


def _private_key(text: bytes, where: str, passphrase: Passphrase | None) -> ec.EllipticCurvePrivateKey:
    encrypted = b"ENCRYPTED" in text
    secret = passphrase() if encrypted and passphrase else None
    if encrypted and not secret:
        raise SpecError(f"the private key {where} is encrypted, and no passphrase is given",
                        id="passphrase",
                        hint="give it in a file that only you can read: --passphrase-file FILE")
    try:
        key = serialization.load_pem_private_key(text, secret)
    except UnsupportedAlgorithm:
        raise SpecError(f"expected {_WANTED} in {where}, got one that nobody here knows", hint=_MAKE,
                        id="bad-key") from None
    except (ValueError, TypeError):  # what they quote may be of the key
        if encrypted:
            raise SpecError(f"the private key {where} stays closed: the passphrase doesn't open it", id="passphrase",
                            hint="give the right one: --passphrase-file FILE, or TFS_PASSPHRASE_FILE") from None
        raise SpecError(f"expected a private key in PEM, got {where}: it is damaged, or in another format", hint=_MAKE,
                        id="bad-key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SpecError(f"expected {_WANTED} in {where}, got {_kind(key)}", hint=_MAKE, id="bad-key")
    _check_curve(key.curve, where)
    return key


def check_private(path: Path, what: str) -> None:
    """Raises SpecError for a file that other users can read or change."""
    mode = path.stat().st_mode
    if stat.S_ISREG(mode) and mode & (stat.S_IRWXO | stat.S_IWGRP):
        who = "every user of this machine can read it" if mode & stat.S_IROTH else "others may change it"
        raise SpecError(f"{what} {path} isn't private: {who} (mode {stat.S_IMODE(mode):04o})",
                        id="key-not-private",
                        hint=f"chmod 600 {path}; and make another one if somebody may have read it")


def load_public(path: str | Path) -> list[ec.EllipticCurvePublicKey | x509.Certificate]:
    """The public key, or the certificates, of a PEM file. Raises SpecError."""
    where, text = str(path), _read(path, "the key")
    if b"PRIVATE KEY-----" in text:
        raise SpecError(f"{where} is a private key, and to verify takes its public one only", id="wrong-key",
                        hint=f"openssl pkey -in {where} -pubout -out {Path(where).stem}.pub")
    if b"BEGIN CERTIFICATE" in text:
        return list(load_certificates(text, where))
    return [public_key(text, where)]


def public_key(text: bytes, where: str) -> ec.EllipticCurvePublicKey:
    """A public key in PEM. Raises SpecError, naming `where`."""
    try:
        key = serialization.load_pem_public_key(text)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SpecError(f"expected a public key or certificates in PEM, got {where}: damaged, or in another format",
                        id="bad-key", hint="openssl pkey -in signer.key -pubout") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise SpecError(f"expected {_WANTED} in {where}, got {_kind(key)}", hint=_MAKE, id="bad-key")
    _check_curve(key.curve, where)
    return key


def load_certificates(text: bytes, where: str) -> list[x509.Certificate]:
    """Certificates in PEM. Raises SpecError, naming `where`."""
    try:
        return x509.load_pem_x509_certificates(text)
    except ValueError as error:
        raise SpecError(f"expected certificates in PEM, got {where}: it is damaged, or in another format",
                        id="bad-key", hint="convert DER with: openssl x509 -inform der -in FILE") from error


def certificate_key(certificate: x509.Certificate, where: str) -> ec.EllipticCurvePublicKey:
    """The key of a certificate that signs. Raises SpecError for one of another kind."""
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise SpecError(f"expected {_WANTED} in {where}, got {_kind(key)}", hint=_MAKE, id="bad-key")
    _check_curve(key.curve, where)
    return key


def accepts(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes) -> bool:
    """Whether the owner of this key has signed these bytes. A key on another curve has signed nothing."""
    if key.curve.name not in _HASHES:
        return False
    try:
        key.verify(signature, data, ec.ECDSA(hash_of(key)))
    except InvalidSignature:
        return False
    return True


def public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def hint_of(public: bytes) -> str:
    """How a bundle names a key: SHA-256 of its PEM, in hexadecimal."""
    return hashlib.sha256(public).hexdigest()


def hash_of(key: ec.EllipticCurvePublicKey) -> hashes.HashAlgorithm:
    """What data is hashed with before this key signs it."""
    return _HASHES[key.curve.name]()


def _check_curve(curve: ec.EllipticCurve, where: str) -> None:
    if curve.name not in _HASHES:
        raise SpecError(f"expected {_WANTED} in {where}, got one on {curve.name}", hint=_MAKE, id="bad-key")


def _read(path: str | Path, what: str) -> bytes:
    try:
        return files.read_given(path, _MOST)
    except OSError as error:
        raise SpecError(f"can't read {what} {os.fspath(path)}: {files.reason(error)}",
                        hint="check the path, and who may read it") from error


def _kind(key: object) -> str:
    name = type(key).__name__.removesuffix("PublicKey").removesuffix("PrivateKey")
    return f"one of the kind {name.removeprefix('_') or 'unknown'}"

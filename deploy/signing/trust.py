"""Whom one trusts, and whether a signature is theirs. Needs `cryptography`.

A key is trusted as it is. A certificate is trusted while it is valid, and so is whoever it has certified: a bundle
brings the signer's certificate and those between. There is no trusted timestamp in such a bundle, so that a
certificate counts on the day on which the signature is looked at.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification as x509_verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from deploy.errors import SpecError, Untrusted
from deploy.signing import keys
from deploy.signing.envelope import SignatureBundle

Clock = Callable[[], datetime.datetime]
_SHOWN = 16  # hexadecimal digits of a key's fingerprint in a sentence


def _utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


@dataclass(frozen=True)
class TrustedSigners:
    """Keys and certificates, each with the file that it is from. now: by whose clock certificates are valid."""

    keys: Sequence[tuple[str, ec.EllipticCurvePublicKey]] = ()
    certificates: Sequence[tuple[str, x509.Certificate]] = ()
    now: Clock = field(default=_utc_now, repr=False)

    @classmethod
    def load(cls, paths: Iterable[str | Path], now: Clock = _utc_now) -> TrustedSigners:
        """Of PEM files: public keys, certificates of signers or of authorities. Raises SpecError."""
        public: list[tuple[str, ec.EllipticCurvePublicKey]] = []
        certificates: list[tuple[str, x509.Certificate]] = []
        for path in paths:
            for one in keys.load_public(path):
                if isinstance(one, x509.Certificate):
                    certificates.append((str(path), one))
                else:
                    public.append((str(path), one))
        if not public and not certificates:
            raise SpecError("no key or certificate is named that a signature could be by",
                            hint="--key signer.pub, or signed_by in the spec")
        return cls(public, certificates, now)

    def check(self, bundle: SignatureBundle, what: str) -> str:
        """Who has signed, for people. what: whose signature it is, `digits/3`. Raises Untrusted, one sentence."""
        data = bundle.signed_bytes
        for path, key in self.keys:
            if keys.accepts(key, bundle.signature, data):
                return f"the key {Path(path).name}"
        for path, certificate in self.certificates:  # its own key: the bundle needn't bring it
            own = certificate.public_key()
            if isinstance(own, ec.EllipticCurvePublicKey) and keys.accepts(own, bundle.signature, data):
                _check_valid(certificate, what, self.now())
                return f"{_subject(certificate)}, by the certificate {Path(path).name}"
        if not bundle.certificates:
            raise self._unknown(f"{what} is signed by the key {bundle.key_hint[:_SHOWN] or 'of nobody'}", bundle)
        return self._check_chain(bundle, what)

    def _check_chain(self, bundle: SignatureBundle, what: str) -> str:
        try:
            leaf, *between = [x509.load_der_x509_certificate(der) for der in bundle.certificates]
            key = keys.certificate_key(leaf, "the signature's certificate")
        except (ValueError, SpecError) as error:
            raise Untrusted(f"the certificate in the signature of {what} can't be used: {error}",
                            hint="sign it again") from error
        if not keys.accepts(key, bundle.signature, bundle.signed_bytes):
            raise Untrusted(f"the signature of {what} isn't by the certificate that it brings, of {_subject(leaf)}",
                            hint="it was changed, or put together wrongly: sign the version again")
        if not self.certificates:
            raise self._unknown(f"{what} is signed with a certificate of {_subject(leaf)}", bundle)
        _check_valid(leaf, what, self.now())
        try:
            self._verifier().verify(leaf, between)
        except x509_verification.VerificationError as error:
            why = str(error).replace("validation failed: ", "").replace("candidates exhausted: ", "")
            raise self._unknown(f"{what} is signed by {_subject(leaf)}, whose certificate none of the trusted ones "
                                f"vouches for ({why:.120})", bundle) from error
        _check_usage(leaf, what)
        return f"{_subject(leaf)}, certified by {leaf.issuer.rfc4514_string()}"

    def _verifier(self) -> x509_verification.ClientVerifier:
        """RFC 5280 as the web has it, without what only servers and browsers have: no names, any purpose."""
        permit_all = x509_verification.ExtensionPolicy.permit_all
        authority = permit_all().require_present(
            x509.BasicConstraints, x509_verification.Criticality.AGNOSTIC, _require_authority).may_be_present(
            x509.KeyUsage, x509_verification.Criticality.AGNOSTIC, _require_certifying)
        store = x509_verification.Store([certificate for _, certificate in self.certificates])
        return x509_verification.PolicyBuilder().store(store).time(self.now()).extension_policies(
            ca_policy=authority, ee_policy=permit_all()).build_client_verifier()

    def _unknown(self, sentence: str, bundle: SignatureBundle) -> Untrusted:
        trusted = [f"{Path(path).name} ({keys.hint_of(keys.public_pem(key))[:_SHOWN]})" for path, key in self.keys]
        trusted += [f"{Path(path).name} ({_subject(certificate)})" for path, certificate in self.certificates]
        return Untrusted(f"{sentence}, which isn't trusted; trusted: {', '.join(trusted)}",
                         hint="have it signed by one of them, or name its key, if you trust it",
                         details={"key_hint": bundle.key_hint, "trusted": trusted})


def _require_authority(_: object, certificate: x509.Certificate, extension: x509.BasicConstraints) -> None:
    if not extension.ca:
        raise ValueError(f"{_subject(certificate)} is no authority")


def _require_certifying(_: object, certificate: x509.Certificate, extension: x509.KeyUsage | None) -> None:
    if extension is not None and not extension.key_cert_sign:
        raise ValueError(f"{_subject(certificate)} may not certify others")


def _check_valid(certificate: x509.Certificate, what: str, now: datetime.datetime) -> None:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begin <= now <= end:
        why = f"expired on {end:%Y-%m-%d %H:%M} UTC" if now > end else f"is valid from {begin:%Y-%m-%d %H:%M} UTC on"
        raise Untrusted(f"{what} is signed with a certificate of {_subject(certificate)} that {why}",
                        hint="sign it again with a valid certificate" if now > end else "look at this machine's clock",
                        details={"not_before": begin.isoformat(), "not_after": end.isoformat()})


def _check_usage(leaf: x509.Certificate, what: str) -> None:
    """Raises Untrusted unless the certificate says that its key is for signing, or for code."""
    extensions = leaf.extensions
    try:
        if extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature:
            return
    except x509.ExtensionNotFound:
        pass
    try:
        if ExtendedKeyUsageOID.CODE_SIGNING in extensions.get_extension_for_class(x509.ExtendedKeyUsage).value:
            return
    except x509.ExtensionNotFound:
        pass
    raise Untrusted(f"{what} is signed with a certificate of {_subject(leaf)} that isn't for signing",
                    hint="it needs the key usage digitalSignature, or the extended one codeSigning")


def _subject(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "nobody"

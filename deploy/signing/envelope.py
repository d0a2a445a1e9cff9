"""The formats of a signature: a DSSE envelope around an in-toto statement, in a Sigstore bundle v0.3 (JSON).

Nothing here signs or trusts anything. See github.com/secure-systems-lab/dsse, docs.sigstore.dev/about/bundle and
github.com/in-toto/attestation.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deploy.errors import Malformed
from deploy.repository.stores.attachments import BUNDLE, MOST_BYTES, STATEMENT, Attachment

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_MOST_CERTIFICATES = 16
_AGAIN = "sign the version again"


@dataclass(frozen=True, slots=True)
class Statement:
    """Something said about files: an in-toto statement.

    name: of what it is said. digests: algorithm -> hexadecimal. predicate_type: what kind of thing is said.
    """

    name: str
    digests: Mapping[str, str]
    predicate_type: str
    predicate: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"_type": STATEMENT_TYPE, "subject": [{"name": self.name, "digest": dict(self.digests)}],
                "predicateType": self.predicate_type, "predicate": dict(self.predicate)}

    def to_bytes(self) -> bytes:
        """JSON; the same bytes for the same values."""
        return json.dumps(self.to_json(), ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, text: bytes, where: str) -> Statement:
        """The inverse of `to_bytes`. Raises Malformed, naming `where`."""
        data = _json(text, where)
        try:
            if data["_type"] != STATEMENT_TYPE or len(data["subject"]) != 1:
                raise ValueError(f"expected one subject and the type {STATEMENT_TYPE}")
            subject, predicate = data["subject"][0], data["predicate"]
            digests = {str(algorithm): str(value) for algorithm, value in subject["digest"].items()}
            if not isinstance(predicate, dict):
                raise TypeError("predicate is no object")
            return cls(str(subject["name"]), digests, str(data["predicateType"]), predicate)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _malformed(where, "no in-toto statement", error) from error


@dataclass(frozen=True, slots=True)
class SignatureBundle:
    """A signed statement.

    payload: the statement's bytes, as they were signed. signature: ECDSA in DER. key_hint: names the key, without
    proving anything. certificates: DER, the signer's own first; none where a bare key has signed.
    """

    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    key_hint: str = ""
    certificates: Sequence[bytes] = field(default=(), repr=False)

    @property
    def signed_bytes(self) -> bytes:
        return pae(self.payload)

    def statement(self, where: str = "the signature") -> Statement:
        """What was signed. Raises Malformed."""
        return Statement.from_bytes(self.payload, where)

    def to_bytes(self) -> bytes:
        """The bundle as JSON: what `model_signing verify` and Sigstore's clients read."""
        chain = {"certificates": [{"rawBytes": _b64(der)} for der in self.certificates]}
        material = {"x509CertificateChain": chain} if self.certificates else {"publicKey": {"hint": self.key_hint}}
        envelope = {"payload": _b64(self.payload), "payloadType": STATEMENT,
                    "signatures": [{"sig": _b64(self.signature), "keyid": ""}]}
        return json.dumps({"mediaType": BUNDLE, "verificationMaterial": {**material, "tlogEntries": []},
                           "dsseEnvelope": envelope}).encode()

    def attachment(self) -> Attachment:
        """As it is kept beside a version."""
        return Attachment(BUNDLE, self.to_bytes())

    @classmethod
    def from_bytes(cls, text: bytes, where: str) -> SignatureBundle:
        """The inverse of `to_bytes`, of whoever wrote it. Raises Malformed, naming `where`."""
        data = _json(text, where)
        try:
            if data["mediaType"] != BUNDLE:
                raise ValueError(f"expected the media type {BUNDLE}, seen {data['mediaType']!s:.100}")
            material, envelope = data["verificationMaterial"], data["dsseEnvelope"]
            if envelope["payloadType"] != STATEMENT:
                raise ValueError(f"expected a payload of type {STATEMENT}, seen {envelope['payloadType']!s:.100}")
            if len(envelope["signatures"]) != 1:
                raise ValueError(f"expected one signature, seen {len(envelope['signatures'])}")
            hint = (material.get("publicKey") or {}).get("hint") or ""
            return cls(_bytes(envelope["payload"]), _bytes(envelope["signatures"][0]["sig"]), str(hint),
                       tuple(_bytes(one["rawBytes"]) for one in _certificates(material)))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _malformed(where, "no Sigstore bundle with a DSSE envelope", error) from error


def pae(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: the bytes that are signed."""
    return b"DSSEv1 %d %s %d %s" % (len(STATEMENT), STATEMENT.encode(), len(payload), payload)


def _certificates(material: Mapping[str, Any]) -> list[Any]:
    if "certificate" in material:
        return [material["certificate"]]
    chain = list((material.get("x509CertificateChain") or {}).get("certificates", ()))
    if len(chain) > _MOST_CERTIFICATES:
        raise ValueError(f"expected at most {_MOST_CERTIFICATES} certificates, seen {len(chain)}")
    return chain


def _json(text: bytes, where: str) -> Any:
    if len(text) > MOST_BYTES:
        raise Malformed(f"{where} has more than {MOST_BYTES:,} bytes", hint=_AGAIN)
    try:
        return json.loads(text)
    except (ValueError, RecursionError, MemoryError) as error:
        raise _malformed(where, "no JSON", error) from error


def _malformed(where: str, what: str, error: BaseException) -> Malformed:
    why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    return Malformed(f"{where} is {what}: {why:.200}", hint=_AGAIN)


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()

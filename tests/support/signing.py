"""Keys and certificates for tests."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A private key in a file, its public key in another."""

    key: Path
    public: Path


def key_pair(where: Path, name: str = "signer", curve: ec.EllipticCurve | None = None, passphrase: bytes = b"") -> Pair:
    """An EC key. curve: P-256 by default."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    pair = Pair(where / f"{name}.key", where / f"{name}.pub")
    pair.key.touch(0o600)
    pair.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    pair.public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM,
                                                          serialization.PublicFormat.SubjectPublicKeyInfo))
    return pair


@dataclass(frozen=True)
class Certified:
    """A key with its certificate."""

    key: Path
    certificate: Path
    _private: ec.EllipticCurvePrivateKey
    _x509: x509.Certificate

    @classmethod
    def by(cls, authority: Certified | None, where: Path, name: str, *, ca: bool = False,
           until: datetime.datetime = NOW + DAY, signs: bool = True) -> Certified:
        """Certified by an authority, or by itself. signs: whether it says that it may."""
        pair = key_pair(where, name)
        key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(signs and not ca, False, False, False, False, ca, False, False, False)
        certificate = x509.CertificateBuilder(
            authority._x509.subject if authority else subject, subject, key.public_key(), x509.random_serial_number(),
            NOW - 10 * DAY, until).add_extension(x509.BasicConstraints(ca, None), True).add_extension(
            usage, True).sign(authority._private if authority else key, hashes.SHA256())
        path = where / f"{name}.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return cls(pair.key, path, key, certificate)

"""What a signature says of a version, in OpenSSF model signing's words (OMS, predicate v1.0): SHA-256 of every file.

The subject's digest is SHA-256 over the files' digests in the order of their paths. Beside it stands the manifest's own
digest, which receipts name, since it is known without reading a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from deploy import files
from deploy.errors import DigestMismatch, Malformed
from deploy.repository import Manifest
from deploy.signing.envelope import Statement

SIGNATURE_TYPE = "https://model_signing/signature/v1.0"
ALGORITHM = "sha256"
_GIT = (".git", ".gitattributes", ".github", ".gitignore")
"""What model_signing leaves out by itself. No server reads it."""
_NAMED = 5


def signature_of(name: str, digests: Mapping[str, str], manifest: Manifest | None) -> Statement:
    """What is signed of a version. name: `digits/3`. digests: file -> SHA-256, the manifest's own file as well."""
    ordered = dict(sorted(digests.items(), key=lambda item: PurePosixPath(item[0])))
    resources = [{"name": path, "algorithm": ALGORITHM, "digest": digest} for path, digest in ordered.items()]
    serialization = {"method": "files", "hash_type": ALGORITHM, "allow_symlinks": False}
    return Statement(name, {ALGORITHM: root_digest(ordered), **manifest_digest(manifest)}, SIGNATURE_TYPE,
                     {"serialization": serialization, "resources": resources})


def root_digest(digests: Mapping[str, str]) -> str:
    """The digest of a version: SHA-256 over those of its files, in this order."""
    return hashlib.sha256(b"".join(map(bytes.fromhex, digests.values()))).hexdigest()


def manifest_digest(manifest: Manifest | None) -> dict[str, str]:
    """What a manifest says of all files, as one of a subject's digests: `tfs_blake3`."""
    if manifest is None:
        return {}
    algorithm, _, value = manifest.digest.partition(":")
    return {f"tfs_{algorithm}": value}


def signed_digests(statement: Statement, where: str) -> dict[str, str]:
    """File -> SHA-256, as signed. Raises Malformed for a statement that isn't a signature of whole files."""
    if statement.predicate_type != SIGNATURE_TYPE:
        raise Malformed(f"{where} says {statement.predicate_type:.100}, expected {SIGNATURE_TYPE}",
                        hint="it is of another release of model signing: sign the version again")
    try:
        serialization, resources = statement.predicate["serialization"], statement.predicate["resources"]
        if serialization["method"] != "files":
            raise ValueError(f"expected digests of whole files, seen of {serialization['method']!s:.40}")
        digests = {_name(one): _digest(one) for one in resources}
        if len(digests) != len(resources):
            raise ValueError("a file is named twice")
        if root_digest(digests) != statement.digests.get(ALGORITHM):
            raise ValueError("its files don't give the digest of its subject")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Malformed(f"{where} can't be read: {error!s:.200}", hint="sign the version again") from error
    return digests


def _name(resource: Mapping[str, Any]) -> str:
    name = str(resource["name"])
    if files.escapes(name):
        raise ValueError(f"{name!r:.100} is no file of a version")
    return name


def _digest(resource: Mapping[str, Any]) -> str:
    if resource["algorithm"] != ALGORITHM:
        raise ValueError(f"expected SHA-256, seen {resource['algorithm']!s:.40}")
    digest = str(resource["digest"])
    if len(bytes.fromhex(digest)) != 32:
        raise ValueError(f"{digest:.80} is no SHA-256")
    return digest.lower()


def compare(signed: Mapping[str, str], actual: Mapping[str, str], what: str, hint: str) -> None:
    """Raises DigestMismatch naming the files that aren't what was signed, or that weren't signed."""
    extra = [name for name in actual.keys() - signed.keys() if PurePosixPath(name).parts[0] not in _GIT]
    wrong = {"missing": sorted(signed.keys() - actual.keys()), "not signed": sorted(extra),
             "changed": sorted(name for name in signed.keys() & actual.keys() if signed[name] != actual[name])}
    if any(wrong.values()):
        parts = [f"{difference}: {', '.join(names[:_NAMED])}"
                 + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
                 for difference, names in wrong.items() if names]
        raise DigestMismatch(f"{what} isn't what was signed: {'; '.join(parts)}", hint=hint, details=dict(wrong))

"""sign, verify_signature, require_signed: versions, and who vouches for them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from deploy import extras, files, signing
from deploy.errors import DeployError, DigestMismatch, Malformed, RepositoryError, SpecError, Untrusted
from deploy.repository import Manifest, Repository, Store
from deploy.repository.copying import Progress
from deploy.repository.failures import translated
from deploy.repository.naming import MANIFEST_FILE
from deploy.repository.stores.attachments import BUNDLE, MOST_BYTES, Attachment
from deploy.repository.stores.directory import DirectoryStore
from deploy.repository.versions import digests, find_manifest
from deploy.signing import statements
from deploy.signing.envelope import SignatureBundle, Statement, pae
from deploy.types import ModelVersion

if TYPE_CHECKING:
    from deploy.signing.keys import Signer
    from deploy.signing.trust import TrustedSigners

Paths = Iterable[str | Path]


@dataclass(frozen=True, slots=True)
class SignedVersion:
    """A version whose signature counts.

    what: the version, or a directory. signer: whose it is, for people. digest: SHA-256 of all files, as signed.
    files: how many were compared with it.
    """

    what: str
    signer: str
    digest: str
    files: int

    def to_json(self) -> dict[str, object]:
        """Plain JSON data."""
        return {"what": self.what, "signer": self.signer, "digest": f"sha256:{self.digest}", "files": self.files}


def sign(repository: Repository, mv: ModelVersion, signer: Signer | str | Path, *,
         progress: Progress | None = None) -> SignatureBundle:
    """Sign a published version; the signature is kept beside it, where `verify_signature` and `up` look for it.

    signer: a private key's PEM file, or a `Signer`, which may ask a token or a key service. A version may be signed by
    many. What was changed since it was published isn't signed.

    Raises SpecError for a key that can't sign, DigestMismatch, VersionNotFound, RepositoryError, BackendMissing without
    the extra `sign`.
    """
    extras.require("sign", "signing")
    signer = _loaded(signer)
    actual = _digests(repository.store, repository.name(mv), str(mv), progress)
    manifest = repository.find_verified(mv)  # after that, so that what was changed meanwhile isn't signed
    bundle = sign_statement(statements.signature_of(str(mv), actual, manifest), signer)
    repository.attach(mv, bundle.attachment())
    return bundle


def sign_directory(directory: str | Path, signer: Signer | str | Path, *, progress: Progress | None = None
                   ) -> SignatureBundle:
    """Sign a directory that isn't published, for `verify_directory` or `model_signing verify`. Raises as `sign`."""
    extras.require("sign", "signing")
    store, name = _beside(Path(directory))
    actual = _digests(store, name, str(directory), progress)
    manifest = find_manifest(store, name)
    return sign_statement(statements.signature_of(name, actual, manifest), _loaded(signer))


def sign_statement(statement: Statement, signer: Signer) -> SignatureBundle:
    """Sign what is said. Raises RepositoryError where the signer fails, SpecError where it isn't the key's owner."""
    payload = statement.to_bytes()
    public = signing.keys.public_key(signer.public_key, "the signer's public key")
    try:
        signature = signer.sign(pae(payload))
    except DeployError:
        raise
    except Exception as error:  # whatever asks a token or a service raises
        raise RepositoryError(f"{statement.name} isn't signed: the signer failed with {type(error).__name__}: "
                              f"{error!s:.200}", hint="look at the token or the key service") from error
    if not isinstance(signature, bytes) or not signing.keys.accepts(public, signature, pae(payload)):
        raise SpecError("the signer gave a signature that its own public key doesn't accept",
                        hint="it has to be ECDSA in DER over all the bytes, hashed with SHA-256 for P-256, SHA-384 for "
                        "P-384, SHA-512 for P-521")
    chain = signing.keys.load_certificates(signer.certificates, "the certificate") if signer.certificates else []
    return SignatureBundle(payload, signature, signing.keys.hint_of(signing.keys.public_pem(public)),
                           tuple(signing.keys.der(certificate) for certificate in chain))


def verify_signature(repository: Repository, mv: ModelVersion, signed_by: Paths | TrustedSigners, *,
                     at: Path | None = None, progress: Progress | None = None) -> SignedVersion:
    """Check that somebody whom the caller trusts has signed a version, and that its bytes are what was signed.

    signed_by: PEM files with public keys, or with certificates of signers or of authorities; one of them is enough.
    at: a copy of the version on this machine, whose bytes are read instead of the repository's.

    Raises Untrusted for a version that isn't signed, or by nobody whom one trusts; DigestMismatch where files were
    changed, are missing, or weren't signed; Malformed, VersionNotFound, RepositoryError; SpecError for a key that can't
    be used; BackendMissing without the extra `sign`.
    """
    extras.require("sign", "verifying signatures")
    signers = _trusted(signed_by)
    trusted = _by_trusted(repository, mv, signers)
    store, name = (repository.store, repository.name(mv)) if at is None else _beside(at)
    actual, manifest = _digests(store, name, str(mv), progress), find_manifest(store, name)
    if manifest is None and at is not None and (manifest := repository.find_manifest(mv)) is not None:
        actual[MANIFEST_FILE] = hashlib.sha256(manifest.to_bytes()).hexdigest()  # it is written last
    problem: DeployError | None = None
    for signer, bundle in reversed(trusted):
        try:
            return _matching(bundle, actual, manifest, mv, signer)
        except DeployError as error:
            problem = problem or error
    assert problem is not None, "there is a signature that is trusted"
    raise problem


def require_signed(repository: Repository, mv: ModelVersion, signed_by: Paths, *, at: Path | None = None,
                   progress: Progress | None = None) -> SignedVersion | None:
    """`verify_signature`, where anybody has to have signed: None, and nothing is looked at, where nobody has to.

    What `up`, `rollout`, `mirror` and `image` ask before a version is served, copied or baked. Raises as it does.
    """
    required = tuple(signed_by)
    return verify_signature(repository, mv, required, at=at, progress=progress) if required else None


def verify_directory(directory: str | Path, signature: str | Path, signed_by: Paths | TrustedSigners, *,
                     progress: Progress | None = None) -> SignedVersion:
    """`verify_signature` of any directory with its bundle in a file, also of one that `model_signing sign` wrote."""
    extras.require("sign", "verifying signatures")
    directory, path = Path(directory), Path(signature)
    try:
        bundle = SignatureBundle.from_bytes(files.read_given(path, MOST_BYTES), str(path))
    except OSError as error:
        raise SpecError(f"can't read the signature {path}: {files.reason(error)}", hint="check the path") from error
    what = str(directory)
    signer = _trusted(signed_by).check(bundle, what)
    signed = statements.signed_digests(bundle.statement(str(path)), str(path))
    actual = _digests(*_beside(directory), what, progress)
    if path.resolve().is_relative_to(directory.resolve()):
        actual.pop(path.resolve().relative_to(directory.resolve()).as_posix(), None)
    statements.compare(signed, actual, what, "get it again from whoever signed it")
    return SignedVersion(what, signer, statements.root_digest(signed), len(signed))


def signatures_of(repository: Repository, mv: ModelVersion) -> list[SignatureBundle]:
    """All signatures of a version, oldest first, whosever they are. Those that can't be read are left out: anybody who
    can write beside a version may have put them there."""
    bundles = []
    for attachment in repository.attachments(mv, BUNDLE):
        with suppress(Malformed):
            bundles += _signature(attachment, mv)
    return bundles


def _signature(attachment: Attachment, mv: ModelVersion) -> list[SignatureBundle]:
    """The signature that an attachment is; none for another thing. Raises Malformed."""
    where = f"a signature of {mv}"
    if attachment.media_type != BUNDLE:
        return []
    bundle = SignatureBundle.from_bytes(attachment.data, where)
    return [bundle] if bundle.statement(where).predicate_type == statements.SIGNATURE_TYPE else []


def _by_trusted(repository: Repository, mv: ModelVersion, signers: TrustedSigners
                ) -> list[tuple[str, SignatureBundle]]:
    """The signatures by somebody trusted, with their names. Raises Untrusted or Malformed if there are none."""
    repository.name(mv)
    trusted: list[tuple[str, SignatureBundle]] = []
    problem: DeployError | None = None
    for attachment in repository.attachments(mv):
        try:
            trusted += [(signers.check(bundle, str(mv)), bundle) for bundle in _signature(attachment, mv)]
        except (Untrusted, Malformed) as error:
            problem = error
    if trusted:
        return trusted
    raise problem or Untrusted(f"{mv} in {repository.store} isn't signed",
                               hint=f"sign it, if it may be served: tfs sign {mv} --key FILE")


def _matching(bundle: SignatureBundle, actual: Mapping[str, str], manifest: Manifest | None, mv: ModelVersion,
              signer: str) -> SignedVersion:
    where = f"the signature of {mv}"
    statement = bundle.statement(where)
    signed = statements.signed_digests(statement, where)
    statements.compare(signed, actual, str(mv), "publish it again under another number, and have that signed")
    name = str(manifest.model_version) if manifest else statement.name  # the manifest is signed, too
    if name != str(mv):
        raise DigestMismatch(f"{mv} was signed as {name}: it is a copy under another name",
                             hint="versions are copied between models by publishing them, and signed then")
    return SignedVersion(str(mv), signer, statements.root_digest(signed), len(signed))


def file_digests(repository: Repository, mv: ModelVersion, progress: Progress | None = None) -> dict[str, str]:
    """File -> SHA-256 of a version, its manifest as well, in the order of a signature; every byte is read."""
    records = _digests(repository.store, repository.name(mv), str(mv), progress)
    return dict(sorted(records.items(), key=lambda item: PurePosixPath(item[0])))


def _digests(store: Store, name: str, what: str, progress: Progress | None) -> dict[str, str]:
    with translated(f"read {what}", f"{store}/{name}"):
        records = digests(store, name, statements.ALGORITHM, progress)
    return {path: record.digest for path, record in records.items()}


def _beside(directory: Path) -> tuple[Store, str]:
    """A directory as a version in a store."""
    path = directory.absolute()
    return DirectoryStore(path.parent), path.name


def _loaded(signer: Signer | str | Path) -> Signer:
    return signing.keys.load_signer(signer) if isinstance(signer, str | Path) else signer


def _trusted(signed_by: Paths | TrustedSigners) -> TrustedSigners:
    if isinstance(signed_by, signing.trust.TrustedSigners):
        return signed_by
    return signing.trust.TrustedSigners.load(signed_by)

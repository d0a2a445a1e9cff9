"""What belongs to a version's image and came after it, such as signatures: artifacts whose subject the image is.

Registries list them (the referrers API of OCI 1.1). For those that don't, OCI has a tag, `sha256-<digest of the
image>`, whose index every client reads, extends and puts back, so that of two at once one may be lost. Therefore each
also gets a tag of its own, `sha256-<digest>.tfs-<id>`: we lose nothing, and whoever adds the next mends the index.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from deploy.errors import Malformed
from deploy.repository.stores.attachments import BUNDLE, STATEMENT, Attachment
from deploy.repository.stores.oci import image
from deploy.repository.stores.oci.image import CREATED, INDEX, MANIFEST, Descriptor
from deploy.repository.stores.oci.remote import NOTHING, Fetched, Remote
from deploy.types import ModelVersion

MOST = 1000  # of one image


@dataclass(frozen=True, slots=True)
class Referrer:
    """An artifact of one file. created: ISO 8601, UTC. digest: of its manifest."""

    media_type: str
    data: bytes = field(repr=False)
    created: str
    digest: str


class ImageAttachments:
    """Signatures and receipts of a store's versions. subject: where a version is, and its image's manifest; raises
    FileNotFoundError if there is none."""

    def __init__(self, subject: Callable[[ModelVersion], tuple[Remote, Descriptor]]) -> None:
        self._subject = subject

    def add(self, mv: ModelVersion, attachment: Attachment) -> None:
        attach(*self._subject(mv), attachment.media_type, attachment.data)

    def of(self, mv: ModelVersion, media_type: str | None = None) -> list[Attachment]:
        try:
            referrers = attached(*self._subject(mv), {media_type} if media_type else {BUNDLE, STATEMENT})
        except FileNotFoundError:
            return []
        return [Attachment(referrer.media_type, referrer.data) for referrer in referrers]

    def remove(self, mv: ModelVersion) -> None:
        with suppress(FileNotFoundError):
            remove(*self._subject(mv))


def attach(remote: Remote, subject: Descriptor, media_type: str, data: bytes) -> None:
    """Add one; nothing happens if there is the same already."""
    blob = image.described(data, media_type)
    if any(there.media_type == media_type and there.data == data for there in attached(remote, subject, {media_type})):
        return
    remote.push(blob, lambda: io.BytesIO(data))
    remote.push(NOTHING, lambda: io.BytesIO(b"{}"))
    created = datetime.now(timezone.utc).isoformat(timespec="microseconds")
    manifest = image.artifact(NOTHING, (blob,), {CREATED: created}, media_type, subject)
    own = image.described(manifest, MANIFEST)
    reply = remote.put_manifest(own.digest, manifest, again=True)
    if reply.headers.get("oci-subject") == subject.digest:
        return
    remote.put_manifest(f"{_tag(subject)}.tfs-{own.digest[7:19]}", manifest, again=True)
    _mend_index(remote, subject)


def _mend_index(remote: Remote, subject: Descriptor) -> None:
    """Have everything in the index that has a tag."""
    entries = {str(entry.get("digest")): entry for entry in _index(remote, _tag(subject))}
    for digest in set(_tagged(remote, subject)) - entries.keys():
        fetched = remote.manifest(digest)
        entries[digest] = {**fetched.descriptor.to_json(), "artifactType": str(fetched.fields.get("artifactType", "")),
                           "annotations": fetched.fields.get("annotations", {})}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entries[digest] for digest in sorted(entries)]}
    remote.put_manifest(_tag(subject), image.to_bytes(index), INDEX)


def attached(remote: Remote, subject: Descriptor, media_types: set[str]) -> list[Referrer]:
    """Those of these media types, oldest first. Raises Malformed where there are more than make sense."""
    referrers = []
    for digest in _digests(remote, subject):
        try:
            fetched = remote.manifest(digest)
        except FileNotFoundError:  # the list isn't new, or the artifact was removed meanwhile
            continue
        media_type = str(fetched.fields.get("artifactType", ""))
        if media_type in media_types and _subject(fetched) == subject.digest:
            referrers.append(_read(remote, fetched, media_type))
    return sorted(referrers, key=lambda referrer: (referrer.created, referrer.digest))


def remove(remote: Remote, subject: Descriptor) -> None:
    """All of an image, as far as the registry lets anybody delete."""
    for digest in _digests(remote, subject):
        remote.delete(digest)
    index = remote.find_digest(_tag(subject))
    if index is not None:
        remote.delete(index)


def _digests(remote: Remote, subject: Descriptor) -> list[str]:
    """The manifests of all artifacts of an image: from the registry, or from the tags that stand in for it."""
    listed = remote.referrers(subject.digest)
    if listed is None:
        digests = [str(entry.get("digest")) for entry in _index(remote, _tag(subject))]
        digests = list(dict.fromkeys([*digests, *_tagged(remote, subject)]))
    else:
        digests = [str(entry.get("digest")) for entry in listed]
    if len(digests) > MOST:
        raise Malformed(f"{remote}@{subject.digest} has more than {MOST:,} signatures and receipts",
                        hint="look what adds them")
    return digests


def _index(remote: Remote, tag: str) -> list[dict[str, Any]]:
    try:
        entries = remote.manifest(tag).fields.get("manifests")
    except FileNotFoundError:
        return []
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _tagged(remote: Remote, subject: Descriptor) -> list[str]:
    """Digests of what has a tag of its own."""
    start = f"{_tag(subject)}.tfs-"
    digests = [remote.find_digest(tag) for tag in remote.tags() if tag.startswith(start)]
    return [digest for digest in digests if digest is not None]


def _read(remote: Remote, fetched: Fetched, media_type: str) -> Referrer:
    try:
        (layer,) = fetched.fields["layers"]
        blob = Descriptor(str(layer["mediaType"]), str(layer["digest"]), int(layer["size"]))
        created = str(fetched.fields.get("annotations", {}).get(CREATED, ""))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise Malformed(f"{remote}@{fetched.descriptor.digest} isn't an artifact of one file",
                        hint="look what was attached there") from error
    return Referrer(media_type, remote.blob(blob), created, fetched.descriptor.digest)


def _subject(fetched: Fetched) -> str:
    subject = fetched.fields.get("subject")
    return str(subject.get("digest")) if isinstance(subject, dict) else ""


def _tag(subject: Descriptor) -> str:
    return subject.digest.replace(":", "-")

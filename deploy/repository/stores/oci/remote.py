"""One repository of a registry, `team/models/digits`: its tags, manifests and blobs."""

from __future__ import annotations

import errno
import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

from urllib3.exceptions import HTTPError

from deploy.errors import DigestMismatch, Malformed
from deploy.repository.failures import Refused
from deploy.repository.stores.oci.connection import RegistryReply, RegistryRequest, pause
from deploy.repository.stores.oci.credentials import DOCKER_HUB
from deploy.repository.stores.oci.image import EMPTY, INDEX, MANIFEST, Descriptor, artifact, described, to_bytes
from deploy.repository.stores.oci.registry import Registry
from deploy.repository.stores.ranged import open_ranged
from deploy.waiting import Deadline

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MOST_NAME = 255
_MOST_SMALL = 80 << 20  # bytes of a blob that is read whole: a manifest of 100,000 files, a signature
_ACCEPT = ", ".join((MANIFEST, INDEX, "application/vnd.docker.distribution.manifest.v2+json",
                     "application/vnd.docker.distribution.manifest.list.v2+json"))
NOTHING = described(b"{}", EMPTY)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A manifest as the registry has it. fields: its JSON object."""

    descriptor: Descriptor
    fields: dict[str, Any]


class Remote:
    """Thread-safe. Everything raises Refused, and FileNotFoundError for what isn't there."""

    def __init__(self, registry: Registry, name: str) -> None:
        self.registry = registry
        self.name = f"library/{name}" if registry.host == DOCKER_HUB and "/" not in name else name

    def __str__(self) -> str:
        return f"{self.registry.host}/{self.name}"

    @staticmethod
    def allowed(name: str) -> bool:
        """Whether a registry can have a repository of this name: lower case, as the OCI specification has it."""
        return len(name) <= _MOST_NAME and _NAME.fullmatch(name) is not None

    def tags(self) -> list[str]:
        """All tags, as the registry sorts them; none if there is no such repository."""
        what, tags = f"list the tags of {self.name}", list[str]()
        for reply in self.registry.pages(f"{self.name}/tags/list?n=1000", what, self._scope("pull")):
            if reply.status == 404:
                break
            self._expect(reply, what, 200)
            try:
                tags += [str(tag) for tag in reply.json().get("tags") or ()]
            except (ValueError, AttributeError, TypeError) as error:
                raise self._strange(reply, what) from error
        return tags

    def find_digest(self, reference: str) -> str | None:
        """The digest of what a tag names now; None if nothing is called so."""
        what = f"look for {self.name}:{reference}"
        reply = self._ask("HEAD", f"manifests/{reference}", what, headers={"Accept": _ACCEPT})
        if reply.status == 404:
            return None
        self._expect(reply, what, 200)
        return reply.headers.get("docker-content-digest") or self.manifest(reference).descriptor.digest

    def manifest(self, reference: str) -> Fetched:
        """A manifest by tag or digest. Raises DigestMismatch, Malformed."""
        what = f"pull {self.name}:{reference}"
        reply = self._ask("GET", f"manifests/{reference}", what, headers={"Accept": _ACCEPT})
        if reply.status == 404:
            raise FileNotFoundError(errno.ENOENT, "the registry has no such manifest", f"{self}:{reference}")
        self._expect(reply, what, 200)
        digest = f"sha256:{hashlib.sha256(reply.data).hexdigest()}"
        named = reference if _DIGEST.fullmatch(reference) else reply.headers.get("docker-content-digest", digest)
        if digest != named:
            raise DigestMismatch(f"{self}:{reference} has the digest {digest}, the registry says {named}",
                                 hint="something between here and the registry changes what it sends")
        try:
            fields = reply.json()
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise Malformed(f"{self}:{reference} isn't a manifest: no JSON object", hint="look what was pushed there")
        media_type = str(fields.get("mediaType") or reply.headers.get("content-type", "").partition(";")[0])
        return Fetched(Descriptor(media_type, digest, len(reply.data)), fields)

    def put_manifest(self, reference: str, data: bytes, media_type: str = MANIFEST, *,
                     again: bool = False) -> RegistryReply:
        """Keep a manifest under a tag, or its digest. What it names has to be there.

        again: try again where the registry doesn't see a blob for a moment, as docker-registry does while somebody else
        pushes the same one.
        """
        what, waited = f"push {self.name}:{reference}", Deadline(self.registry.seconds)
        for tries in range(1, 6):
            reply = self._ask("PUT", f"manifests/{reference}", what, actions="pull,push", body=data,
                              headers={"Content-Type": media_type})
            if not again or reply.status == 201 or "BLOB_UNKNOWN" not in reply.reason:
                break
            pause(tries, waited, None)
        return self._expect(reply, what, 201)

    def referrers(self, digest: str) -> list[dict[str, Any]] | None:
        """Descriptors of the artifacts of a manifest; None if the registry doesn't know of such a thing."""
        what, listed = f"list what belongs to {self.name}@{digest[:19]}", list[dict[str, Any]]()
        for reply in self.registry.pages(f"{self.name}/referrers/{digest}", what, self._scope("pull")):
            if reply.status in (400, 404, 405, 501):
                return None
            self._expect(reply, what, 200)
            try:
                listed += [entry for entry in reply.json()["manifests"] if isinstance(entry, dict)]
            except (ValueError, LookupError, TypeError) as error:
                raise self._strange(reply, what) from error
        return listed

    def note(self, tag: str, artifact_type: str, annotations: dict[str, str]) -> str:
        """Keep a few words under a tag; returns their digest. They are a blob of their own: docker-registry can't be
        trusted with the same blob from several clients at once."""
        text = to_bytes(annotations)
        blob = described(text, artifact_type)
        self.push(blob, lambda: io.BytesIO(text))
        data = artifact(blob, (blob,), annotations, artifact_type)
        self.put_manifest(tag, data)
        return described(data, MANIFEST).digest

    def delete(self, digest: str) -> bool:
        """Remove a manifest and all its tags. False if the registry doesn't allow that at all."""
        what = f"delete {self.name}@{digest}"
        try:
            reply = self._ask("DELETE", f"manifests/{digest}", what, actions="pull,push,delete")
        except Refused:
            return False
        if reply.status in (400, 405, 415, 501):
            return False
        self._expect(reply, what, 200, 202, 204, 404)
        return True

    def push(self, blob: Descriptor, opened: Callable[[], BinaryIO]) -> bool:
        """Have a blob there, whose bytes the registry compares with its digest. False if it was there already.

        opened: its bytes from the beginning; called for each try.
        """
        what, tries, waited = f"push {self.name}@{blob.digest[:19]}", 0, Deadline(self.registry.seconds)
        if self._has(blob):
            return False
        while True:
            tries += 1
            error, reply = None, None
            try:
                with opened() as body:
                    reply = self.registry.upload(f"{self.name}/blobs/uploads/", {"digest": blob.digest}, what,
                                                 self._scope("pull,push"), body=body, size=blob.size)
            except HTTPError as cut:
                error = cut
            if reply is not None and reply.status == 201:
                return True
            if not self.registry.upload_failed(error, reply, what, tries=tries, waited=waited):
                self._expect(reply, what, 201)

    def borrow(self, blob: Descriptor, source: Remote) -> bool:
        """Have a blob of another repository here, without it passing through this machine if the registry can.

        False if it was here already.
        """
        if self._has(blob):
            return False
        if self.registry.host == source.registry.host:
            path = f"blobs/uploads/?mount={blob.digest}&from={source.name}"
            if self._ask("POST", path, f"push {self.name}@{blob.digest[:19]}", actions="pull,push").status == 201:
                return True
        return self.push(blob, lambda: open_ranged(blob.size, partial(source.read, blob)))

    def blob(self, blob: Descriptor) -> bytes:
        """All of a small blob. Raises DigestMismatch, Malformed."""
        if blob.size > _MOST_SMALL:
            raise Malformed(f"{self}@{blob.digest} has {blob.size:,} bytes, and at most {_MOST_SMALL:,} make sense",
                            hint="look what was pushed there")
        data = self.read(blob, 0, blob.size)
        if described(data, blob.media_type) != blob:
            raise DigestMismatch(f"{self}@{blob.digest} isn't what its digest says",
                                 hint="the registry's storage, or something between, is damaged")
        return data

    def read(self, blob: Descriptor, start: int, end: int) -> bytes:
        """Bytes of a blob, from `start` to before `end`."""
        what = f"pull {self.name}@{blob.digest[:19]}"
        if start == end:
            return b""
        part = {} if (start, end) == (0, blob.size) else {"Range": f"bytes={start}-{end - 1}"}
        reply = self._ask("GET", f"blobs/{blob.digest}", what, headers=part, most=end - start,
                          skip=start if part else None)
        if reply.status == 404:
            raise FileNotFoundError(errno.ENOENT, "the registry has no such blob", f"{self}@{blob.digest}")
        self._expect(reply, what, 200, 206)
        return reply.data

    def _has(self, blob: Descriptor) -> bool:
        reply = self._ask("HEAD", f"blobs/{blob.digest}", f"look into {self.name}", actions="pull,push")
        return reply.status == 200

    def _ask(self, method: str, path: str, what: str, *, actions: str = "pull", **others: Any) -> RegistryReply:
        return self.registry.ask(RegistryRequest(method, f"{self.name}/{path}", **others), what, self._scope(actions))

    def _scope(self, actions: str) -> str:
        return f"repository:{self.name}:{actions}"

    def _expect(self, reply: RegistryReply | None, what: str, *statuses: int) -> RegistryReply:
        if reply is None or reply.status not in statuses:
            raise self._strange(reply, what)
        return reply

    def _strange(self, reply: RegistryReply | None, what: str) -> Refused:
        reason = reply.reason if reply else "nothing"
        hint = "create the repository there: this registry doesn't do so by itself" if "NAME_UNKNOWN" in reason else \
            "see what the registry logs"
        return Refused(f"{self.registry.host} answers {reason} to: {what}", hint, "registry-answer")


"""Versions from one repository to another, byte for byte: fetched, compared with their manifest, shown whole.

A mirror holds copies of versions that are elsewhere, for servers of this machine. What arrives has the manifest that it
was published with, and is seen by no server before every byte of it is as the manifest says and on the disk.
"""

from __future__ import annotations

import io
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import cast

from deploy import files
from deploy.errors import DigestMismatch, Malformed, RepositoryError, VersionExists, VersionNotFound
from deploy.repository import copying, failures
from deploy.repository.copying import Progress
from deploy.repository.manifest import FileRecord, Manifest, hasher
from deploy.repository.repository import Repository
from deploy.repository.stores import Store
from deploy.repository.survey import survey
from deploy.types import ModelVersion, Specific, VersionPolicy
from deploy.wire.model_config import select

Accept = Callable[[ModelVersion, Path], None]
"""Looks at a version that has arrived, in its stage, before anybody sees it. Raises DeployError to refuse it."""

_FILES = 8  # fetched at once
_PIECE = 1 << 20
_LOOK = 0.1  # seconds between two reports of progress
_SPARE = 64 << 20  # bytes that stay free: the disk is others', too


@dataclass(frozen=True, slots=True)
class Fetched:
    """A version that arrived. size: bytes. seconds: what it took, verified and on the disk."""

    mv: ModelVersion
    size: int
    seconds: float

    def to_json(self) -> dict[str, object]:
        return {"model": self.mv.name, "version": self.mv.version, "size": self.size, "seconds": round(self.seconds, 3)}


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What `mirror` did. present: wanted, and there already. removed: old copies."""

    fetched: tuple[Fetched, ...] = ()
    present: tuple[ModelVersion, ...] = ()
    removed: tuple[ModelVersion, ...] = ()

    def to_json(self) -> dict[str, object]:
        return {"fetched": [one.to_json() for one in self.fetched], "present": [str(mv) for mv in self.present],
                "removed": [str(mv) for mv in self.removed]}


def mirror(source: Repository, target: Repository, wanted: Mapping[str, VersionPolicy], *, verify: bool = False,
           keep: int | None = None, accept: Accept | None = None, step: Callable[[str], None] | None = None,
           progress: Progress | None = None) -> Mirrored:
    """Bring the wanted versions of `source` into `target`, a repository on this machine.

    wanted: model -> policy, as a server takes it. verify: read what is there already, too.
    keep: of each model, so many versions stay that aren't wanted, the newest; by default all. Older ones are removed
    when all that is wanted is there, if they are copies: `source` has them, with the same digest.
    accept: refuses what has arrived, by raising, before it is shown.
    step, progress: get a sentence for each version; bytes done and in all.

    Raises VersionNotFound for a version that isn't in `source`, DigestMismatch for bytes that aren't as published, and
    RepositoryError; what has arrived until then stays, and nothing is there in half.
    """
    chosen = [ModelVersion(name, number) for name, policy in wanted.items()
              for number in _chosen(source, name, policy)]
    fetched, present = [], []
    for mv in chosen:
        one = pull(source, target, mv, verify=verify, accept=accept, step=step, progress=progress)
        if one is None:
            present.append(mv)
        else:
            fetched.append(one)
    removed = _remove_old(source, target, chosen, keep, step) if keep is not None else []
    return Mirrored(tuple(fetched), tuple(present), tuple(removed))


def pull(source: Repository, target: Repository, mv: ModelVersion, *, verify: bool = False,
         accept: Accept | None = None, step: Callable[[str], None] | None = None, progress: Progress | None = None
         ) -> Fetched | None:
    """Bring one version into `target`; None if it is there already. Raises as `mirror`."""
    started, same = time.monotonic(), partial(_check_same, source, target, verify=verify, progress=progress)
    manifest = source.manifest(mv)
    _check_names(manifest, source)
    target.store.make()
    if mv.version in target.numbered(mv.name):
        same(manifest)
        _copy_attachments(source, target, mv)
        return None
    if step:
        step(f"fetching {mv} from {source.store}, {failures.readable(manifest.size)}")
    try:
        with target.stage(mv.name, mv.version) as stage, failures.translated(f"fetch {mv}", str(target.store)):
            _check_room(manifest, stage.path, mv, str(target.store))
            with failures.room_for(manifest.size, f"fetch {mv}", stage.path, str(target.store)):
                _fetch(source, manifest, stage.path, progress)
                if accept:
                    accept(mv, stage.path)
                _copy_attachments(source, target, mv)  # first, so that nobody sees a version without its signatures
                stage.show(survey(stage.path), mv.version, lambda _: manifest)
    except VersionExists:  # somebody else fetches it, or has meanwhile
        if mv.version not in target.numbered(mv.name):
            raise
        same(manifest)
        return None
    return Fetched(mv, manifest.size, time.monotonic() - started)


def _remove_old(source: Repository, target: Repository, wanted: Collection[ModelVersion], keep: int,
                step: Callable[[str], None] | None) -> list[ModelVersion]:
    """Remove copies that aren't wanted, but for the newest `keep` of each model."""
    removed = []
    for name in dict.fromkeys(mv.name for mv in wanted):
        old = [mv for mv in (ModelVersion(name, number) for number in target.numbered(name)) if mv not in wanted]
        for mv in old[:max(len(old) - keep, 0)]:
            if not _is_copy(source, target, mv):
                continue
            if step:
                step(f"removing {mv}, which isn't wanted any more")
            if mv in target.removed():  # somebody died while removing an earlier copy
                target.purge(mv)
            target.remove(mv)
            target.purge(mv)
            removed.append(mv)
    return removed


def _is_copy(source: Repository, target: Repository, mv: ModelVersion) -> bool:
    """Whether it can be fetched again. What is only here isn't the mirror's to remove."""
    try:
        here, there = target.find_manifest(mv), source.find_manifest(mv)
    except (VersionNotFound, Malformed):
        return False
    return here is not None and there is not None and here.digest == there.digest


def _copy_attachments(source: Repository, target: Repository, mv: ModelVersion) -> None:
    """Signatures and receipts: they come later than a version, too."""
    attachments = source.attachments(mv)
    with failures.translated(f"write beside {mv}", str(target.store)):
        for attachment in attachments:
            target.store.attachments().add(mv, attachment)


def _chosen(source: Repository, name: str, policy: VersionPolicy) -> list[int]:
    there = source.versions(name)
    chosen = select(policy, there)
    missing = sorted(set(policy.versions) - set(chosen)) if isinstance(policy, Specific) else []
    if missing or not chosen:
        what = f"there is no {name}/{missing[0]}" if missing else f"there is no version of {name!r}"
        raise VersionNotFound(f"{what} in {source.store}",
                              hint=f"there: {', '.join(map(str, there))}" if there else "publish one there first")
    return chosen


def _check_names(manifest: Manifest, source: Repository) -> None:
    for name in manifest.files:
        if files.escapes(name) or str(PurePosixPath(name)) != name or "\\" in name:
            raise DigestMismatch(f"{manifest.model_version} in {source.store} names the file {name!r}, which isn't a "
                                 "path below a version", hint="publish the version again")


def _check_same(source: Repository, target: Repository, manifest: Manifest, *, verify: bool,
                progress: Progress | None) -> None:
    """That the version which is there is the one that was asked for."""
    mv = manifest.model_version
    here = target.verify(mv, progress=progress) if verify else target.find_manifest(mv)
    if here is None or here.digest != manifest.digest:
        seen = "one without a manifest" if here is None else f"another one, {here.digest}"
        raise DigestMismatch(f"{mv} in {target.store} is {seen}; {source.store} has {manifest.digest}",
                             hint="versions never change: find out where it came from, and move it away")


def _check_room(manifest: Manifest, stage: Path, mv: ModelVersion, where: str) -> None:
    free = shutil.disk_usage(stage).free
    if free < manifest.size + _SPARE:
        raise failures.no_room(manifest.size + _SPARE, free, f"fetch {mv}", where)


def _fetch(source: Repository, manifest: Manifest, stage: Path, progress: Progress | None) -> None:
    """All files, several at once, the biggest first. Raises DigestMismatch naming the first that is another one."""
    start = source.name(manifest.model_version)
    work = _Work(source.store, manifest.algorithm)
    names = sorted(manifest.files, key=lambda name: -manifest.files[name].size)
    for directory in {stage / PurePosixPath(name).parent for name in names}:
        directory.mkdir(parents=True, exist_ok=True, mode=copying.DIRECTORY_MODE)
    with ThreadPoolExecutor(_FILES, "tfs-fetch") as pool:
        futures = {pool.submit(work.fetch, f"{start}/{name}", stage / name, manifest.files[name].size): name
                   for name in names}
        try:
            _watch(futures, work, manifest, progress)
        except BaseException:
            work.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for directory in sorted({path.parent for path in stage.rglob("*")}):
        copying.sync_directory(directory)


def _watch(futures: dict[Future[FileRecord], str], work: _Work, manifest: Manifest, progress: Progress | None) -> None:
    mv, left = manifest.model_version, set(futures)
    while left:
        done, left = wait(left, _LOOK, "FIRST_EXCEPTION")
        if progress:
            progress(work.done, manifest.size)
        for future in done:
            name, wanted = futures[future], manifest.files[futures[future]]
            try:
                record = future.result()
            except FileNotFoundError as error:
                raise RepositoryError(f"{mv}: {name} went away while it was fetched from {work.store}",
                                      hint="the version was removed meanwhile: name another one") from error
            if record != wanted:
                raise DigestMismatch(f"{mv}: {name} in {work.store} isn't what its manifest says: {wanted.size} bytes, "
                                     f"{wanted.digest[:16]} expected, {record.size} bytes, {record.digest[:16]} seen",
                                     hint="it was changed or damaged there: publish it again under another number",
                                     details={"changed": [name]})


class _Work:
    """What the fetching threads share."""

    def __init__(self, store: Store, algorithm: str) -> None:
        self.store, self.stop, self.done = store, threading.Event(), 0
        self._algorithm, self._lock = algorithm, threading.Lock()

    def fetch(self, name: str, path: Path, size: int) -> FileRecord:
        """Write one object to a new file, durably. Stops one piece after `size` bytes: nobody fills the disk."""
        digest, count, buffer = hasher(self._algorithm), 0, memoryview(bytearray(min(_PIECE, size + 1)))
        with self.store.open(name) as opened, path.open("xb", buffering=0) as file:
            source = cast(io.BufferedIOBase, opened)
            while count <= size and not self.stop.is_set() and (got := source.readinto(buffer)):
                view = buffer[:got]
                digest.update(view)
                while view:
                    view = view[file.write(view):]
                count += got
                with self._lock:
                    self.done += got
            os.fchmod(file.fileno(), copying.FILE_MODE)
            os.fsync(file.fileno())
        return FileRecord(count, digest.hexdigest())

"""One version at rest: in a listing, against its manifest, and what is known of it."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from deploy import files, goldens, savedmodel
from deploy.errors import BadReply, DigestMismatch, Malformed, RepositoryError
from deploy.goldens.tolerances import Tolerances
from deploy.repository import copying, listing, naming
from deploy.repository.copying import Progress
from deploy.repository.manifest import MOST_MANIFEST, FileRecord, Manifest, hasher, load, read_manifest
from deploy.repository.stores import Store
from deploy.repository.survey import Survey, survey
from deploy.savedmodel.recipes import RecipeRecord
from deploy.types import Contract, ModelVersion, TensorSpec

if TYPE_CHECKING:
    from deploy.goldens import Golden
    from deploy.savedmodel import SavedModelInfo

NAMED = 5  # files named in a sentence; `details` has all of them
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class VersionEntry:
    """A version in a listing.

    path: where it is kept, for people. size: bytes of all files. created: ISO 8601, UTC.
    digest: `<algorithm>:<hex>`, None without a manifest.
    error: why the manifest can't be read, empty if it can or if there is none.
    """

    mv: ModelVersion
    path: str
    size: int
    files: int
    created: str
    digest: str | None
    goldens: int
    producer: dict[str, str]
    error: str = ""

    def to_json(self) -> dict[str, object]:
        return {"model": self.mv.name, "version": self.mv.version, "path": self.path, "size": self.size,
                "files": self.files, "created": self.created, "digest": self.digest, "goldens": self.goldens,
                "producer": self.producer, "error": self.error}


def find_manifest(store: Store, name: str) -> Manifest | None:
    """The manifest of the version that is kept under `name`; None if it has none. Raises RepositoryError."""
    path = f"{name}/{naming.MANIFEST_FILE}"
    return load(lambda: store.open(path), f"{store}/{path}")


def entries(store: Store, models: Iterable[str]) -> list[VersionEntry]:
    """The versions of these models, ascending by number. Raises OSError for what can't be listed.

    Where manifests show which versions are there, they are asked for once: 10,000 versions are 10,000 requests then,
    not twice as many.
    """
    named = [(ModelVersion(model, number), spelling) for model in models for number, spelling in _spelled(store, model)]

    def read(one: tuple[ModelVersion, str]) -> VersionEntry | None:
        return _find_entry(store, f"{one[0].name}/{one[1]}", one[0])

    local = store.local_path("") is not None
    there: dict[ModelVersion, VersionEntry] = {}
    for (mv, spelling), entry in zip(named, map(read, named) if local else listing.at_once(read, named), strict=True):
        if entry is not None and (mv not in there or spelling == str(mv.version)):
            there[mv] = entry
    return list(there.values())


def _spelled(store: Store, model: str) -> Iterable[tuple[int, str]]:
    named = listing.spelled(store, model)
    return listing.canonical(named).items() if store.only_whole else named


def _find_entry(store: Store, name: str, mv: ModelVersion) -> VersionEntry | None:
    """What is known of a version, from its manifest or else from its files.

    None where it isn't there: without a manifest, in a store where that is what shows it.
    """
    error, path = "", f"{store}/{name}"
    try:
        manifest = find_manifest(store, name)
    except RepositoryError as problem:
        manifest, error = None, str(problem)
    if manifest is not None:
        return VersionEntry(mv, path, manifest.size, len(manifest.files), manifest.created, manifest.digest,
                     manifest.goldens, dict(manifest.producer))
    if not (store.only_whole or error):
        return None
    size = count = 0
    changed = 0.0
    try:
        for item in store.list(name, deep=True):
            size, count, changed = size + item.size, count + 1, max(changed, item.changed)
    except OSError as problem:
        error = error or f"{path} can't be read: {files.reason(problem)}"
    except RepositoryError as problem:  # its files can't be told apart: an image made by another tool
        error = error or str(problem)
    return VersionEntry(mv, path, size, count, _moment(changed), None, 0, {}, error)


def _moment(seconds: float) -> str:
    try:
        moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc) if seconds else None
    except (OSError, OverflowError, ValueError):  # a time that no calendar has
        moment = None
    return moment.isoformat(timespec="seconds") if moment else ""


def verify(store: Store, name: str, mv: ModelVersion, manifest: Manifest, progress: Progress | None = None) -> None:
    """Compare names, sizes and digests of all files. Raises DigestMismatch, RepositoryError, OSError."""
    where = f"{store}/{name}"
    if manifest.model_version != mv:
        raise DigestMismatch(f"{where} should be {mv}, its manifest is of {manifest.model_version}",
                             hint="versions are copied between repositories by publishing them")
    local = store.local_path(name)
    there = _Local(local) if local is not None else _Elsewhere(store, name)
    sizes = there.sizes
    wrong = {"missing": sorted(manifest.files.keys() - sizes.keys()),
             "extra": sorted(sizes.keys() - manifest.files.keys()),
             "changed": sorted(n for n, r in manifest.files.items() if n in sizes and sizes[n] != r.size)}
    same_size = manifest.files.keys() & sizes.keys() - set(wrong["changed"])
    records = there.digested(same_size, manifest.algorithm, progress)
    wrong["changed"] = sorted([*wrong["changed"], *(n for n, r in records.items() if r != manifest.files[n])])
    if any(wrong.values()):
        raise DigestMismatch(f"{mv} isn't what its manifest says: {_sentence(wrong)}", details=dict(wrong),
                             hint=f"publish it again under another number; it lies in {where}")


def digests(store: Store, name: str, algorithm: str, progress: Progress | None = None) -> dict[str, FileRecord]:
    """Every file of a version, its manifest as well, by its name inside: read from beginning to end.

    Raises RepositoryError for what no version holds (links out of it, pipes), OSError.
    """
    local = store.local_path(name)
    there = _Local(local) if local is not None else _Elsewhere(store, name)
    records = there.digested(there.sizes.keys(), algorithm, progress)
    with suppress(FileNotFoundError), store.open(f"{name}/{naming.MANIFEST_FILE}") as file:
        text = file.read(MOST_MANIFEST + 1)
        digest = hasher(algorithm)
        digest.update(text)
        records[naming.MANIFEST_FILE] = FileRecord(len(text), digest.hexdigest())
    return records


class _Local:
    """The files of a version in a directory: looked at as whoever publishes does, read by several threads."""

    def __init__(self, directory: Path) -> None:
        try:
            self._survey = survey(directory)
        except RepositoryError:
            if any(directory.iterdir()):
                raise
            self._survey = Survey(str(directory))
        self.sizes: Mapping[str, int] = {file.name: file.size for file in self._survey.files}

    def digested(self, names: Collection[str], algorithm: str, progress: Progress | None) -> dict[str, FileRecord]:
        self._survey.files = [file for file in self._survey.files if file.name in names]
        return copying.digest_tree(self._survey, algorithm, progress)


class _Elsewhere:
    """The files of a version in a store, read once, in constant memory."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._start = store, f"{name}/"
        self.sizes = {item.name.removeprefix(self._start): item.size for item in store.list(name, deep=True)}
        self.sizes.pop(naming.MANIFEST_FILE, None)

    def digested(self, names: Collection[str], algorithm: str, progress: Progress | None) -> dict[str, FileRecord]:
        records, done, total = {}, 0, sum(self.sizes[name] for name in names)
        for name in sorted(names):
            digest, size = hasher(algorithm), 0
            with self._store.open(self._start + name) as file:
                while piece := file.read(_PIECE):
                    digest.update(piece)
                    size, done = size + len(piece), done + len(piece)
                    if progress:
                        progress(done, total)
            records[name] = FileRecord(size, digest.hexdigest())
        return records


def _sentence(wrong: dict[str, list[str]]) -> str:
    parts = []
    for difference, names in wrong.items():
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            parts.append(f"{difference}: {', '.join(names[:NAMED])}{more}")
    return "; ".join(parts)


@dataclass(frozen=True)
class VersionFacts:
    """A version as it lies there. The empty one: nothing is known, as of a server whose repository isn't at hand.

    contract: as published; of another tool's version that of its saved_model.pb; None: unknown.
    goldens: recorded requests with their answers, each with the tolerances of the version.
    tolerances: as published, by `default`, signature, or `signature/output`.
    digest: of all files, as published; empty for another tool's version.
    skipped: recorded requests without an answer, which only warm a server up.
    graph: reads saved_model.pb, for what only the graph knows.
    recipes: what was put around the model; None where no manifest says it.
    """

    contract: Contract | None = None
    goldens: Sequence[Golden] = ()
    tolerances: Tolerances = field(default_factory=dict)
    digest: str = ""
    skipped: int = 0
    graph: Callable[[], SavedModelInfo] | None = field(default=None, repr=False, compare=False)
    recipes: tuple[RecipeRecord, ...] | None = None

    @cached_property
    def features(self) -> Mapping[str, Sequence[TensorSpec]]:
        """What the graph wants of each string input that it parses as tf.Example; `examples.generate` takes it.

        Read when it is first asked for, since graphs may be large. Raises IncompleteVersion for a damaged one.
        """
        return self.graph().features if self.graph else {}

    @property
    def published(self) -> bool:
        """By this toolkit, so that its answers were checked when it was made."""
        return bool(self.digest)


def read_facts(directory: str | Path, *, tflite: bool = False) -> VersionFacts:
    """What the version in a directory says of itself.

    tflite: for a server that prefers the version's model.tflite: the signatures that it sees there, and their
        tolerances.
    Raises RepositoryError for whatever is there and can't be read: Malformed for a manifest, recorded requests or a
    model.tflite that are damaged, IncompleteVersion for a SavedModel.
    """
    directory = Path(directory)
    graph = cache(lambda: savedmodel.read(directory))
    manifest, recorded = read_manifest(directory), goldens.scan(directory)
    contract = manifest.contract if manifest else graph().contract
    if tflite:
        try:
            contract = savedmodel.served_beside(directory, contract)
        except BadReply as error:
            raise Malformed(f"{directory}: {error.message}", hint=error.hint or "export the version again") from error
    limits = manifest.limits(tflite=tflite) if manifest else {}
    return VersionFacts(contract, tuple(replace(golden, tolerances=limits) for golden in recorded.goldens), limits,
                        manifest.digest if manifest else "", recorded.skipped, graph,
                        manifest.recipes if manifest else None)

"""The manifest: what a version is made of, kept inside it in assets.extra/tfs_manifest.json.

Digests are BLAKE3 when publishing, SHA-256 as well when reading. Measured on two cores of an AMD EPYC with SHA
extensions, one thread: BLAKE3 4.9 GB/s (9.7 on both cores), SHA-256 (OpenSSL) 1.8 GB/s. Copying in the kernel does
4 GB/s, so only BLAKE3 keeps up with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from blake3 import blake3

from deploy import files
from deploy.errors import Malformed, RepositoryError, SpecError
from deploy.goldens.tolerances import Tolerance, from_json
from deploy.repository import naming
from deploy.repository.failures import Refused
from deploy.savedmodel.recipes import RecipeRecord
from deploy.types import Contract, ModelVersion

FORMAT = 1
DEFAULT = "blake3"
ALGORITHMS = ("blake3", "sha256")
MOST_MANIFEST = 64 << 20  # bytes of a manifest: 100,000 files have 20 MB


class Hasher(Protocol):
    """What hashlib and blake3 have in common. `update` releases the GIL for large data."""

    def update(self, data: Any, /) -> object: ...

    def hexdigest(self) -> str: ...


def hasher(algorithm: str = DEFAULT) -> Hasher:
    """A new hasher. Raises RepositoryError for an algorithm that this release doesn't know."""
    if algorithm == "blake3":
        return blake3()
    if algorithm == "sha256":
        return hashlib.sha256()
    raise RepositoryError(f"digest algorithm {algorithm!r} is unknown",
                          hint=f"this release knows {' and '.join(ALGORITHMS)}; a newer one may know more",
                          id="manifest-damaged")


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of a version: bytes, and the digest in hexadecimal."""

    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything known of a published version. It doesn't list itself among its files.

    files: path inside the version, with forward slashes -> size and digest.
    producer: what made it (`tfs_deploy`, `tensorflow`, `keras`, ...) -> its version.
    goldens: how many recorded requests and answers `assets.extra/tf_serving_warmup_requests` holds.
    tolerances: `default`, a signature, or `signature/output` -> {`absolute`: float, `relative`: float}.
    tflite_tolerances: the same for the answers of its model.tflite, where they differ.
    recipes: what was put around the model, in this order.
    created: ISO 8601, UTC.
    """

    model_version: ModelVersion
    files: Mapping[str, FileRecord]
    contract: Contract
    created: str
    producer: Mapping[str, str] = field(default_factory=dict)
    goldens: int = 0
    tolerances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    algorithm: str = DEFAULT
    tflite_tolerances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    recipes: tuple[RecipeRecord, ...] = ()
    _text: bytes = field(default=b"", init=False, repr=False, compare=False)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(record.size for record in self.files.values())

    @property
    def digest(self) -> str:
        """`<algorithm>:<hex>` over names, sizes and digests of all files: equal contents, equal digest."""
        tree = hasher(self.algorithm)
        for path, record in sorted(self.files.items()):
            tree.update(f"{path}\0{record.size}\0{record.digest}\0".encode())
        return f"{self.algorithm}:{tree.hexdigest()}"

    def limits(self, *, tflite: bool = False) -> dict[str, Tolerance]:
        """The tolerances as values. tflite: for a server that prefers model.tflite."""
        return from_json({**self.tolerances, **(self.tflite_tolerances if tflite else {})})

    def to_json(self) -> dict[str, object]:
        """Plain JSON data; `from_json` is its inverse."""
        return {
            "format": FORMAT, "model": self.model_version.name, "version": self.model_version.version,
            "created": self.created, "digest": self.digest, "algorithm": self.algorithm,
            "files": {path: {"size": r.size, "digest": r.digest} for path, r in sorted(self.files.items())},
            "contract": self.contract.to_json(), "producer": dict(self.producer),
            "goldens": {"count": self.goldens, "file": naming.WARMUP_FILE if self.goldens else None},
            "tolerances": {name: dict(values) for name, values in self.tolerances.items()},
            **({"tflite_tolerances": {name: dict(values) for name, values in self.tflite_tolerances.items()}}
               if self.tflite_tolerances else {}),
            **({"recipes": [record.to_json() for record in self.recipes]} if self.recipes else {}),
        }

    def to_bytes(self) -> bytes:
        """The file's contents: as it was read, so that a copy keeps its signatures; else readable, and the same bytes
        for the same values."""
        return self._text or json.dumps(self.to_json(), indent=1, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_json(cls, data: object, where: str = "manifest") -> Manifest:
        """Read what `to_json` wrote. Raises Malformed, naming `where`, for anything else."""
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            actual = repr(data.get("format") if isinstance(data, dict) else type(data).__name__)
            newer = actual.isdecimal() and int(actual) > FORMAT
            raise Malformed(f"{where}: expected a manifest of format {FORMAT}, seen {actual:.80}",
                            hint="it was written by a newer tfs-deploy: upgrade this one, or publish the version again"
                            if newer else "it was damaged, or another tool's: publish the version again",
                            id="manifest-damaged")
        try:
            manifest = cls._from_fields(data)
            digest, stated = manifest.digest, data.get("digest")
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, SpecError) as error:
            raise Malformed(f"{where} can't be read: {type(error).__name__}: {error!s:.200}",
                            hint="publish the version again", id="manifest-damaged") from error
        if digest != stated:
            raise Malformed(f"{where} was changed: its files give {digest}, it says {stated!s:.200}",
                                  hint="publish the version again from its source", id="manifest-damaged")
        return manifest

    @classmethod
    def from_bytes(cls, text: bytes, where: str = "manifest") -> Manifest:
        """`from_json` of a file's contents."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError, MemoryError) as error:
            why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise Malformed(f"{where} isn't JSON: {why:.200}", hint="publish the version again",
                            id="manifest-damaged") from error
        manifest = cls.from_json(data, where)
        object.__setattr__(manifest, "_text", text)
        return manifest

    @classmethod
    def _from_fields(cls, data: Mapping[str, Any]) -> Manifest:
        return cls(
            ModelVersion(data["model"], data["version"]),
            {path: FileRecord(int(r["size"]), str(r["digest"])) for path, r in data["files"].items()},
            Contract.from_json(data["contract"]), str(data["created"]),
            {str(k): str(v) for k, v in data["producer"].items()}, int(data["goldens"]["count"]),
            _tolerances(data["tolerances"]), str(data["algorithm"]), _tolerances(data.get("tflite_tolerances", {})),
            tuple(map(RecipeRecord.from_json, data.get("recipes", ()))))


def _tolerances(data: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    return {name: {k: float(v) for k, v in values.items()} for name, values in data.items()}


def read_manifest(version_directory: Path) -> Manifest | None:
    """The manifest in a version directory, None without one. Raises RepositoryError if it can't be understood."""
    path = version_directory / naming.MANIFEST_FILE
    return load(lambda: files.open_regular(path, most=MOST_MANIFEST), str(path))


def is_published(directory: Path, mv: ModelVersion | None) -> bool:
    """Whether what lies there says that this toolkit has published it as that version. Raises RepositoryError."""
    manifest = read_manifest(directory) if mv is not None else None
    return manifest is not None and manifest.model_version == mv


def load(opened: Callable[[], BinaryIO], where: str) -> Manifest | None:
    """A manifest from wherever it is kept, `where` for people. None and errors as `read_manifest` has them."""
    try:
        with opened() as file:
            text = file.read(MOST_MANIFEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Refused:  # says better what to do
        raise
    except OSError as error:
        raise Malformed(f"{where} can't be read: {files.reason(error)}", hint="publish the version again",
                        id="manifest-damaged") from error
    if len(text) > MOST_MANIFEST:
        raise Malformed(f"{where} has more than {MOST_MANIFEST:,} bytes", hint="publish the version again",
                        id="manifest-damaged")
    return Manifest.from_bytes(text, where)

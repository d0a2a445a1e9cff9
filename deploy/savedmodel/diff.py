"""May one version take the place of another? What changed, and what it means for those who ask.

Clients are bound to names, dtypes and shapes; the server to ops and memory. The rules stand in `signatures`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy import files
from deploy.errors import IncompleteVersion
from deploy.savedmodel import signatures
from deploy.savedmodel.reader import Producer, SavedModelInfo, read
from deploy.savedmodel.recipes import RecipeRecord
from deploy.savedmodel.signatures import Level, Reason
from deploy.savedmodel.tflite import FILE
from deploy.types import Contract

__all__ = ["Asset", "Level", "Reason", "Subject", "Verdict", "compare", "digest_assets"]

DOUBLED = 2.0
SHOWN = 8  # names of ops that a sentence has room for


@dataclass(frozen=True, slots=True)
class Verdict:
    """All changes, the worst first. Without any, or with compatible ones only, the version is compatible."""

    reasons: tuple[Reason, ...]

    def __post_init__(self) -> None:
        ordered = sorted(self.reasons, key=lambda reason: -reason.level)
        object.__setattr__(self, "reasons", tuple(ordered))

    @property
    def level(self) -> Level:
        return max((reason.level for reason in self.reasons), default=Level.COMPATIBLE)

    @property
    def breaking(self) -> bool:
        return self.level is Level.BREAKING

    def to_json(self) -> dict[str, object]:
        """Plain JSON data."""
        return {"verdict": str(self.level), "reasons": [reason.to_json() for reason in self.reasons]}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file below assets/: SHA-256 in hexadecimal, and how many lines it has (a vocabulary's entries)."""

    digest: str
    lines: int


@dataclass(frozen=True, slots=True)
class Subject:
    """A version, as much as is known of it. A live server tells the contract only. tflite: has it a model.tflite?

    recipes: what its manifest says was put around the model; None without a manifest.
    """

    contract: Contract
    info: SavedModelInfo | None = None
    assets: Mapping[str, Asset] | None = None
    tflite: bool | None = None
    recipes: Sequence[RecipeRecord] | None = None

    @classmethod
    def of(cls, directory: str | Path) -> Subject:
        """The SavedModel in `directory`. Raises IncompleteVersion."""
        info = read(directory)
        return cls(info.contract, info, digest_assets(directory, info), (Path(directory) / FILE).is_file())


def compare(before: SavedModelInfo | Contract | Subject, after: SavedModelInfo | Contract | Subject) -> Verdict:
    """Whether `after` can take the place of `before`. What isn't known of both sides isn't compared."""
    one, other = _subject(before), _subject(after)
    reasons = list(signatures.changes(one.contract, other.contract))
    if one.info and other.info:
        reasons += signatures.feature_changes(one.info, other.info)
        reasons += _graph(one.info, other.info)
    if one.assets is not None and other.assets is not None:
        reasons += _assets(one.assets, other.assets)
    if one.recipes is not None and other.recipes is not None:
        reasons += _recipes(one.recipes, other.recipes)
    if one.tflite and other.tflite is False:
        reasons.append(Reason(Level.REVIEW, "tflite-removed", "files", "model.tflite is gone: devices, and servers "
                              "that prefer it, have to take the SavedModel or stay behind"))
    return Verdict(tuple(reasons))


def digest_assets(directory: str | Path, info: SavedModelInfo) -> dict[str, Asset]:
    """The asset files' digests, read in pieces. Raises IncompleteVersion if one can't be read."""
    return {name: _digest(Path(directory) / "assets" / name) for name in info.assets}


def _digest(path: Path) -> Asset:
    digest, lines, last = hashlib.sha256(), 0, b"\n"
    try:
        with files.open_regular(path) as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
                lines, last = lines + piece.count(b"\n"), piece[-1:]
    except OSError as error:
        raise IncompleteVersion(f"{path} can't be read: {files.reason(error)}") from error
    return Asset(digest.hexdigest(), lines + (last != b"\n"))


def _subject(given: SavedModelInfo | Contract | Subject) -> Subject:
    if isinstance(given, Subject):
        return given
    return Subject(given) if isinstance(given, Contract) else Subject(given.contract, given)


def _graph(before: SavedModelInfo, after: SavedModelInfo) -> Iterator[Reason]:
    if before.format != after.format:
        yield _other_form(after)
    new = sorted(after.ops - before.ops)
    if new and before.format == after.format:
        names = ", ".join(new[:SHOWN]) + (f" and {len(new) - SHOWN} more" if len(new) > SHOWN else "")
        yield Reason(Level.REVIEW, "new-op", "graph",
                     f"{len(new)} new op{'s' * (len(new) > 1)}: {names}; a server without them won't load it")
    if before.format == after.format and _newer(before.producer, after.producer):
        yield Reason(Level.REVIEW, "producer-newer", "graph",
                     f"made by TensorFlow {after.producer.tensorflow} (graph version {after.producer.graph}), before "
                     f"by {before.producer.tensorflow} ({before.producer.graph}); an older server may not load it")
    if before.size and after.size >= DOUBLED * before.size:
        yield Reason(Level.REVIEW, "size-doubled", "files",
                     f"{after.size:,} bytes, before {before.size:,}: {after.size / before.size:.1f} times as much for "
                     "disk, memory and load time; both versions are in memory while one takes over")
    if "serve" in before.tags and after.tags and "serve" not in after.tags:
        yield Reason(Level.BREAKING, "tag-gone", "graph", f"no graph is tagged serve, only {', '.join(after.tags)}; "
                     "a server doesn't load the version")


def _other_form(after: SavedModelInfo) -> Reason:
    text = "it holds a SavedModel, before a TFLite model: a server may need more memory and time for it"
    if after.format == "TFLite":
        text = "it holds a TFLite model, before a SavedModel: only a server with --prefer_tflite_model loads it"
    return Reason(Level.REVIEW, "other-format", "files", text)


def _newer(before: Producer, after: Producer) -> bool:
    """Patch releases read each other's graphs."""
    return after.graph > before.graph or _release(after.tensorflow) > _release(before.tensorflow)


def _release(version: str) -> tuple[int, ...]:
    numbers = version.split(".")[:2]
    return tuple(int(number) for number in numbers) if all(number.isdecimal() for number in numbers) else ()


def _assets(before: Mapping[str, Asset], after: Mapping[str, Asset]) -> Iterator[Reason]:
    for name in before.keys() - after.keys():
        yield Reason(Level.REVIEW, "asset-removed", "files", f"the asset {name} is gone")
    for name in sorted(after.keys() - before.keys()):
        yield Reason(Level.COMPATIBLE, "asset-added", "files", f"the asset {name} is new")
    for name in sorted(before.keys() & after.keys()):
        one, other = before[name], after[name]
        if one.digest != other.digest:
            yield Reason(Level.REVIEW, "vocabulary-changed", "files",
                         f"the asset {name} changed ({one.lines:,} lines before, {other.lines:,} now): the same words "
                         "may have other numbers now")


def _recipes(before: Sequence[RecipeRecord], after: Sequence[RecipeRecord]) -> Iterator[Reason]:
    """What is around the model differs: the same request may be answered otherwise, though the contract stands."""
    for name in dict.fromkeys(record.signature for record in (*before, *after)):
        one, other = ([record for record in records if record.signature == name] for records in (before, after))
        if [str(record) for record in one] != [str(record) for record in other]:
            yield Reason(Level.REVIEW, "recipe-changed", name, f"recipes were {_listed(one)}, now {_listed(other)}: "
                         "the same request may get another answer")
        elif one != other:
            files = [f"{record.name}'s {key}" for record, new in zip(one, other, strict=True)
                     for key in new.digests if record.digests.get(key) != new.digests[key]]
            yield Reason(Level.REVIEW, "recipe-changed", name, f"the file of {', '.join(files)} has other lines: the "
                         "same request may get another answer")


def _listed(records: Sequence[RecipeRecord]) -> str:
    return ", ".join(map(str, records)) or "none"

"""Everything that can be read of a version without running it, and how to ask a server for it: `inspect`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy import client, goldens, savedmodel
from deploy.errors import BadRequest, DeployError
from deploy.repository import Manifest, read_manifest
from deploy.savedmodel import SavedModelInfo, bundle, tflite
from deploy.savedmodel.reader import GRAPH
from deploy.savedmodel.tflite import TfliteInfo
from deploy.types import Contract, ModelRef, ModelVersion, Signature

if TYPE_CHECKING:
    from deploy.client.snippets import CallSnippets, ServerAddress
    from deploy.goldens import Golden
    from deploy.goldens.warmup import Checked

_ON_DEVICES = ("float32", "int32", "int64", "uint8", "int8", "bool", "string", "float64", "float16")


@dataclass(frozen=True, slots=True)
class Variables:
    """A SavedModel's variables, without TensorFlow's own bookkeeping. parameters: the numbers in all of them."""

    count: int = 0
    parameters: int = 0
    bytes: int = 0

    def to_json(self) -> dict[str, int]:
        """Plain JSON data."""
        return {"count": self.count, "parameters": self.parameters, "bytes": self.bytes}


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a version holds.

    mv: what it is published as, as far as the caller said it. info: None where there is a TFLite file only.
    warmup: its file of golden cases, checked. calls: by signature, for a server; devices: for its TFLite file.
    """

    path: Path
    mv: ModelVersion | None
    info: SavedModelInfo | None
    tflite: TfliteInfo | None
    manifest: Manifest | None
    warmup: Checked | None
    variables: Variables
    calls: Mapping[str, CallSnippets] = field(default_factory=dict)
    devices: Mapping[str, str] = field(default_factory=dict)

    @property
    def contract(self) -> Contract:
        known = self.info or self.tflite
        assert known is not None, "one of both was read"
        return known.contract

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        data: dict[str, Any] = {"path": str(self.path), "model": self.mv.name if self.mv else None,
                                "version": self.mv.version if self.mv else None}
        data |= self.info.to_json() if self.info else {"contract": self.contract.to_json()}
        return data | {
            "variables": self.variables.to_json(), "goldens": self.warmup.goldens if self.warmup else 0,
            "warmup": self.warmup.to_json() if self.warmup else None,
            "tflite": self.tflite.to_json() if self.tflite else None,
            "manifest": None if self.manifest is None else {
                "digest": self.manifest.digest, "created": self.manifest.created,
                "recipes": [record.to_json() for record in self.manifest.recipes],
                "producer": dict(self.manifest.producer), "tolerances": dict(self.manifest.tolerances),
                "files": {name: {"size": r.size, "digest": r.digest} for name, r in self.manifest.files.items()}},
            "calls": {name: {**calls.to_json(), **({"litert": self.devices[name]} if name in self.devices else {})}
                      for name, calls in self.calls.items()}}


def inspect(path: str | Path, mv: ModelVersion | None = None, *, server: ServerAddress | None = None,
            ref: ModelRef | str | None = None) -> Inspection:
    """What the version directory, or the TFLite file, holds. Nothing is run, and TensorFlow isn't needed.

    mv: the published version that it is. server: whom the calls are for; without it there are no calls.
    ref: what the calls ask for; by default `mv`, or the directory's name.

    Raises IncompleteVersion if it isn't whole, RepositoryError for a damaged manifest, SpecError for a `ref` that is
    none.
    """
    path = Path(path)
    file = path if path.suffix == ".tflite" or path.is_file() else path / tflite.FILE
    small = tflite.read(file) if file.is_file() or file == path else None
    info = savedmodel.read(path) if small is None or (path / GRAPH).exists() else None
    if small is not None and info is None and path.is_dir():  # what a server sees of it; a device sees all
        small = replace(small, contract=savedmodel.read(path).contract)
    known = info or small
    assert known is not None, "one of both was read"
    checked = goldens.warmup.check(path, known.contract) if (path / goldens.FILE).is_file() else None
    model_ref = ModelRef.parse(ref) if isinstance(ref, str) else ref
    model_ref = model_ref or (ModelRef(mv.name, mv.version) if mv else _guessed(path))
    recorded = _recorded(path) if server else []
    calls = _calls(recorded, known.contract, info, model_ref, server) if server else {}
    devices = _devices(file, small, recorded) if server else {}
    return Inspection(path, mv, info, small, read_manifest(path), checked, _variables(path), calls, devices)


def _variables(path: Path) -> Variables:
    index = path / "variables" / "variables.index"
    if not index.is_file():
        return Variables()
    stored = bundle.read(index)
    return Variables(len(stored.model_variables), stored.parameters, stored.size)


def _calls(recorded: Sequence[Golden], contract: Contract, info: SavedModelInfo | None, ref: ModelRef,
           server: ServerAddress) -> dict[str, CallSnippets]:
    calls = {}
    for name, signature in contract.items():
        try:
            calls[name] = client.snippets.calls(signature, _inputs(recorded, signature, info), ref, server)
        except BadRequest as error:  # a dtype that can't be sent
            calls[name] = client.snippets.CallSnippets("", "", error.message)
    return calls


def _devices(file: Path, small: TfliteInfo | None, recorded: Sequence[Golden]) -> dict[str, str]:
    """Files without signatures are asked by tensor numbers, which nobody wants to paste."""
    if small is None or not small.named:
        return {}
    return {name: client.snippets.litert(signature, inputs, str(file)) for name, signature in small.contract.items()
            if all(spec.dtype in _ON_DEVICES for spec in signature.inputs)
            and (inputs := _sendable(recorded, signature)) is not None}


def _sendable(recorded: Sequence[Golden], signature: Signature) -> Mapping[str, Any] | None:
    try:
        return _inputs(recorded, signature, None)
    except BadRequest:
        return None


def _recorded(path: Path) -> list[Golden]:
    try:
        return goldens.read(path) if path.is_dir() else []
    except DeployError:  # the check of the file tells it
        return []


def _inputs(recorded: Sequence[Golden], signature: Signature, info: SavedModelInfo | None) -> Mapping[str, Any]:
    """Those of a small golden case, since these are known to be answered; else made up."""
    for golden in recorded:
        if golden.signature == signature.name and client.snippets.pastable(golden.inputs.values()):
            return golden.inputs
    return goldens.examples.generate(signature, 1, features=info.features if info else {})


def _guessed(path: Path) -> ModelRef:
    """`.../digits/3` is digits/3; another directory or a file is a model of its own name."""
    path = path.absolute()
    directory = path.parent if path.is_file() else path
    numbered = directory.name.isdecimal() and int(directory.name) > 0
    name = directory.parent.name if numbered else path.stem
    fine = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "_" for c in name).lstrip("_.-") or "model"
    return ModelRef(fine[:128], int(directory.name) if numbered else None)

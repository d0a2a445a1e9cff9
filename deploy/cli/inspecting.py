"""What can be read of a version, gathered: the data behind `tfs inspect`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy.client.snippets import Calls
    from deploy.goldens.warmup import Checked
    from deploy.repository import Manifest
    from deploy.savedmodel import SavedModelInfo
    from deploy.savedmodel.tflite import TfliteInfo
    from deploy.types import Contract, ModelRef, ModelVersion, Signature

_TFLITE = "model.tflite"  # as savedmodel.tflite.FILE, which is imported only where there is one


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everything that can be read of a version without running it.

    info: None where there is a TFLite file only. calls: by signature, for a server; devices: for its TFLite file.
    """

    path: Path
    mv: ModelVersion | None
    info: SavedModelInfo | None
    tflite: TfliteInfo | None
    manifest: Manifest | None
    warmup: Checked | None
    variables: Mapping[str, int]
    calls: Mapping[str, Calls]
    devices: Mapping[str, str]

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
            "variables": dict(self.variables), "goldens": self.warmup.goldens if self.warmup else 0,
            "warmup": self.warmup.to_json() if self.warmup else None,
            "tflite": self.tflite.to_json() if self.tflite else None,
            "manifest": None if self.manifest is None else {
                "digest": self.manifest.digest, "created": self.manifest.created,
                "producer": dict(self.manifest.producer), "tolerances": dict(self.manifest.tolerances),
                "files": {name: {"size": r.size, "digest": r.digest} for name, r in self.manifest.files.items()}},
            "calls": {name: {**calls.to_json(), **({"litert": self.devices[name]} if name in self.devices else {})}
                      for name, calls in self.calls.items()}}


def inspected(path: Path, mv: ModelVersion | None, addresses: tuple[str, str] | None = None,
              ref: str | None = None) -> Inspection:
    """Read it. addresses: gRPC's and REST's of the server that the calls are for; without them, there are no calls.

    Raises IncompleteVersion, RepositoryError, SpecError for a `ref` that is none.
    """
    from deploy import savedmodel
    from deploy.repository import read_manifest
    from deploy.types import ModelRef

    file = path if path.suffix == ".tflite" or path.is_file() else path / _TFLITE
    small = None
    if file.is_file() or file == path:
        from deploy.savedmodel import tflite

        small = tflite.read(file)
    info = savedmodel.read(path) if small is None or (path / "saved_model.pb").exists() else None
    known = info or small
    assert known is not None
    asked = ModelRef.parse(ref) if ref else ModelRef(mv.name, mv.version) if mv else _guessed(path)
    calls: Mapping[str, Calls] = {}
    devices: Mapping[str, str] = {}
    if addresses:
        calls, devices = _calls(path, known.contract, info, asked, addresses), _devices(file, small, path)
    return Inspection(path, mv, info, small, read_manifest(path), _warmup(path, known.contract),
                      _variables(path), calls, devices)


def _warmup(path: Path, contract: Contract) -> Checked | None:
    from deploy.repository.naming import WARMUP_FILE

    if not (path / WARMUP_FILE).is_file():
        return None
    from deploy.goldens import warmup

    return warmup.check(path, contract)


def _variables(path: Path) -> dict[str, int]:
    from deploy.savedmodel import bundle

    index = path / "variables" / "variables.index"
    if not index.is_file():
        return {"count": 0, "parameters": 0, "bytes": 0}
    read = bundle.read(index)
    return {"count": len(read.model_variables), "parameters": read.parameters,
            "bytes": sum(v.size for v in read.model_variables.values())}


def _calls(path: Path, contract: Contract, info: SavedModelInfo | None, ref: ModelRef,
           addresses: tuple[str, str]) -> dict[str, Calls]:
    from deploy.client import snippets
    from deploy.errors import BadRequest

    made, endpoint = {}, snippets.Address(*addresses)
    for name, signature in contract.items():
        try:
            made[name] = snippets.calls(signature, _inputs(path, signature, info), ref, endpoint)
        except BadRequest as error:  # a dtype that can't be sent
            made[name] = snippets.Calls("", "", error.message)
    return made


def _devices(file: Path, small: TfliteInfo | None, path: Path) -> dict[str, str]:
    """Files without signatures are asked by tensor numbers, which nobody wants to paste."""
    from deploy.client import snippets

    if small is None or not small.named:
        return {}
    known = ("float32", "int32", "int64", "uint8", "int8", "bool", "string", "float64", "float16")
    return {name: snippets.litert(signature, inputs, str(file)) for name, signature in small.contract.items()
            if all(spec.dtype in known for spec in signature.inputs)
            and (inputs := _made(path, signature)) is not None}


def _made(path: Path, signature: Signature) -> Mapping[str, Any] | None:
    from deploy.errors import BadRequest

    try:
        return _inputs(path, signature, None)
    except BadRequest:
        return None


def _inputs(path: Path, signature: Signature, info: SavedModelInfo | None) -> Mapping[str, Any]:
    """Those of a small golden case, since these are known to be answered; else made up."""
    import numpy as np

    from deploy import goldens
    from deploy.client.snippets import SMALL
    from deploy.errors import DeployError
    from deploy.goldens import examples

    try:
        recorded = goldens.read(path) if path.is_dir() else []
    except DeployError:  # the check of the file tells it
        recorded = []
    for golden in recorded:
        arrays = golden.inputs.values()
        if golden.signature == signature.name and all(
                array.size <= SMALL and (array.dtype.kind not in "fc" or np.isfinite(array).all()) for array in arrays):
            return golden.inputs
    return examples.generate(signature, 1, features=info.features if info else {})


def _guessed(path: Path) -> ModelRef:
    """`.../digits/3` is digits/3; another directory or a file is a model of its own name."""
    from deploy.types import ModelRef

    path = path.absolute()
    directory = path.parent if path.is_file() else path
    numbered = directory.name.isdecimal() and int(directory.name) > 0
    name = directory.parent.name if numbered else path.stem
    fine = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "_" for c in name).lstrip("_.-") or "model"
    return ModelRef(fine[:128], int(directory.name) if numbered else None)

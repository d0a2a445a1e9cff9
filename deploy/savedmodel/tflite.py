"""A TFLite file read as data, without TensorFlow: its signatures and the operators that it needs.

Only what is asked for is read, however large the weights are. Source: tensorflow/compiler/mlir/lite/schema/schema.fbs.
"""

from __future__ import annotations

import contextlib
import mmap
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from google.protobuf.message import DecodeError

from deploy import files
from deploy.errors import IncompleteVersion
from deploy.savedmodel.flatbuffer import DTYPES, OPERATORS, Budget, Table, unsigned
from deploy.types import DEFAULT_SIGNATURE, Contract, Signature, TensorSpec
from deploy.wire import model_pb2
from deploy.wire.contracts import contract_from_map, signature_to_proto

FILE = "model.tflite"
"""Its name in a version directory, beside saved_model.pb or alone."""

CUSTOM = "CUSTOM"
SIGNATURES = "signature_defs_metadata"
FLEX = "Flex"  # operators of Select TF are custom ones with this prefix and TensorFlow's name

SENDABLE = ("float32", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8")
"""What TF Serving can pass to and from a TFLite model (TfLiteTypeToTfType)."""

_IDENTIFIER = b"TFL3"
_BUNDLES = {b"LITERTLM": "a LiteRT-LM bundle", b"PK\x03\x04": "a zip archive, such as a MediaPipe .task bundle"}
_LISTED, _MOST_LISTED = 5, 100  # members of a bundle, and of an archive behind a model
_AGAIN = "convert or copy the model again"


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator that a model uses.

    name: of a builtin one `FULLY_CONNECTED`, ...; a custom one has the name that its author gave it.
    version: of its semantics, as a runtime registers it.
    """

    name: str
    custom: bool = False
    version: int = 1

    @property
    def select_tf(self) -> str | None:
        """TensorFlow's name of an op that needs the Flex delegate; None for others."""
        return self.name.removeprefix(FLEX) if self.custom and self.name.startswith(FLEX) else None

    def __str__(self) -> str:
        return f"{self.name} (custom)" if self.custom else self.name


@dataclass(frozen=True, slots=True)
class TfliteInfo:
    """A TFLite model as data.

    contract: its signatures. Where the file has none: one called `serving_default`, as TensorFlow Serving invents it,
        with the tensors' own names.
    operators: each once, sorted by name; `operations` counts their uses.
    named: whether the file itself has signatures.
    size: bytes of the file. associated: members of a zip archive behind the model, such as labels.
    first: inputs and outputs of the first graph in its order, by the tensors' own names.
    outside: weights lie behind the FlatBuffer, as those of more than 2 GiB do.
    """

    contract: Contract
    operators: tuple[Operator, ...]
    description: str
    named: bool
    operations: int
    size: int
    associated: tuple[str, ...] = ()
    first: tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]] = ((), ())
    outside: bool = False

    def to_json(self) -> dict[str, object]:
        """Plain JSON data."""
        return {"contract": self.contract.to_json(), "named": self.named, "size": self.size,
                "description": self.description, "operations": self.operations, "associated": list(self.associated),
                "operators": [{"name": o.name, "custom": o.custom, "version": o.version} for o in self.operators]}


def read(path: str | Path, *, first: bool = False, invented: bool = False) -> TfliteInfo:
    """What the TFLite file holds; its weights aren't read.

    first: only signatures of the first graph. invented: the signature that TensorFlow Serving makes up of that graph.
    Raises IncompleteVersion if it is missing, truncated, damaged, or no TFLite file.
    """
    path = Path(path)
    try:
        with files.open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[4:8] != _IDENTIFIER:
                raise ValueError(_instead(path, data))
            info = _model(Table(data, unsigned(data, 0), Budget()), len(data), first=first, invented=invented)
            return replace(info, associated=_associated(path))
    except OSError as error:
        raise IncompleteVersion(f"{path} can't be read: {files.reason(error)}") from error
    except (ValueError, IndexError, KeyError, struct.error) as error:
        why = error if path.stat().st_size else "it is empty"
        raise IncompleteVersion(f"{path} is no TFLite model, or damaged: {why}", hint=_AGAIN) from error


def _instead(path: Path, data: mmap.mmap) -> str:
    """What a file is that lacks the identifier."""
    bundle = next((name for magic, name in _BUNDLES.items() if data[:8].startswith(magic)), "")
    if not bundle:
        return f"expected {_IDENTIFIER.decode()} at byte 4, seen {data[4:8]!r}"
    inside: list[str] = []
    with contextlib.suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        inside = [name for name in archive.namelist() if name.endswith(".tflite")][:_LISTED]
    holding = f" that holds {', '.join(inside)}" if inside else ""
    return f"it is {bundle}{holding}, and a server loads one .tflite: unpack it, and name the model in it"


def signature_defs(path: str | Path) -> dict[str, model_pb2.SignatureDef]:
    """The SignatureDefs in the file's metadata, by key: what TF Serving takes for the model's signatures. May be none.

    Needs the package `flatbuffers`, which LiteRT brings along.
    Raises IncompleteVersion.
    Source: tensorflow/lite/tools/signature/signature_def_util.cc.
    """
    path = Path(path)
    try:
        with files.open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            content = _metadata(Table(data, unsigned(data, 0), Budget()), SIGNATURES)
        if not content:
            return {}
        from flatbuffers import flexbuffers

        entries = flexbuffers.GetRoot(content).AsMap
        return {key.AsKey: model_pb2.SignatureDef.FromString(bytes(value.AsStringBytes))
                for key, value in zip(entries.Keys, entries.Values, strict=True)}
    except OSError as error:
        raise IncompleteVersion(f"{path} can't be read: {files.reason(error)}") from error
    except (ValueError, TypeError, IndexError, KeyError, struct.error, DecodeError) as error:
        raise IncompleteVersion(f"{path} has no readable {SIGNATURES}: {error}", hint=_AGAIN) from error


def metadata_of(signatures: Mapping[str, Signature]) -> bytes:
    """The content of that metadata: a FlexBuffer map of serialized SignatureDefs. Needs `flatbuffers`, too."""
    from flatbuffers import flexbuffers

    builder = flexbuffers.Builder()
    with builder.Map():
        for name, signature in sorted(signatures.items()):
            builder.Key(name)
            builder.String(_Raw(signature_to_proto(signature).SerializeToString(deterministic=True)))
    return bytes(builder.Finish())


@dataclass(frozen=True, slots=True)
class _Raw:
    """Stands in for text where the bytes are there already."""

    data: bytes

    def encode(self, _: str) -> bytes:
        return self.data


def served(path: str | Path) -> Contract:
    """The signatures that TensorFlow Serving sees in the file: those of its metadata, else one that it makes up.

    Raises IncompleteVersion, BadReply for a dtype that TensorFlow doesn't define.
    """
    try:
        definitions = signature_defs(path)
    except ModuleNotFoundError:  # without flatbuffers: signatures of the first graph are those that `tfs export` names
        return read(path, first=True).contract
    return contract_from_map(definitions) if definitions else read(path, invented=True).contract


def served_beside(version_dir: Path, contract: Contract) -> Contract:
    """The part of a version's contract that a server has which prefers its model.tflite; all without such a file."""
    path = version_dir / FILE
    if not path.is_file():
        return contract
    contract_served = served(path)
    return Contract(tuple(contract.get(name) or signature for name, signature in contract_served.items()))


def _model(model: Table, size: int, *, first: bool, invented: bool) -> TfliteInfo:
    graphs = list(model.tables(2))
    if not graphs:
        raise ValueError("it holds no graph")
    outside = False
    for buffer in model.tables(4):  # the weights, of which nothing is read
        buffer.check_vector(0)
        outside = outside or buffer.number(1, "<Q") > 1
    signatures = tuple(_signature(table, graphs) for table in model.tables(7)
                       if not invented and not (first and table.number(4, "<I")))
    sides = _first(graphs[0])
    contract = Contract(signatures or (_invented(*sides),))
    operators = {_operator(table) for table in model.tables(1)}
    return TfliteInfo(contract, tuple(sorted(operators, key=lambda o: (o.name, o.version))), model.text(3),
                      bool(signatures), sum(graph.count(3) for graph in graphs), size, first=sides, outside=outside)


def _metadata(model: Table, name: str) -> bytes:
    """The content of the model's metadata of this name, empty if there is none."""
    for entry in model.tables(6):
        if entry.text(0) == name:
            return list(model.tables(4))[entry.number(1, "<I")].content(0)
    return b""


def _operator(table: Table) -> Operator:
    """Numbers from 127 on don't fit the first field, which holds 127 then."""
    code = max(table.number(0, "<b"), table.number(3, "<i"))
    name = OPERATORS[code] if 0 <= code < len(OPERATORS) else f"BUILTIN_{code}"
    version = table.number(2, "<i", 1)
    return Operator(table.text(1), True, version) if name == CUSTOM else Operator(name, False, version)


def _signature(table: Table, graphs: list[Table]) -> Signature:
    tensors = list(graphs[table.number(4, "<I")].tables(0))

    def specs(field: int) -> tuple[TensorSpec, ...]:
        return tuple(_spec(tensors[entry.number(1, "<I")], entry.text(0)) for entry in table.tables(field))

    return Signature(table.text(2) or DEFAULT_SIGNATURE, specs(0), specs(1))


def _first(graph: Table) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    tensors = list(graph.tables(0))
    inputs, outputs = (tuple(_spec(tensors[index]) for index in graph.numbers(field) or ()) for field in (1, 2))
    return inputs, outputs


def _invented(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Signature:
    """The server cuts names at the colon; of two that are the same then, it has the last one only."""
    def cut(tensors: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        by_name = {spec.name.partition(":")[0]: spec for spec in sorted(tensors, key=lambda spec: spec.name)}
        return tuple(replace(spec, name=name) for name, spec in by_name.items())

    return Signature(DEFAULT_SIGNATURE, cut(inputs), cut(outputs))


def _associated(path: Path) -> tuple[str, ...]:
    """A zip archive may be appended to a model; a damaged one hurts nobody who serves it."""
    with contextlib.suppress(OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return tuple(archive.namelist()[:_MOST_LISTED])
    return ()


def _spec(tensor: Table, called: str = "") -> TensorSpec:
    """shape_signature has -1 where `shape` has the 1 that a free dimension starts with.

    A tensor without dimensions is a scalar only if has_rank says so; old converters didn't set that.
    """
    shape = tensor.numbers(7) or tensor.numbers(0) or (() if tensor.number(8, "<B") else None)
    type_code, name = tensor.number(1, "<b"), tensor.text(3)
    dtype = DTYPES[type_code] if 0 <= type_code < len(DTYPES) else f"tflite_{type_code}"
    known = None if shape is None else tuple(None if size < 0 else size for size in shape)
    return TensorSpec(called or name, dtype, known, name)

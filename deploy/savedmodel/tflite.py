"""A TFLite file read as data, without TensorFlow: its signatures and the operators that it needs.

A FlatBuffer: tables point to fields by offsets, so that only what is asked for is read, however large the weights are.
Sources: tensorflow/compiler/mlir/lite/schema/schema.fbs, https://flatbuffers.dev/internals/.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from deploy import files
from deploy.errors import IncompleteVersion
from deploy.savedmodel.tflite_names import DTYPES, OPERATORS
from deploy.types import DEFAULT_SIGNATURE, Contract, Signature, TensorSpec
from deploy.wire import model_pb2

FILE = "model.tflite"
"""Its name in a version directory, beside saved_model.pb."""

CUSTOM = "CUSTOM"
SIGNATURES = "signature_defs_metadata"
FLEX = "Flex"  # operators of Select TF are custom ones with this prefix and TensorFlow's name

_IDENTIFIER = b"TFL3"
_AGAIN = "convert or copy the model again"
_LONGEST = 1_000_000  # entries of a vector; more is damage, not a model
_MOST_READ = 64 << 20  # bytes of names, shapes and tables: a table may be named a million times
_PER_TABLE = 32  # what a table counts for beside its bytes, for the time that it takes
_MOST_CONTENT = 64 << 20  # bytes of metadata


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
    size: bytes of the file.
    """

    contract: Contract
    operators: tuple[Operator, ...]
    description: str
    named: bool
    operations: int
    size: int

    def to_json(self) -> dict[str, object]:
        """Plain JSON data."""
        return {"contract": self.contract.to_json(), "named": self.named, "size": self.size,
                "description": self.description, "operations": self.operations,
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
                raise ValueError(f"expected {_IDENTIFIER.decode()} at byte 4, seen {data[4:8]!r}")
            return _model(_Table(data, _unsigned(data, 0), _Budget()), len(data), first=first, invented=invented)
    except OSError as error:
        raise IncompleteVersion(f"{path} can't be read: {files.reason(error)}") from error
    except (ValueError, IndexError, KeyError, struct.error) as error:
        raise IncompleteVersion(f"{path} is no TFLite model, or damaged: {error}", hint=_AGAIN) from error


def signature_defs(path: str | Path) -> dict[str, model_pb2.SignatureDef]:
    """The SignatureDefs in the file's metadata, by key: what TF Serving takes for the model's signatures. May be none.

    Needs the package `flatbuffers`, which LiteRT brings along.
    Raises IncompleteVersion.
    Source: tensorflow/lite/tools/signature/signature_def_util.cc.
    """
    path = Path(path)
    try:
        with files.open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            content = _metadata(_Table(data, _unsigned(data, 0), _Budget()), SIGNATURES)
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


class _Budget:
    """What may be read of a file in all, since its offsets may lead to the same bytes again and again."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = _MOST_READ

    def spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError(f"its tables take more than {_MOST_READ:,} bytes")


class _Table:
    """A table of a FlatBuffer. Fields are numbered as in the schema; an absent one has its default."""

    __slots__ = ("_at", "_budget", "_data", "_fields")

    def __init__(self, data: Any, at: int, budget: _Budget) -> None:
        self._data, self._at, self._budget = data, at, budget
        vtable = at - struct.unpack_from("<i", data, at)[0]
        size = struct.unpack_from("<H", data, vtable)[0]
        if vtable < 0 or size < 4 or size % 2 or vtable + size > len(data):
            raise ValueError(f"no table at byte {at}")
        budget.spend(size + _PER_TABLE)
        self._fields = struct.unpack_from(f"<{(size - 4) // 2}H", data, vtable + 4)

    def number(self, field: int, form: str, default: int = 0) -> int:
        place = self._place(field)
        return default if place is None else int(struct.unpack_from(form, self._data, place)[0])

    def text(self, field: int) -> str:
        place = self._target(field)
        if place is None:
            return ""
        size = _unsigned(self._data, place)
        if place + 4 + size > len(self._data):
            raise ValueError(f"a text of {size} bytes at byte {place} lies outside of the file")
        self._budget.spend(size)
        return bytes(self._data[place + 4:place + 4 + size]).decode(errors="replace")

    def numbers(self, field: int) -> tuple[int, ...] | None:
        """A vector of int32; None if it is absent."""
        place = self._target(field)
        if place is None:
            return None
        size = _length(self._data, place)
        self._budget.spend(4 * size)
        return struct.unpack_from(f"<{size}i", self._data, place + 4)

    def count(self, field: int) -> int:
        """The length of a vector."""
        place = self._target(field)
        return 0 if place is None else _length(self._data, place)

    def content(self, field: int) -> bytes:
        """A vector of bytes."""
        place = self._target(field)
        if place is None:
            return b""
        size = _unsigned(self._data, place)
        if size > _MOST_CONTENT:
            raise ValueError(f"metadata of {size:,} bytes")
        return bytes(self._data[place + 4:place + 4 + size])

    def tables(self, field: int) -> Iterator[_Table]:
        """A vector of tables."""
        place = self._target(field)
        if place is not None:
            for item in range(place + 4, place + 4 + 4 * _length(self._data, place), 4):
                yield _Table(self._data, item + _unsigned(self._data, item), self._budget)

    def _place(self, field: int) -> int | None:
        offset = self._fields[field] if field < len(self._fields) else 0
        return self._at + offset if offset else None

    def _target(self, field: int) -> int | None:
        place = self._place(field)
        return None if place is None else place + _unsigned(self._data, place)


def _unsigned(data: Any, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


def _length(data: Any, place: int) -> int:
    size = _unsigned(data, place)
    if size > _LONGEST or place + 4 + size > len(data):
        raise ValueError(f"a vector of {size} entries at byte {place} lies outside of the file")
    return size


def _model(model: _Table, size: int, *, first: bool, invented: bool) -> TfliteInfo:
    graphs = list(model.tables(2))
    if not graphs:
        raise ValueError("it holds no graph")
    signatures = tuple(_signature(table, graphs) for table in model.tables(7)
                       if not invented and not (first and table.number(4, "<I")))
    contract = Contract(signatures or (_invented(graphs[0]),))
    operators = {_operator(table) for table in model.tables(1)}
    return TfliteInfo(contract, tuple(sorted(operators, key=lambda o: (o.name, o.version))), model.text(3),
                      bool(signatures), sum(graph.count(3) for graph in graphs), size)


def _metadata(model: _Table, name: str) -> bytes:
    """The content of the model's metadata of this name, empty if there is none."""
    for entry in model.tables(6):
        if entry.text(0) == name:
            return list(model.tables(4))[entry.number(1, "<I")].content(0)
    return b""


def _operator(table: _Table) -> Operator:
    """Numbers from 127 on don't fit the first field, which holds 127 then."""
    code = max(table.number(0, "<b"), table.number(3, "<i"))
    name = OPERATORS[code] if 0 <= code < len(OPERATORS) else f"BUILTIN_{code}"
    version = table.number(2, "<i", 1)
    return Operator(table.text(1), True, version) if name == CUSTOM else Operator(name, False, version)


def _signature(table: _Table, graphs: list[_Table]) -> Signature:
    tensors = list(graphs[table.number(4, "<I")].tables(0))

    def specs(field: int) -> tuple[TensorSpec, ...]:
        return tuple(_spec(tensors[entry.number(1, "<I")], entry.text(0)) for entry in table.tables(field))

    return Signature(table.text(2) or DEFAULT_SIGNATURE, specs(0), specs(1))


def _invented(graph: _Table) -> Signature:
    tensors = list(graph.tables(0))

    def specs(field: int) -> tuple[TensorSpec, ...]:
        return tuple(_spec(tensors[index]) for index in graph.numbers(field) or ())

    return Signature(DEFAULT_SIGNATURE, specs(1), specs(2))


def _spec(tensor: _Table, called: str = "") -> TensorSpec:
    """shape_signature has -1 where `shape` has the 1 that a free dimension starts with.

    A tensor without dimensions is a scalar only if has_rank says so; old converters didn't set that.
    """
    shape = tensor.numbers(7) or tensor.numbers(0) or (() if tensor.number(8, "<B") else None)
    kind, name = tensor.number(1, "<b"), tensor.text(3)
    dtype = DTYPES[kind] if 0 <= kind < len(DTYPES) else f"tflite_{kind}"
    known = None if shape is None else tuple(None if size < 0 else size for size in shape)
    return TensorSpec(called or name, dtype, known, name)

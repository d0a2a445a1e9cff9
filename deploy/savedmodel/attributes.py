"""The attributes of nodes and functions: the functions that they name, and what is left of big ones."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from deploy.wire.spans import fields
from deploy.wire.tensors import varint

if TYPE_CHECKING:
    from deploy.wire.model_pb2 import AttrValue, NameAttrList

_TRIMMED = 1 << 16  # bytes of an attribute that may be a constant's value
_ATTR, _VALUE, _LIST, _FUNCTIONS = 5, 2, 1, 9  # numbers of fields: NodeDef's, a map entry's, AttrValue's, its list's
_DATA = frozenset({2, 8})  # AttrValue's bytes and tensors

COMPILED = "_XlaMustCompile"
IMPLEMENTS = "api_implements"
_NOTES = (COMPILED.encode(), IMPLEMENTS.encode())


def functions_in(values: Iterable[AttrValue]) -> Iterator[str]:
    """The functions that attributes name, alone, in lists, and as attributes of functions."""
    for value in values:
        for called in (value.func, *value.list.func):
            yield from _named(called)


def _named(called: NameAttrList) -> Iterator[str]:
    if called.name:
        yield called.name
    yield from functions_in(called.attr.values())


def of_function(entries: Iterable[bytes], arguments: Iterable[bytes] = ()) -> dict[str, AttrValue]:
    """A function's attributes that may name functions or say how it is run, and those of its arguments.

    entries, arguments: the entries of the maps `attr` and `arg_attr`, serialized.
    """
    from deploy.wire.model_pb2 import FunctionDef

    told = [entry for entry in entries if _may_name(entry) or any(note in entry for note in _NOTES)]
    named = [entry for entry in arguments if _may_name(entry)]
    if not told and not named:
        return {}
    made = FunctionDef.FromString(b"".join((*(_field(5, entry) for entry in told),
                                            *(_field(7, entry) for entry in named))))
    return {**dict(made.attr), **{f"{number}:{name}": value for number, each in made.arg_attr.items()
                                  for name, value in each.attr.items()}}


def _may_name(entry: bytes) -> bool:
    """Whether the tags of AttrValue.func or of its list's func are among the bytes."""
    return b"\x52" in entry or b"\x4a" in entry


def _field(number: int, value: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + varint(len(value)) + value


def slim(data: mmap.mmap, at: int, end: int) -> bytes:
    """A NodeDef's bytes without the values of big constants; attributes that may name functions stay, whatever size."""
    return b"".join(data[b:e] for n, b, value, e in fields(data, at, end)
                    if n != _ATTR or e - b <= _TRIMMED or not _is_constant(data, value, e))


def _is_constant(data: mmap.mmap, at: int, end: int) -> bool:
    """Whether all that a map entry's value has is bytes and tensors, or a list without functions."""
    for _, _, value, stop in (field for field in fields(data, at, end) if field[0] == _VALUE):
        for number, _, begin, finish in fields(data, value, stop):
            if number == _LIST:
                if any(inner[0] == _FUNCTIONS for inner in fields(data, begin, finish)):
                    return False
            elif number not in _DATA:
                return False
    return True

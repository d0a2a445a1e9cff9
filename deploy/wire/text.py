"""protobuf text format, as TF Serving's config files have it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TypeVar

from google.protobuf import any_pb2, descriptor_pb2, text_format, wrappers_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

from deploy.errors import SpecError
from deploy.wire import serving_pb2
from deploy.wire.any_codec import PACKAGE, official_package

M = TypeVar("M", bound=Message)


def to_text(message: Message) -> str:
    """The message in text format, the same bytes for the same message; Any is written out under TensorFlow's name."""
    return text_format.MessageToString(message, as_utf8=True, descriptor_pool=_official_pool())


def from_text(text: str, message_type: type[M], where: str) -> M:
    """The message that `text` describes.

    where: what the text is, usually its path; messages start with it.
    Raises SpecError that says line and column. Any may be written out: `[type.googleapis.com/tensorflow...] {...}`.
    """
    message = message_type()
    try:
        text_format.Parse(text, message, descriptor_pool=_official_pool())
    except text_format.ParseError as error:
        raise _spec_error(error, text, where, message_type.DESCRIPTOR.name) from error
    return message


def _spec_error(error: text_format.ParseError, text: str, where: str, name: str) -> SpecError:
    line, column = error.GetLine(), error.GetColumn()
    reason = str(error).removeprefix(f"{line}:{column} : ").replace(f"{PACKAGE}.", "").rstrip(".")
    position = ""
    if line is not None:
        position = f"line {line}, column {column}: "
        reason = reason.removeprefix(f"'{''.join(text.split(chr(10))[line - 1:line])}': ")
    return SpecError(f"{position}{reason}", path=where, hint=f"expected protobuf text of {name}",
                     details={"line": line, "column": column})


@cache
def _official_pool() -> DescriptorPool:
    """Our messages once more, under the names that TensorFlow's have: text names the types inside Any by them.

    A pool of its own, so that the real ones can still be loaded into the same process.
    """
    pool = DescriptorPool()
    for file in (any_pb2.DESCRIPTOR, wrappers_pb2.DESCRIPTOR):
        pool.AddSerializedFile(file.serialized_pb)
    files = (*serving_pb2.DESCRIPTOR.public_dependencies, serving_pb2.DESCRIPTOR)
    packages = {f".{PACKAGE}.{name}": f".{official_package(file.name)}.{name}"
                for file in files for name in (*file.message_types_by_name, *file.enum_types_by_name)}
    for file in files:
        pool.AddSerializedFile(_renamed(file, packages).SerializeToString())
    return pool


def _renamed(file: FileDescriptor, packages: dict[str, str]) -> descriptor_pb2.FileDescriptorProto:
    proto = descriptor_pb2.FileDescriptorProto.FromString(file.serialized_pb)
    proto.package = official_package(file.name)
    del proto.service[:]
    for field in (f for message in proto.message_type for f in _fields(message) if f.type_name):
        root = ".".join(field.type_name.split(".")[:4])  # "", package in two parts, message
        field.type_name = packages.get(root, root) + field.type_name.removeprefix(root)
    return proto


def _fields(message: descriptor_pb2.DescriptorProto) -> Iterator[descriptor_pb2.FieldDescriptorProto]:
    yield from message.field
    for nested in message.nested_type:
        yield from _fields(nested)

"""Messages under TensorFlow's names: protobuf text format, as in TF Serving's config files, and google.protobuf.Any."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TypeVar

from google.protobuf import any_pb2, descriptor_pb2, text_format, wrappers_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message

from deploy.errors import BadReply, SpecError
from deploy.wire import serving_pb2

PREFIX = "type.googleapis.com/"
PACKAGE = "tfs_deploy.wire"
M = TypeVar("M", bound=Message)


def official_package(file_name: str) -> str:
    """The proto package that TensorFlow has the messages of one of our files in."""
    serving = file_name in ("deploy/wire/config.proto", "deploy/wire/serving.proto")
    return "tensorflow.serving" if serving else "tensorflow"


def official_name(message: Message | type[Message]) -> str:
    """pb.SignatureDefMap -> tensorflow.serving.SignatureDefMap; foreign messages keep their name."""
    descriptor = message.DESCRIPTOR
    if not descriptor.full_name.startswith(f"{PACKAGE}."):
        return descriptor.full_name
    return official_package(descriptor.file.name) + descriptor.full_name.removeprefix(PACKAGE)


def pack(message: Message) -> any_pb2.Any:
    """`message` inside an Any, as TensorFlow would have packed its own."""
    return any_pb2.Any(type_url=PREFIX + official_name(message),
                       value=message.SerializeToString(deterministic=True))


def unpack(packed: any_pb2.Any, message_type: type[M]) -> M:
    """The `message_type` inside `packed`. Raises BadReply if it holds another type, or damaged bytes."""
    expected, packed_name = official_name(message_type), packed.type_url.rpartition("/")[2]
    if packed_name != expected:
        raise BadReply(f"expected {expected} inside google.protobuf.Any, got {packed_name or 'nothing'}")
    try:
        return message_type.FromString(packed.value)
    except DecodeError as error:
        raise BadReply(f"the {expected} inside google.protobuf.Any can't be parsed") from error


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

"""google.protobuf.Any with TensorFlow's type names around messages of our package."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message

from deploy.errors import BadReply

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
    expected, seen = official_name(message_type), packed.type_url.rpartition("/")[2]
    if seen != expected:
        raise BadReply(f"expected {expected} inside google.protobuf.Any, got {seen or 'nothing'}")
    try:
        return message_type.FromString(packed.value)
    except DecodeError as error:
        raise BadReply(f"the {expected} inside google.protobuf.Any can't be parsed") from error

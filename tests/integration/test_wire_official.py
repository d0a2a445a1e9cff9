"""Our messages against the official stubs, field by field and byte by byte, both loaded in this one process."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from deploy.wire import methods
from deploy.wire import serving_pb2 as pb
from deploy.wire.text import PACKAGE, official_name, pack, unpack

pytestmark = pytest.mark.tensorflow

STUBS = (
    "tensorflow.core.protobuf.config_pb2", "tensorflow.core.protobuf.fingerprint_pb2",
    "tensorflow.core.protobuf.meta_graph_pb2", "tensorflow.core.protobuf.saved_model_pb2",
    "tensorflow.core.protobuf.tensor_bundle_pb2", "tensorflow_serving.apis.model_service_pb2",
    "tensorflow_serving.apis.prediction_log_pb2", "tensorflow_serving.apis.prediction_service_pb2",
    "tensorflow_serving.config.platform_config_pb2",
)

WITHOUT_STUBS = {  # config files of the server's own, not in tensorflow-serving-api; test_wire_config.py has a table
    "BatchingParameters", "ModelWarmupOptions", "SessionBundleConfig", "SavedModelBundleSourceAdapterConfig",
    "PrometheusConfig", "MonitoringConfig", "SSLConfig"}

LEFT_OUT = {
    ("GraphDef", "debug_info"): "stack traces of the exporting program; big, and nothing here reads them",
    ("MetaGraphDef", "object_graph_def"): "the exporting program's Python objects; big, and nothing here reads them",
    ("KernelDef", "host_memory_arg"): "where a kernel keeps its arguments; op lists only ask whether there is one",
    ("KernelDef", "priority"): "which of several kernels is taken; op lists only ask whether there is one",
    ("SessionRunRequest", "options"): "the session API isn't offered; only its logs are recognised",
    ("SessionRunResponse", "metadata"): "the session API isn't offered; only its logs are recognised",
}

Field = descriptor_pb2.FieldDescriptorProto
NUMERIC = set(range(1, 19)) - {Field.TYPE_STRING, Field.TYPE_BYTES, Field.TYPE_MESSAGE, Field.TYPE_GROUP}
FILES = (*pb.DESCRIPTOR.public_dependencies, pb.DESCRIPTOR)


def messages(descriptors: Any) -> Iterator[Any]:
    for descriptor in descriptors:
        yield descriptor
        yield from messages(descriptor.nested_types)


OURS = {d.full_name.removeprefix(f"{PACKAGE}."): d for f in FILES for d in messages(f.message_types_by_name.values())}
COMPARED = sorted(name for name in OURS if name.split(".")[0] not in WITHOUT_STUBS)
ENUMS = {e.full_name.removeprefix(f"{PACKAGE}."): e
         for e in (*(e for f in FILES for e in f.enum_types_by_name.values()),
                   *(e for d in OURS.values() for e in d.enum_types))}


@pytest.fixture(scope="module", autouse=True)
def pool() -> descriptor_pool.DescriptorPool:
    for name in STUBS:
        importlib.import_module(name)
    return descriptor_pool.Default()


def our_class(name: str) -> Any:
    return message_factory.GetMessageClass(OURS[name])


def official_class(name: str, pool: descriptor_pool.DescriptorPool) -> Any:
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(official_name(our_class(name))))


def short(type_name: str) -> str:
    for package in (f".{PACKAGE}.", ".tensorflow.serving.", ".tensorflow.error.", ".tensorflow."):
        if type_name.startswith(package):
            return type_name.removeprefix(package)
    return type_name


def fields(descriptor: Any) -> dict[str, tuple[object, ...]]:
    """Name -> number, type, type's name, cardinality, packed, oneof, explicit presence."""
    proto = descriptor_pb2.DescriptorProto()
    descriptor.CopyToProto(proto)
    proto3 = descriptor.file.serialized_pb and descriptor_pb2.FileDescriptorProto.FromString(
        descriptor.file.serialized_pb).syntax == "proto3"

    def describe(f: Any) -> tuple[object, ...]:
        repeated = f.label == Field.LABEL_REPEATED
        packed = repeated and f.type in NUMERIC and (f.options.packed if f.options.HasField("packed") else proto3)
        oneof = proto.oneof_decl[f.oneof_index].name if f.HasField("oneof_index") else None
        return f.number, f.type, short(f.type_name), f.label, packed, oneof, f.proto3_optional

    return {f.name: describe(f) for f in proto.field}


@pytest.mark.parametrize("name", COMPARED)
def test_fields_are_the_official_ones(name: str, pool: descriptor_pool.DescriptorPool) -> None:
    official = fields(official_class(name, pool).DESCRIPTOR)
    for message, field in LEFT_OUT:
        if message == name:
            del official[field]
    assert fields(OURS[name]) == official
    assert OURS[name].GetOptions().map_entry == official_class(name, pool).DESCRIPTOR.GetOptions().map_entry


@pytest.mark.parametrize("name", sorted(ENUMS))
def test_enum_values_are_the_official_ones(name: str, pool: descriptor_pool.DescriptorPool) -> None:
    for package in ("tensorflow", "tensorflow.serving", "tensorflow.error"):
        try:
            official = pool.FindEnumTypeByName(f"{package}.{name}")
            break
        except KeyError:
            continue
    assert [(v.name, v.number) for v in ENUMS[name].values] == [(v.name, v.number) for v in official.values]


def test_what_is_left_out_exists_in_the_official_messages(pool: descriptor_pool.DescriptorPool) -> None:
    for message, field in LEFT_OUT:
        assert field in fields(official_class(message, pool).DESCRIPTOR)
        assert field not in fields(OURS[message])


SCALARS: dict[int, object] = {
    Field.TYPE_DOUBLE: -1.5, Field.TYPE_FLOAT: 0.25, Field.TYPE_INT64: -(2**63), Field.TYPE_UINT64: 2**64 - 1,
    Field.TYPE_INT32: -(2**31), Field.TYPE_FIXED64: 7, Field.TYPE_FIXED32: 2**32 - 1, Field.TYPE_BOOL: True,
    Field.TYPE_STRING: "tëxt", Field.TYPE_BYTES: b"\x00\xff", Field.TYPE_UINT32: 2**32 - 1, Field.TYPE_SINT32: -3,
    Field.TYPE_SINT64: -(2**63), Field.TYPE_SFIXED32: -5, Field.TYPE_SFIXED64: -6,
}


def fill(message: Any, depth: int = 3) -> Any:
    """Set every field (of a oneof, the last one stays), nested messages down to `depth`."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type is None:
            values = field.enum_type.values if field.enum_type else ()
            value = values[-1].number if values else SCALARS[field.type]
            if field.is_repeated:
                getattr(message, field.name).extend([value, value])
            else:
                setattr(message, field.name, value)
        elif field.message_type.GetOptions().map_entry:
            fill_map(getattr(message, field.name), field.message_type, depth)
        elif depth and field.is_repeated:
            fill(getattr(message, field.name).add(), depth - 1)
        elif depth:
            getattr(message, field.name).SetInParent()
            fill(getattr(message, field.name), depth - 1)
    return message


def fill_map(entries: Any, entry: Any, depth: int) -> None:
    key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
    first = SCALARS[key.type]
    if value.message_type is None:
        entries[first] = SCALARS[value.type]
    elif depth:
        fill(entries[first], depth - 1)


def serialized(message: Any) -> bytes:
    data: bytes = message.SerializeToString(deterministic=True)
    return data


@pytest.mark.parametrize("name", [name for name in COMPARED if not OURS[name].GetOptions().map_entry])
def test_bytes_survive_both_ways(name: str, pool: descriptor_pool.DescriptorPool) -> None:
    ours, theirs = our_class(name), official_class(name, pool)
    mine = fill(ours())
    data = serialized(mine)
    assert serialized(theirs.FromString(data)) == data
    assert ours.FromString(serialized(theirs.FromString(data))) == mine
    other = fill(theirs())  # has the fields that we leave out, too
    assert theirs.FromString(serialized(ours.FromString(serialized(other)))) == other


@pytest.mark.parametrize("name", [name for name in COMPARED if not OURS[name].GetOptions().map_entry])
def test_each_member_of_a_oneof_survives(name: str, pool: descriptor_pool.DescriptorPool) -> None:
    ours, theirs = our_class(name), official_class(name, pool)
    for oneof in OURS[name].oneofs:
        for field in oneof.fields:
            mine = ours()
            if field.message_type is not None:
                getattr(mine, field.name).SetInParent()
            else:
                setattr(mine, field.name, 0 if field.enum_type else type(SCALARS[field.type])())
            other = theirs.FromString(serialized(mine))
            assert other.WhichOneof(oneof.name) == field.name
            assert serialized(other) == serialized(mine)


def test_nobody_is_forgotten() -> None:
    """Every message of the serving APIs that the official stubs define at top level is one of ours."""
    stubs = [importlib.import_module(f"tensorflow_serving.apis.{name}_pb2") for name in (
        "classification", "get_model_metadata", "get_model_status", "inference", "input", "logging", "model",
        "model_management", "predict", "prediction_log", "regression", "session_service", "status")]
    names = {name for stub in stubs for name in stub.DESCRIPTOR.message_types_by_name}
    assert names - set(OURS) == set()


def test_methods_are_the_official_ones() -> None:
    from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2

    stubs = (prediction_service_pb2, model_service_pb2)
    official = {f"/{service.full_name}/{method.name}" for stub in stubs
                for service in stub.DESCRIPTOR.services_by_name.values() for method in service.methods}
    ours = {value for name, value in vars(methods).items() if name.isupper() and value.startswith("/")}
    assert ours == official


def test_any_has_the_official_type(pool: descriptor_pool.DescriptorPool) -> None:
    from google.protobuf import any_pb2
    from tensorflow_serving.apis import get_model_metadata_pb2

    signatures = fill(pb.SignatureDefMap())
    theirs = get_model_metadata_pb2.SignatureDefMap()
    assert pack(signatures).Unpack(theirs)
    packed = any_pb2.Any()
    packed.Pack(theirs)
    assert unpack(packed, pb.SignatureDefMap) == signatures

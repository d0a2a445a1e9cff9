"""TFLite files for tests, put together without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from deploy.wire import model_pb2
from deploy.wire.tensor_pb2 import DataType

FLOAT, STRING, FLOAT64 = schema.TensorType.FLOAT32, schema.TensorType.STRING, schema.TensorType.FLOAT64


class _Raw(str):
    """A text whose bytes need not be one."""

    data: bytes

    def encode(self, *_: object) -> bytes:
        return self.data


def half_plus_two(signatures: Mapping[str, model_pb2.SignatureDef] | None = None, *, x: str = "x", y: str = "y",
                  kind: int = FLOAT, custom: str = "", table: Mapping[str, tuple[str, ...]] | None = None,
                  half: str = "", free: bool = False) -> bytes:
    """A file whose y is x / 2 + 2, for x of any shape.

    signatures: in its metadata. kind: of the tensors. custom: name of a custom operator in place of the sum.
    table: signatures as LiteRT's converters write them: key -> names for x and each output.
    half: the name of a second output, x / 2. free: the file says that the first dimension is.
    """
    model = schema.ModelT()
    model.version, model.description = 3, "half_plus_two"
    buffers = [b"", np.float32(0.5).tobytes(), np.float32(2).tobytes()]
    names, shapes = [x, "a", "b", half or "ax", y], [[1, 1], [1], [1], [1, 1], [1, 1]]
    graph = schema.SubGraphT()
    graph.tensors = [_tensor(name, shape, kind, buffer)
                     for name, shape, buffer in zip(names, shapes, (0, 1, 2, 0, 0), strict=True)]
    for tensor in (tensor for tensor in graph.tensors if free and tensor.buffer == 0):
        tensor.shapeSignature = [-1, 1]
    graph.inputs, graph.outputs = [0], [4, 3] if half else [4]
    graph.operators = [_operator(0, [0, 1], 3), _operator(1, [3, 2], 4, custom=bool(custom))]
    model.subgraphs = [graph]
    model.signatureDefs = [_table(key, names, graph.outputs) for key, names in (table or {}).items()]
    model.operatorCodes = [_code(schema.BuiltinOperator.MUL), _code(schema.BuiltinOperator.ADD, custom)]
    if signatures is not None:
        entry = schema.MetadataT()
        entry.name, entry.buffer = "signature_defs_metadata", len(buffers)
        model.metadata = [entry]
        buffers.append(_map(signatures))
    model.buffers = [_buffer(content) for content in buffers]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _table(key: str, names: tuple[str, ...], outputs: Sequence[int]) -> schema.SignatureDefT:
    made = schema.SignatureDefT()
    made.signatureKey, made.subgraphIndex = key, 0
    made.inputs = [_named(names[0], 0)]
    made.outputs = [_named(name, index) for name, index in zip(names[1:], outputs, strict=True)]
    return made


def _named(name: str, index: int) -> schema.TensorMapT:
    made = schema.TensorMapT()
    made.name, made.tensorIndex = name, index
    return made


def signature(inputs: Mapping[str, str], outputs: Mapping[str, str]) -> model_pb2.SignatureDef:
    """A predict signature of float tensors [-1, 1]: alias -> tensor name."""
    made = model_pb2.SignatureDef(method_name="tensorflow/serving/predict")
    for infos, named in ((made.inputs, inputs), (made.outputs, outputs)):
        for alias, name in named.items():
            infos[alias].name, infos[alias].dtype = name, DataType.DT_FLOAT
            for size in (-1, 1):
                infos[alias].tensor_shape.dim.add(size=size)
    return made


def _tensor(name: str, shape: Sequence[int], kind: int, buffer: int) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), kind, buffer
    return tensor


def _operator(code: int, inputs: Sequence[int], output: int, *, custom: bool = False) -> schema.OperatorT:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, list(inputs), [output]
    if not custom:
        kinds = schema.BuiltinOptions
        operator.builtinOptionsType = (kinds.MulOptions, kinds.AddOptions)[code]
        operator.builtinOptions = (schema.MulOptionsT, schema.AddOptionsT)[code]()
    return operator


def _code(number: int, custom: str = "") -> schema.OperatorCodeT:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM if custom else number
    code.customCode, code.version = custom or None, 1
    return code


def _buffer(content: bytes) -> schema.BufferT:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(content, np.uint8) if content else None
    return buffer


def _map(signatures: Mapping[str, model_pb2.SignatureDef]) -> bytes:
    builder = flexbuffers.Builder()
    with builder.Map():
        for key, value in sorted(signatures.items()):
            text = _Raw()
            text.data = value.SerializeToString()
            builder.Key(key)
            builder.String(text)
    return bytes(builder.Finish())

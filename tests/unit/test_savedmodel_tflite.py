"""TFLite files read as data; whole ones, and damaged ones."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from deploy.errors import DeployError, IncompleteVersion
from deploy.savedmodel import tflite
from deploy.savedmodel.tflite import Operator

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
flatbuffers = pytest.importorskip("flatbuffers")


def tensor(name: str, kind: str, shape: list[int] | None, signature: list[int] | None = None) -> Any:
    made = schema.TensorT()
    made.name, made.type, made.shape = name, getattr(schema.TensorType, kind), shape or []
    made.shapeSignature, made.hasRank = signature, shape is not None
    return made


def named(name: str, index: int) -> Any:
    made = schema.TensorMapT()
    made.name, made.tensorIndex = name, index
    return made


def signature(name: str) -> Any:
    made = schema.SignatureDefT()
    made.signatureKey, made.inputs, made.outputs, made.subgraphIndex = name, [named("x", 0)], [named("y", 1)], 0
    return made


def operator(code: int, custom: str | None = None, version: int = 1) -> Any:
    made = schema.OperatorCodeT()
    made.deprecatedBuiltinCode, made.builtinCode, made.customCode = min(code, 127), code, custom
    made.version = version
    return made


def model(*signatures: str) -> bytes:
    graph = schema.SubGraphT()
    graph.tensors = [tensor("in:0", "FLOAT32", [1, 3], [-1, 3]), tensor("out:0", "STRING", []),
                     tensor("odd", "INT4", None)]
    graph.inputs, graph.outputs, graph.operators = [0], [1, 2], [schema.OperatorT()]
    whole = schema.ModelT()
    whole.version, whole.subgraphs, whole.description, whole.buffers = 3, [graph], "made here", [schema.BufferT()]
    whole.operatorCodes = [operator(9, version=12), operator(150), operator(32, "Mine"), operator(32, "FlexSign"),
                           operator(9999)]
    whole.signatureDefs = [signature(name) for name in signatures]
    builder = flatbuffers.Builder(1024)
    builder.Finish(whole.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def read(directory: Path, data: bytes) -> tflite.TfliteInfo:
    path = directory / "model.tflite"
    path.write_bytes(data)
    return tflite.read(path)


def test_signatures(tmp_path: Path) -> None:
    found = read(tmp_path, model("serving_default", "other"))
    assert list(found.contract) == ["other", "serving_default"]
    assert [str(s) for s in found.contract["other"].inputs] == ["x: float32[?, 3]"]
    assert [str(s) for s in found.contract["other"].outputs] == ["y: string[]"]
    assert found.contract["other"].input("x").tensor == "in:0"
    assert (found.named, found.description, found.operations) == (True, "made here", 1)


def test_without_signatures_one_is_made_up_as_the_server_does(tmp_path: Path) -> None:
    found = read(tmp_path, model())
    assert not found.named
    assert [str(s) for s in found.contract["serving_default"].inputs] == ["in: float32[?, 3]"]
    assert [str(s) for s in found.contract["serving_default"].outputs] == ["odd: int4, any shape", "out: string[]"]


def test_operators(tmp_path: Path) -> None:
    found = {str(o): o for o in read(tmp_path, model()).operators}
    assert list(found) == ["BUILTIN_9999", "FULLY_CONNECTED", "FlexSign (custom)", "GELU", "Mine (custom)"]
    assert found["FULLY_CONNECTED"] == Operator("FULLY_CONNECTED", False, 12)
    assert [o.select_tf for o in found.values()] == [None, None, "Sign", None, None]


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\0" * 64, b"\x10\0\0\0TFL3" + b"\xff" * 40,
                                  b"PK\x03\x04" + b"0" * 99])
def test_other_files(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(IncompleteVersion, match=r"model\.tflite"):
        read(tmp_path, data)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(IncompleteVersion, match="No such file"):
        tflite.read(tmp_path / "nothing.tflite")


def test_damage_of_any_kind_is_told_or_harmless(tmp_path: Path) -> None:
    whole, rng = model("serving_default", "other"), random.Random(4)
    for number in range(600):
        data = bytearray(whole[:rng.randrange(len(whole))] if number % 2 else whole)
        for _ in range(rng.randrange(1, 6)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            read(tmp_path, bytes(data))
        except DeployError as error:
            assert "model.tflite" in str(error)

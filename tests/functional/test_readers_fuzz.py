"""Every reader of files, with bytes that nobody meant: a value, or the one error that it promises."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy import goldens, savedmodel
from deploy.errors import RepositoryError
from deploy.goldens import warmup
from deploy.goldens.recorded import Golden
from deploy.repository.manifest import Manifest
from deploy.savedmodel import bundle, tflite
from deploy.types import Contract
from deploy.wire import records
from deploy.wire.model_pb2 import BundleEntryProto
from tests.support import savedmodel as savedmodel_support
from tests.support import tflite as tflite_support

BOUNDED = settings(max_examples=150, derandomize=True, deadline=None, database=None,
                   suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """The bytes with a few of them changed, cut out, or repeated; now and then something else altogether."""
    at = st.integers(0, len(whole))

    def changed(edits: list[tuple[int, int, bytes]]) -> bytes:
        data = whole
        for start, length, put in edits:
            data = data[:start] + put + data[start + length:]
        return data

    edits = st.lists(st.tuples(at, st.integers(0, 8), st.binary(max_size=8)), min_size=1, max_size=4)
    return st.one_of(edits.map(changed), at.map(lambda end: whole[:end]), st.binary(max_size=64))


def _graph() -> bytes:
    model = savedmodel_support.SavedModel(saved_model_schema_version=1)
    model.meta_graphs.add().CopyFrom(savedmodel_support.graph("Placeholder", "ParseExampleV2", "Const", "VarHandleOp"))
    return model.SerializeToString()


def _warmup(place: Path) -> bytes:
    goldens.write(place, [Golden("serving_default", {"x": np.float32([1, 2])}, {"y": np.array([b"a"], object)})], "m")
    return (place / goldens.FILE).read_bytes()

INDEX = savedmodel_support.index(2, {"a/b": BundleEntryProto(dtype=1, size=4),
                                     "a/c": BundleEntryProto(dtype=3, shard_id=1)})


def ends(read: Callable[[], object], *allowed: type[Exception]) -> None:
    with contextlib.suppress(*allowed):
        read()


@BOUNDED
@given(data=damaged(INDEX))
def test_index(place: Path, data: bytes) -> None:
    (place / "i").write_bytes(data)
    ends(lambda: bundle.read(place / "i").needed(), RepositoryError)


@BOUNDED
@given(data=damaged(_graph()))
def test_graph(place: Path, data: bytes) -> None:
    (place / "m").mkdir(exist_ok=True)
    (place / "m" / "saved_model.pb").write_bytes(data)
    ends(lambda: savedmodel.read(place / "m"), RepositoryError)


@BOUNDED
@given(data=damaged(tflite_support.half_plus_two()))
def test_tflite(place: Path, data: bytes) -> None:
    (place / "t").write_bytes(data)
    ends(lambda: tflite.read(place / "t"), RepositoryError)


@BOUNDED
@given(draw=st.data())
def test_warmup(place: Path, draw: st.DataObject) -> None:
    (place / "w" / "assets.extra").mkdir(exist_ok=True, parents=True)
    whole = _warmup(place / "w")
    data = draw.draw(damaged(whole))
    (place / "w" / goldens.FILE).write_bytes(data)
    ends(lambda: goldens.scan(place / "w"), RepositoryError)
    assert warmup.check(place / "w", Contract(())) is not None


@BOUNDED
@given(draw=st.data())
def test_records(place: Path, draw: st.DataObject) -> None:
    """Whole records around damaged messages, which a checksum doesn't catch."""
    (place / "r" / "assets.extra").mkdir(exist_ok=True, parents=True)
    _warmup(place / "r")
    message = next(records.read(place / "r" / goldens.FILE))
    records.write(place / "r" / goldens.FILE, [draw.draw(damaged(message))])
    ends(lambda: goldens.scan(place / "r"), RepositoryError)
    assert warmup.check(place / "r", Contract(())) is not None


@BOUNDED
@given(data=damaged(b"\x0a" + bytes([7]) + b"ab" + bytes([4 << 2 | 1, 2])))
def test_snappy(data: bytes) -> None:
    from google.protobuf.message import DecodeError

    ends(lambda: bundle.decompress(data, 1 << 16), ValueError, IndexError, DecodeError)

VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
                      lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner,
                                                                                  max_size=3))
FIELDS = ("model", "version", "files", "contract", "created", "producer", "goldens", "tolerances", "algorithm",
          "digest")


@BOUNDED
@given(fields=st.fixed_dictionaries(dict.fromkeys(FIELDS, VALUES)))
def test_manifest(fields: dict[str, object]) -> None:
    ends(lambda: Manifest.from_bytes(json.dumps({"format": 1, **fields}).encode()), RepositoryError)


@BOUNDED
@given(data=damaged(b'{"format": 1, "model": "m", "version": 1, "files": {"a": {"size": 1, "digest": "0"}}}'))
def test_manifest_bytes(data: bytes) -> None:
    ends(lambda: Manifest.from_bytes(data), RepositoryError)

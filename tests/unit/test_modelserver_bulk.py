"""Long bodies take a short cut: it gives what the long way gives, or leaves the body to it."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.engine.settings import flush_for_good
from deploy.modelserver.execution import finish
from deploy.modelserver.rest import arrays
from deploy.modelserver.rest.arrays import flushed, numeric
from deploy.modelserver.rest.decode import predict_body
from deploy.modelserver.status import StatusError

FLOAT = 1
WIDE = b"[" + b",".join([b"1"] * arrays._WIDE) + b"]"


def usual(body: bytes) -> tuple[str, str, np.ndarray]:
    """What the way for short bodies makes of it."""
    assert len(body) < arrays.LONG_BODY
    found = finish(predict_body(body, lambda _: {"x": FLOAT}))
    return found.signature, "instances" if found.row else "inputs", found.arrays["x"]


@pytest.mark.parametrize("body", [
    b'{"instances": [1.0, 2, -3e5, -0, -0.0, 5e-324]}',
    b'{"instances": [[1, 2], [3, 4], [5, 6]]}',
    b'{"inputs": [[[1]], [[2]]]}',
    b'{"signature_name": "serving_default", "inputs": [1]}',
    b'\t{ "inputs" :[ [1\n,2.5 ] , [ 3 , 4E+2 ] ], "signature_name":"s"}\r\n',
    b'{"inputs": [1e39, 18446744073709551615, -9223372036854775808, 0.1, 16777217]}',
    b'\xef\xbb\xbf{"inputs": [1]}',
    b'{"inputs": ' + WIDE + b"}",
    b'{"inputs": [' + WIDE + b"," + WIDE + b"]}",
    b'{"inputs": [[[' + WIDE + b"],[" + WIDE + b"]]]}",
])
def test_taken(body: bytes) -> None:
    found = arrays.read_bulk(body)
    signature, key, array = usual(body)
    assert found is not None
    assert (found.signature, found.key) == (signature, key)
    with np.errstate(over="ignore"):
        single = found.numbers.astype(np.float32)
    np.testing.assert_array_equal(single, array)
    np.testing.assert_array_equal(np.signbit(single), np.signbit(array))


@pytest.mark.parametrize("body", [
    b"", b"1", b"[1]", b"{}", b'{"inputs": 1}', b'{"inputs": []}', b'{"inputs": [[]]}', b'{"inputs": [[1], []]}',
    b'{"inputs": [1, [2]]}', b'{"inputs": [[1], 2]}', b'{"inputs": [[1, 2], [3]]}', b'{"inputs": [[1, 2], [3], [4]]}',
    b'{"inputs": [[1, [2]], [3, 4]]}', b'{"inputs": [true]}', b'{"inputs": [1, null]}', b'{"inputs": ["1"]}',
    b'{"inputs": [[1, 2], {"a": 3}]}', b'{"inputs": {"x": [1]}}', b'{"inputs": [NaN]}', b'{"inputs": [Infinity]}',
    b'{"inputs": [1e999]}', b'{"inputs": [18446744073709551616]}', b'{"inputs": [1]} x', b'{"inputs": [1],}',
    b'{"inputs": [1], "instances": [1]}', b'{"inputs": [1], "inputs": [2]}', b'{"inputs": [1], "other": 2}',
    b'{"signature_name": 1, "inputs": [1]}', b'{"signature_name": "s"}',
    b'{"signature_name": "[,][,]", "inputs": [[1, 2], [3]]}', b'{"signature_name": "\xff", "inputs": [1]}',
    b'{"inputs": [' + WIDE + b"," + WIDE[:-1] + b",1]]}",
    b'{"inputs": [' + WIDE + b"," + WIDE[:-2] + b"[1]]]}",
    b'{"inputs": [' + WIDE + b",1]}",
    b'{"inputs": [[' + WIDE + b"]," + WIDE + b"]}",
    b'{"inputs": ' + b"[" * 40 + b"1" + b"]" * 40 + b"}",
    b'{"inputs": [[[' + b",1" * 600 + b"]" + b",1" * 600 + b"]" + b",1" * 600 + b"]}",
    b'{"inputs": [[[1' + b",1" * 600 + b"]" + b",1" * 600 + b"]" + b",1" * 600 + b"]}",  # claims 200 million numbers
])
def test_left_alone(body: bytes) -> None:
    assert arrays.read_bulk(body) is None


NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
TREES = st.recursive(NUMBERS | st.none() | st.booleans() | st.just("[,]"), lambda x: st.lists(x, max_size=3),
                     max_leaves=12)


@given(st.sampled_from(["inputs", "instances"]), TREES, st.none() | st.text("[],s", max_size=8))
def test_never_another_answer(key: str, value: object, signature: str | None) -> None:
    body = json.dumps({key: value, **({} if signature is None else {"signature_name": signature})}).encode()
    found = arrays.read_bulk(body)
    if found is None:
        return
    try:
        expected = usual(body)
    except StatusError as error:
        raise AssertionError(f"{body!r} is refused: {error}") from error
    assert (found.signature, found.key) == expected[:2]
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(flushed(found.numbers.astype(np.float32)), expected[2])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_denormals_are_zero_however_the_thread_is_set(dtype: str) -> None:
    tiny = float(np.finfo(dtype).tiny) / 4
    values, seen = [[tiny, -tiny, 0.0], [1.0, -2.5, tiny * 8]], {}

    def read(name: str, flushing: bool) -> None:
        if flushing:
            flush_for_good()
        seen[name] = numeric(values, dtype, plain=True).tolist()  # type: ignore[union-attr]

    for name, flushing in (("as it is", False), ("of a server", True)):
        thread = threading.Thread(target=read, args=(name, flushing))
        thread.start()
        thread.join()
    assert seen["as it is"] == seen["of a server"] == [[0, 0, 0], [1, -2.5, tiny * 8]]

"""Tensors on the wire: ours against TensorFlow's, on the same batch in the same process.

theirs: tf.make_tensor_proto into a PredictRequest, SerializeToString; PredictResponse.FromString, tf.make_ndarray.
ours: deploy.wire.predict_codec, which gives and takes the same bytes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

BLOCKS, CALLS = 4, 6


def run(scale: float = 1.0) -> list[dict[str, Any]]:
    """Rows {name, ours_s, theirs_s, ratio, note}: medians of alternating blocks; ratio is theirs / ours.

    scale: of the batch, 1.0 is 32x224x224x3 float32 (19 MB).
    """
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    from deploy.wire import predict_codec
    from deploy.wire import serving_pb2 as pb

    batch = np.random.default_rng(0).random((max(1, round(32 * scale)), 224, 224, 3), dtype=np.float32)
    spec = pb.ModelSpec(name="m", signature_name="serving_default")
    answer = predict_codec.write_predict_response(spec, {"y": batch})

    def their_encode() -> bytes:
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "m", "serving_default"
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(batch))
        return request.SerializeToString()

    def their_decode() -> np.ndarray[Any, Any]:
        return tf.make_ndarray(predict_pb2.PredictResponse.FromString(answer).outputs["y"])

    def our_encode() -> bytes:
        return predict_codec.write_predict_request(spec, {"x": batch})

    def our_decode() -> np.ndarray[Any, Any]:
        return predict_codec.read_predict_response(answer)[1]["y"]

    assert predict_pb2.PredictRequest.FromString(our_encode()) == predict_pb2.PredictRequest.FromString(their_encode())
    assert np.array_equal(our_decode(), their_decode())
    size = f"{batch.nbytes / 1e6:.1f} MB float32"
    return [_row(f"encode {size}", our_encode, their_encode), _row(f"decode {size}", our_decode, their_decode),
            _row(f"encode and decode {size}", lambda: (our_encode(), our_decode()),
                 lambda: (their_encode(), their_decode()))]


def _row(name: str, ours: Callable[[], object], theirs: Callable[[], object]) -> dict[str, Any]:
    """Alternating blocks; the first call of each only brings the allocator into the state of a client in use."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(BLOCKS):
        for call, seconds in zip((ours, theirs), times, strict=True):
            call()
            seconds.extend(_seconds(call) for _ in range(CALLS))
    ours_s, theirs_s = (statistics.median(seconds) for seconds in times)
    return {"name": name, "ours_s": ours_s, "theirs_s": theirs_s, "ratio": theirs_s / ours_s,
            "note": "serialized PredictRequest/PredictResponse; goal: at least 3x"}


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    for row in run():
        print(row)

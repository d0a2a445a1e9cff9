"""Converts a SavedModel to TFLite and asks the result: `python -m deploy.export.tflite_process`.

A process of its own: the converter writes to stderr whatever it likes and may end its process; here neither hurts. One
line of JSON on stdin:

    {"directory": SavedModel, "mode": ..., "signatures": [...], "requests": file of PredictRequests,
     "model": file to write, "answers": file for PredictResponses, "repeats": calls for the latency}

The last line on stdout is JSON: {"runtime": ..., "latency": {signature: seconds}, "saved_latency": ...}, or
{"error": ..., "doing": "converted" or "run", "ops": [...]}, the ops being what TFLite doesn't have itself.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from deploy import engine, savedmodel
from deploy.engine.replay import read_request
from deploy.export import quiet
from deploy.goldens import Golden
from deploy.goldens.timing import timed
from deploy.savedmodel import tflite
from deploy.types import Contract
from deploy.wire import predict_codec, records
from deploy.wire import serving_pb2 as pb
from deploy.wire.dtypes import Arrays

ROWS = 500  # for calibration; more change nothing but the time it takes


def main() -> int:
    request = json.loads(sys.stdin.readline())
    cases = [Golden(*read_request(data)) for data in records.read(request["requests"])]
    reply = _convert(request, cases) or _ask(request, cases)
    print(json.dumps(reply), flush=True)  # noqa: T201
    return 0


def _convert(request: Mapping[str, Any], cases: Sequence[Golden]) -> dict[str, object] | None:
    """Writes the model. What stands in the way, if something does."""
    target = Path(request["model"])
    try:
        if request["mode"] == "int8":  # calibration knows the signatures only that conversion leaves
            target.write_bytes(_converter({**request, "mode": "none"}, []).convert())
            kept = set(tflite.read(target).contract)
            cases = [case for case in cases if case.signature in kept]
        target.write_bytes(_described(_converter(request, cases).convert(), request))
        return None
    except Exception as error:
        why = str(error).strip().splitlines() or [type(error).__name__]
    return {"error": why[0], "doing": "converted", "ops": _foreign(request, target)}


def _foreign(request: Mapping[str, Any], target: Path) -> list[str]:
    """The ops that keep it from being converted, found by allowing all."""
    lenient = _converter({**request, "mode": "none"}, [])
    allowed = quiet.tensorflow().lite.OpsSet
    lenient.target_spec.supported_ops = [allowed.TFLITE_BUILTINS, allowed.SELECT_TF_OPS]
    lenient.allow_custom_ops = True
    try:
        target.write_bytes(lenient.convert())
        return [o.select_tf or o.name for o in tflite.read(target).operators if o.custom]
    except Exception:
        return []


def _described(model: bytes, request: Mapping[str, Any]) -> bytes:
    """The model with all signatures: those that the converter merged, and in the form that TensorFlow Serving reads.

    LiteRT reads the model's table of signatures; TensorFlow Serving a map of SignatureDefs in the metadata, of its
    first graph only. Sources: tensorflow/lite/tools/signature/signature_def_util.cc,
    tensorflow_serving/servables/tensorflow/tflite_session.cc.
    """
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    contract = savedmodel.read(request["directory"]).contract
    changed = flatbuffer_utils.convert_bytearray_to_object(bytearray(model))
    _add_aliases(changed, contract, request["signatures"])
    _put_first(changed, request["signatures"][0])
    Path(request["model"]).write_bytes(flatbuffer_utils.convert_object_to_bytearray(changed))
    converted = tflite.read(request["model"]).contract  # with the tensors' names in this file
    first = [_key(definition) for definition in changed.signatureDefs if not definition.subgraphIndex]
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = tflite.metadata_of({
        name: replace(converted[name], method_name=contract[name].method_name) for name in first})
    entry.name, entry.buffer = tflite.SIGNATURES, len(changed.buffers)
    changed.buffers.append(buffer)
    changed.metadata = [*(changed.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(changed))


def _add_aliases(model: Any, contract: Contract, names: Sequence[str]) -> None:
    """Two signatures of one function become one when converted. The other names are put back."""
    have = {_key(definition): definition for definition in model.signatureDefs or ()}
    for name in names:
        twins = [definition for key, definition in have.items() if (contract[key].inputs, contract[key].outputs) ==
                 (contract[name].inputs, contract[name].outputs)]
        if name not in have and twins:
            alias = copy.copy(twins[0])
            alias.signatureKey = name
            model.signatureDefs.append(alias)


def _put_first(model: Any, name: str) -> None:
    """Make the graph of this signature the first one, and let all that refers to graphs by number follow."""
    place = next((definition.subgraphIndex for definition in model.signatureDefs if _key(definition) == name), 0)
    moved = {0: place, place: 0}
    graphs = model.subgraphs
    graphs[0], graphs[place] = graphs[place], graphs[0]
    for definition in model.signatureDefs:
        definition.subgraphIndex = moved.get(definition.subgraphIndex, definition.subgraphIndex)
    for operator in (operator for graph in graphs for operator in graph.operators or ()):
        for options in (operator.builtinOptions, getattr(operator, "builtinOptions2", None)):
            for field, value in vars(options).items() if options is not None else ():
                if field.endswith(("SubgraphIndex", "subgraph")) and value in moved:
                    setattr(options, field, moved[value])


def _key(definition: Any) -> str:
    key = definition.signatureKey
    return key.decode() if isinstance(key, bytes) else str(key)


def _converter(request: Mapping[str, Any], cases: Sequence[Golden]) -> Any:
    """Inputs and outputs keep their dtypes in every mode, so that the signatures stay those of the SavedModel."""
    tf = quiet.tensorflow()
    converter = tf.lite.TFLiteConverter.from_saved_model(request["directory"], signature_keys=request["signatures"])
    mode, builtins = request["mode"], tf.lite.OpsSet
    if mode != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if mode == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if mode == "int8":
        several = len({case.signature for case in cases}) > 1
        converter.representative_dataset = lambda: _rows(cases, several)
        converter.target_spec.supported_ops = [builtins.TFLITE_BUILTINS_INT8, builtins.TFLITE_BUILTINS]
    return converter


def _rows(cases: Sequence[Golden], several: bool) -> Iterator[Any]:
    """One row at a time: the calibrator wants one shape."""
    count = 0
    for case in cases:
        sizes = {array.shape[0] if array.ndim else None for array in case.inputs.values()}
        batch = sizes.pop() if len(sizes) == 1 else None
        for row in range(batch or 1):
            count += 1
            if count > ROWS:
                return
            inputs = {name: array[row:row + 1] if batch else array for name, array in case.inputs.items()}
            yield (case.signature, inputs) if several else inputs


def _ask(request: Mapping[str, Any], cases: Sequence[Golden]) -> dict[str, object]:
    runtime, interpreter = _interpreter(request["model"])
    try:
        runners = {name: interpreter.get_signature_runner(name) for name in request["signatures"]}
        answers = [runners[case.signature](**case.inputs) for case in cases]
    except (ValueError, RuntimeError) as error:
        return {"error": str(error), "doing": "run", "ops": []}
    records.write(request["answers"], [predict_codec.write_predict_response(pb.ModelSpec(), answer)
                                       for answer in answers])
    small = {case.signature: case for case in sorted(cases, key=lambda c: -_size(c.inputs))}
    repeats = int(request["repeats"])
    latency = {name: _clock(lambda c=case: runners[c.signature](**c.inputs), repeats)  # type: ignore[misc]
               for name, case in small.items()}
    return {"runtime": runtime, "latency": latency, "saved_latency": _saved_latency(request, small, repeats)}


def _saved_latency(request: Mapping[str, Any], small: Mapping[str, Golden], repeats: int) -> dict[str, float]:
    with engine.load(request["directory"]) as session:
        contract = session.contract
        return {name: _clock(lambda c=case: session.call(contract[c.signature], c.inputs), repeats)  # type: ignore[misc]
                for name, case in small.items()}


def _clock(call: Callable[[], object], repeats: int) -> float:
    """The median of some calls, in seconds."""
    call()
    return timed(call, repeats).median


def _size(inputs: Arrays) -> int:
    return sum(array.size for array in inputs.values())


def _interpreter(model: str) -> tuple[str, Any]:
    """LiteRT's own package where it is installed, else the one inside TensorFlow."""
    try:
        from ai_edge_litert import interpreter
    except ImportError:
        tf = quiet.tensorflow()
        return f"tf.lite {tf.__version__}", tf.lite.Interpreter(model_path=model, num_threads=1)
    return f"LiteRT {metadata.version('ai-edge-litert')}", interpreter.Interpreter(model_path=model, num_threads=1)


if __name__ == "__main__":
    sys.exit(main())

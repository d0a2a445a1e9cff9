"""A TFLite model beside the SavedModel: converted, read back, and proven against the golden answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deploy.engine import replay
from deploy.errors import ExportError, ParityError
from deploy.export import processes
from deploy.goldens import Golden, compare
from deploy.goldens.compare import AnswerDrift, AnswerPair
from deploy.goldens.tolerances import Tolerance, Tolerances, narrowest
from deploy.savedmodel import tflite
from deploy.savedmodel.reader import GRAPH
from deploy.savedmodel.scanning import GraphFile
from deploy.types import DEFAULT_SIGNATURE, Contract
from deploy.wire import tensor_pb2

SHARES: Mapping[str, float] = {"none": 1e-4, "float16": 1e-2, "dynamic": 5e-2, "int8": 1e-1}
"""Modes, and how far an answer may be from the SavedModel's: a share of the output's largest magnitude.

none: float32 as it is. float16: weights stored as half floats. dynamic: weights as int8, arithmetic in float where
needed. int8: weights and activations as int8, ranges measured on the examples.
"""

_FLOATS: Mapping[int, str] = {tensor_pb2.DT_HALF: "float16", tensor_pb2.DT_BFLOAT16: "bfloat16",
                              tensor_pb2.DT_DOUBLE: "float64"}
_MOVES = frozenset({"Cast", "Const", "Identity", "Placeholder", "ReadVariableOp", "VarHandleOp", "NoOp"})
_IN_FLOAT32 = "build it with float32: keras.mixed_precision.set_global_policy('float32') before its layers are made, " \
    "or dtype='float32' for each; --tflite float16 then stores the weights as float16"

REPEATS = 20  # calls for a latency

_KEEP_OUT = "TensorFlow Serving can't load such a file, nor can a device without the delegate: keep these ops out of " \
    "the signatures, or export without --tflite"
_GENERATED = "model.tflite's int8 ranges were measured on generated examples: give real ones with examples=..., or " \
    "its answers to real requests will be off"
_FIRST_ONLY = "of model.tflite TensorFlow Serving sees one graph only, that of {}; LiteRT sees all that it has. No " \
    "golden answers of the others ({}) are kept: they are its warm-up requests, too, and with --prefer_tflite_model " \
    "it would refuse the version"
_KEEP_RAW = "keep the model's own signature beside it, with the recipe copy-signature(tensors) in front of the " \
    "others, or export without --tflite"
_UNROLL = "they come from loops over time, as recurrent layers make them: build these layers with unroll=True"


@dataclass(frozen=True, slots=True)
class Sibling:
    """A TFLite model that was made, and what is known of it.

    path: the file. size, saved_size: bytes of it, and of the SavedModel's graph and variables.
    latency, saved_latency: seconds of a call with the smallest example, by signature: TFLite on one thread,
        TensorFlow's library as it is.
    drift: its answers against the golden ones; limit: the share that they were allowed to be apart, limits: the same
        by output, as numbers.
    runtime: what ran it. served: the signatures that TensorFlow Serving sees in the file, those of its first graph.
    left_out: signatures that the file doesn't have -> why.
    """

    mode: str
    path: Path
    size: int
    saved_size: int
    drift: AnswerDrift
    limit: float
    runtime: str
    served: tuple[str, ...] = ()
    latency: Mapping[str, float] = field(default_factory=dict)
    saved_latency: Mapping[str, float] = field(default_factory=dict)
    limits: Tolerances = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    def tolerances(self, saved: Tolerances) -> dict[str, Tolerance]:
        """How far a server's answers from this file may be apart; never less than the SavedModel's own, `saved`."""
        limits = {}
        for key, limit in self.limits.items():
            signature, _, output = key.partition("/")
            own = narrowest(saved, signature, output)
            limits[key] = Tolerance(max(limit.absolute, own.absolute), own.relative)
        return limits

    def notes(self, contract: Contract, examples: object) -> Iterator[str]:
        """What its user should know. contract: the SavedModel's. examples: those that were given, None if none were."""
        if self.mode == "int8" and examples is None:
            yield _GENERATED
        for name, why in self.left_out.items():
            yield f"model.tflite doesn't have the signature {name!r}: {why}"
        if len(self.served) < len(contract):
            yield _FIRST_ONLY.format(", ".join(self.served), ", ".join(n for n in contract if n not in self.served))

    def to_json(self) -> dict[str, object]:
        """Plain JSON data."""
        return {"mode": self.mode, "path": str(self.path), "size": self.size, "saved_size": self.saved_size,
                "limit": self.limit, "runtime": self.runtime, "served": list(self.served),
                "drift": self.drift.to_json(),
                "latency": dict(self.latency), "saved_latency": dict(self.saved_latency)}


def convert(directory: Path, contract: Contract, cases: Sequence[Golden], mode: str, target: Path, *,
            limit: float | None = None, left_out: Mapping[str, str] | None = None, timeout: float = 600.0) -> Sibling:
    """Write the SavedModel in `directory` as a TFLite file with all of its signatures, and compare its answers.

    cases: with the answers that are expected; int8 measures the ranges of its activations on their inputs.
    mode: see SHARES. limit: another share than the mode's. left_out: signatures that TFLite can't have -> why.
    Raises ExportError if it can't be converted, or only with operators that TFLite doesn't have itself; ParityError if
    an answer is too far off. Then there is no file.
    """
    if mode not in SHARES:
        raise ExportError(f"there is no TFLite mode {mode!r}", hint=f"possible: {', '.join(SHARES)}",
                          id="tflite-conversion")
    left_out = left_out or {}
    contract = Contract(tuple(signature for name, signature in contract.items() if name not in left_out))
    cases = [case for case in cases if case.signature not in left_out]
    if not contract:
        name, why = next(iter(left_out.items()))
        raise ExportError(f"TFLite can't have the signature {name!r}: {why}", hint=_KEEP_RAW, id="tflite-conversion")
    if not cases:
        raise ExportError("a TFLite model can't be proven without examples", hint="give some, or let them be generated",
                          id="tflite-conversion")
    share = SHARES[mode] if limit is None else limit
    try:
        reply, answers = _run({"directory": str(directory), "mode": mode, "signatures": _ordered(contract),
                              "model": str(target), "repeats": REPEATS}, cases, timeout)
        _check_contract(contract, tflite.read(target))
        limits = _limits(cases, share)
        measured = compare.measure(_pairs(cases, answers), limits)
        _check_parity(measured, mode, share)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return Sibling(mode, target, target.stat().st_size, _saved_size(directory), measured, share, str(reply["runtime"]),
                   tuple(tflite.signature_defs(target)), reply["latency"], reply["saved_latency"], limits, left_out)


def _run(request: Mapping[str, object], cases: Sequence[Golden],
         timeout: float) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    with processes.directory() as place:
        requests, answers = place / "requests", place / "answers"
        replay.write_requests(requests, ((case.signature, case.inputs) for case in cases))
        reply = processes.run("deploy.export.tflite_process", {**request, "requests": str(requests),
                                                              "answers": str(answers)},
                             "converting to TFLite", timeout)
        if "error" in reply:
            raise _refused(reply, Path(str(request["directory"])))
        return reply, replay.read_answers(answers)


def _ordered(contract: Contract) -> list[str]:
    """The default first: TensorFlow Serving sees the first graph of a TFLite file only."""
    return sorted(contract, key=lambda name: (name != DEFAULT_SIGNATURE, name))


def _refused(reply: Mapping[str, Any], directory: Path) -> ExportError:
    narrow = _unsupported_floats(directory, frozenset(reply["ops"]))
    if narrow:
        named = " and ".join(narrow)
        what = f"TFLite has no operators for {', '.join(reply['ops'])} in {named}" if reply["ops"] else \
            f"the model can't be {reply['doing']} as TFLite: {reply['error']}"
        return ExportError(f"{what}: the model computes in {named}", hint=_IN_FLOAT32, id="tflite-conversion")
    if reply["ops"]:
        loops = all(str(op).startswith("TensorList") for op in reply["ops"])
        return ExportError(f"TFLite has no operators for {', '.join(reply['ops'])}: they would be custom or Select-TF "
                           "operators", hint=_UNROLL if loops else _KEEP_OUT, id="tflite-conversion")
    doing = "converted to" if reply["doing"] == "converted" else "run as"
    return ExportError(f"the model can't be {doing} TFLite: {reply['error']}", hint="export without --tflite",
                       id="tflite-conversion")


def _unsupported_floats(directory: Path, ops: frozenset[str]) -> list[str]:
    """The dtypes other than float32 in which these ops, or if there are none any ops, of the SavedModel compute."""
    dtypes = set()
    graph = GraphFile(directory / GRAPH)
    for body in graph.bodies(graph.outline().scopes).values():
        for node in body.nodes.values():
            if node.op in ops or (not ops and node.op not in _MOVES):
                dtypes |= {_FLOATS[value.type] for value in node.attr.values() if value.type in _FLOATS}
    return sorted(dtypes)


def _check_contract(contract: Contract, converted: tflite.TfliteInfo) -> None:
    """Signatures, names and dtypes have to be the SavedModel's; unknown shapes may have become known."""
    for signature in contract.values():
        if signature.name not in converted.contract:
            raise ExportError(f"the TFLite model lacks the signature {signature.name!r}", id="tflite-conversion")
        other = converted.contract[signature.name]
        for side_name, specs, converted_specs in (("input", signature.inputs, other.inputs),
                                   ("output", signature.outputs, other.outputs)):
            wanted, actual = ({s.name: s.dtype for s in side} for side in (specs, converted_specs))
            if wanted != actual:
                raise ExportError(f"the TFLite model's {side_name}s of {signature.name!r} are {actual}, the "
                                  f"SavedModel's {wanted}", hint="an input that no output needs is dropped: remove it",
                                  id="tflite-conversion")


def _pairs(cases: Sequence[Golden], answers: Sequence[Mapping[str, Any]]) -> Iterator[AnswerPair]:
    for case, answer in zip(cases, answers, strict=True):
        yield AnswerPair(case.signature, case.outputs, answer)


def _limits(cases: Sequence[Golden], share: float) -> Tolerances:
    largest: dict[str, float] = {}
    for case in cases:
        for name, array in case.outputs.items():
            key = f"{case.signature}/{name}"
            largest[key] = max(largest.get(key, 0.0), _magnitude(array))
    return {key: Tolerance(share * magnitude) for key, magnitude in largest.items()}


def _magnitude(array: Any) -> float:
    if array.dtype.kind not in "fcV" or not array.size:
        return 0.0
    wide = np.abs(array.astype(np.complex128 if array.dtype.kind == "c" else np.float64))
    finite = wide[np.isfinite(wide)]
    return float(finite.max()) if finite.size else 0.0


def _check_parity(measured: AnswerDrift, mode: str, share: float) -> None:
    outside = [f"{o.signature}: {text}" for o in measured.outputs for text in o.outside]
    if outside:
        raise ParityError(
            f"the TFLite model ({mode}) answers differently, by more than {share:g} of the outputs' largest magnitude: "
            f"{outside[0]}", details={"differences": outside},
            hint="choose a mode with more bits, give more examples for int8, or allow more with --tflite-limit",
            id="tflite-conversion")


def _saved_size(directory: Path) -> int:
    files = [directory / "saved_model.pb", *(directory / "variables").glob("*")]
    return sum(path.stat().st_size for path in files if path.is_file())

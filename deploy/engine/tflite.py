"""A TensorFlow Lite model in memory, run by LiteRT's Python package; nothing of TensorFlow is needed.

Errors have the codes and texts of TF Serving.
Source: tensorflow_serving/servables/tensorflow/tflite_session.cc, tflite_interpreter_pool.cc.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from deploy.engine.library import EngineError
from deploy.errors import BadReply, BadRequest, IncompleteVersion
from deploy.savedmodel import tflite
from deploy.types import Contract, Signature, TensorSpec
from deploy.wire.dtypes import Array

_INVALID, _EXISTS, _UNIMPLEMENTED, _INTERNAL = 3, 6, 12, 13  # TF_Code
_INSTALL = "pip install 'tfs-deploy[tflite]'"
# What TF Serving can pass in and out, by LiteRT's numpy types.
_DTYPES = {np.float32: "float32", np.int32: "int32", np.uint8: "uint8", np.int64: "int64", np.bytes_: "string",
           np.bool_: "bool", np.int16: "int16", np.complex64: "complex64", np.int8: "int8"}
log = logging.getLogger("engine")


class _Interpreter:
    """One of LiteRT's interpreters, for one thread at a time. Input tensors take the shape of what they are fed."""

    def __init__(self, content: bytes, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            self.lite: Any = Interpreter(model_content=content, num_threads=threads or None)
        except (RuntimeError, ValueError) as error:
            raise _internal("Cannot build Interpreter from buffer.", error) from error
        self._shapes: dict[int, tuple[int, ...]] = {}
        self._allocate()

    def run(self, feeds: Mapping[int, Array], fetches: Sequence[int]) -> list[Array]:
        changed = False
        for index, array in feeds.items():
            if self._shapes.get(index) != array.shape:
                try:
                    self.lite.resize_tensor_input(index, array.shape)
                except (RuntimeError, ValueError) as error:
                    raise _internal(f"Failed to resize input tensor to {list(array.shape)}.", error) from error
                self._shapes[index], changed = array.shape, True
        if changed:
            self._allocate()
        try:
            for index, array in feeds.items():
                self.lite.set_tensor(index, array)
            self.lite.invoke()
            return [np.asarray(self.lite.get_tensor(index)) for index in fetches]
        except (RuntimeError, ValueError) as error:
            raise _internal("Failed to invoke TfLite interpreter", error) from error

    def _allocate(self) -> None:
        try:
            self.lite.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            self._shapes.clear()
            raise _internal("Failed to allocate tensors", error) from error


class Runs(Protocol):
    """A model in memory that is run by its tensors' names."""

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The values of `fetches`. Raises EngineError."""


def called(model: Runs, signature: Signature, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """`signature`'s outputs by name for `inputs` by name. Raises BadRequest for a missing or unknown input."""
    if len(inputs) != len(signature.inputs) or any(spec.name not in inputs for spec in signature.inputs):
        expected = sorted(spec.name for spec in signature.inputs)
        raise BadRequest(f"signature {signature.name!r} takes the inputs {expected}, got {sorted(inputs)}",
                         id="unknown-input")
    feeds = {spec.tensor: inputs[spec.name] for spec in signature.inputs}
    results = model.run(feeds, [spec.tensor for spec in signature.outputs])
    return {spec.name: result for spec, result in zip(signature.outputs, results, strict=True)}


def ready(path: Path) -> None:
    """Open LiteRT, which only a TFLite model needs. Raises EngineError if it isn't there."""
    try:
        import ai_edge_litert.interpreter  # noqa: F401
    except ImportError as error:
        raise EngineError(_UNIMPLEMENTED, f"{path} is a TensorFlow Lite model, and LiteRT's Python package can't "
                                          f"be used here ({error}): {_INSTALL}") from error


class TfliteSession:
    """A TFLite file in memory. Threads may share it: `pools` runs go on side by side, the others wait.

    inputs, outputs: the first graph's tensors by name; a free dimension shows as the 1 that it starts with.
    """

    def __init__(self, path: str | Path, pools: int = 1, threads: int = 0) -> None:
        """threads: of one run, 0 for LiteRT's choice. Raises EngineError, OSError."""
        ready(Path(path))
        content = Path(path).read_bytes()
        first = _Interpreter(content, threads)
        self.inputs, self._inputs = _tensors(first.lite.get_input_details(), "Input")
        self.outputs, self._outputs = _tensors(first.lite.get_output_details(), "Output")
        self._free: SimpleQueue[_Interpreter] = SimpleQueue()
        self._free.put(first)
        for _ in range(pools - 1):
            self._free.put(_Interpreter(content, threads))

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The values of `fetches`, given `feeds`; both by tensor name. Strings: dtype object, bytes.

        Raises EngineError.
        """
        inputs = {self._index(self._inputs, name, "input"): self._typed(name, array) for name, array in feeds.items()}
        outputs = [self._index(self._outputs, name, "output") for name in fetches]
        interpreter = self._free.get()
        try:
            return interpreter.run(inputs, outputs)
        finally:
            self._free.put(interpreter)

    def close(self) -> None:
        """Free the model; call it after the last run ended."""
        while not self._free.empty():
            self._free.get()

    @staticmethod
    def _index(known: Mapping[str, int], name: str, direction: str) -> int:
        if name not in known:
            raise EngineError(_INTERNAL, f"Missing {direction} TFLite tensor: {name}: Unknown tensor '{name}'.")
        return known[name]

    def _typed(self, name: str, array: Array) -> Array:
        expected = self.inputs[name].dtype if name in self.inputs else ""
        dtype = "string" if array.dtype == object else array.dtype.name
        if expected and dtype != expected:
            raise EngineError(_INVALID, f"TFLite tensor {name} is {expected}, got {dtype}")
        return array


class TfliteVersion:
    """A version that consists of a TFLite model, in memory. contract: the signatures that TF Serving sees in it."""

    def __init__(self, path: Path) -> None:
        """Raises EngineError."""
        try:
            self.contract: Contract = tflite.served(path)
            self._session = TfliteSession(path)
        except (IncompleteVersion, BadReply) as error:
            raise EngineError(_INVALID, error.message) from error
        except OSError as error:
            raise EngineError(_INTERNAL, f"{path} can't be read: {error.strerror}") from error
        known = {**self._session.inputs, **self._session.outputs}
        for spec in (s for signature in self.contract.values() for s in (*signature.inputs, *signature.outputs)):
            if not {spec.tensor, spec.tensor.partition(":")[0]} & known.keys():
                raise EngineError(_INTERNAL, f"{path}: its signatures name the tensor {spec.tensor!r}, which isn't "
                                             "an input or output of the first graph")

    def call(self, signature: Signature, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """As Session.call."""
        return called(self, signature, inputs)

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """As TfliteSession.run, with names that may have lost or kept their `:0`."""
        named = {self._known(self._session.inputs, name): np.asanyarray(array) for name, array in feeds.items()}
        return self._session.run(named, [self._known(self._session.outputs, name) for name in fetches])

    @staticmethod
    def _known(known: Mapping[str, TensorSpec], name: str) -> str:
        return name if name in known else name.partition(":")[0]

    def __enter__(self) -> TfliteVersion:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._session.close()


def _tensors(details: Sequence[Mapping[str, Any]], direction: str) -> tuple[dict[str, TensorSpec], dict[str, int]]:
    specs: dict[str, TensorSpec] = {}
    for tensor in details:
        name = tensor["name"]
        if name in specs:
            raise EngineError(_EXISTS, f"{direction} tensor name: {name} has multiple indices")
        if tensor["dtype"] not in _DTYPES:
            raise EngineError(_INTERNAL, f"Unknown TfLite type: {np.dtype(tensor['dtype']).name}")
        specs[name] = TensorSpec(name, _DTYPES[tensor["dtype"]], tuple(tensor["shape"].tolist()), name)
    return specs, {tensor["name"]: tensor["index"] for tensor in details}


def _internal(text: str, error: Exception) -> EngineError:
    """LiteRT's own reason is for the log, as in TF Serving; unless it is about an operator that isn't there."""
    log.error("%s %s", text, error)
    reason = str(error).partition("\n")[0]
    return EngineError(_INTERNAL, f"{text} {reason}" if "unresolved custom op" in reason else text)

"""Classify, Regress and MultiInference: tf.Examples in, classes or values out, as the real server checks them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from deploy.modelserver.servable import Servable
from deploy.modelserver.status import Code, StatusError, invalid
from deploy.types import CLASSIFY_METHOD, DEFAULT_SIGNATURE, REGRESS_METHOD
from deploy.wire import model_pb2, tensor_pb2
from deploy.wire import serving_pb2 as pb
from deploy.wire.dtypes import Array
from deploy.wire.tensors import dtype_name, dtype_number
from deploy.wire.text import to_text

_SHAPE = "Expected Tensor shape: [batch_size num_classes] but got "


@dataclass(frozen=True, slots=True)
class ExampleSignature:
    """What to feed and fetch for one signature; outputs: alias -> tensor name."""

    input: str
    outputs: dict[str, str]


@dataclass(frozen=True, slots=True)
class Examples:
    """Answers the three calls. method_check: --enable_signature_method_name_check."""

    method_check: bool = False

    def classify(self, servable: Servable, request: pb.ClassificationRequest) -> pb.ClassificationResponse:
        """Raises StatusError."""
        signature = self._classify_signature(_signature(servable, request.model_spec))
        examples = serialized(request.input)
        reply = pb.ClassificationResponse()
        fill_classes(reply.result, _run(servable, signature.input, examples, signature.outputs), len(examples))
        describe(reply.model_spec, servable, request.model_spec.signature_name or DEFAULT_SIGNATURE)
        return reply

    def regress(self, servable: Servable, request: pb.RegressionRequest) -> pb.RegressionResponse:
        """Raises StatusError."""
        signature = self._regress_signature(_signature(servable, request.model_spec))
        examples = serialized(request.input)
        reply = pb.RegressionResponse()
        fill_values(reply.result, _run(servable, signature.input, examples, signature.outputs), len(examples))
        describe(reply.model_spec, servable, request.model_spec.signature_name or DEFAULT_SIGNATURE)
        return reply

    def multi_inference(self, servable: Servable, request: pb.MultiInferenceRequest) -> pb.MultiInferenceResponse:
        """Several signatures on the same examples, in one run. Raises StatusError."""
        signatures = self._task_signatures(request.tasks, servable)
        examples = serialized(request.input)
        tensors = {tensor: tensor for signature in signatures for tensor in signature.outputs.values()}
        values = _run(servable, signatures[0].input, examples, tensors)
        reply = pb.MultiInferenceResponse()
        for task, signature in zip(request.tasks, signatures, strict=True):
            outputs = {alias: values[tensor] for alias, tensor in signature.outputs.items()}
            result = reply.results.add()
            describe(result.model_spec, servable, task.model_spec.signature_name or DEFAULT_SIGNATURE)
            if task.method_name == CLASSIFY_METHOD:
                fill_classes(result.classification_result, outputs, len(examples))
            else:
                fill_values(result.regression_result, outputs, len(examples))
        return reply

    def _task_signatures(self, tasks: Iterable[pb.InferenceTask], servable: Servable) -> list[ExampleSignature]:
        signatures: list[ExampleSignature] = []
        checked: set[str] = set()
        for task in tasks:
            spec = task.model_spec
            if not spec.name:
                raise invalid("Found ModelSpec with an empty model name.")
            if spec.name != servable.id.name:
                raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
            name = spec.signature_name or DEFAULT_SIGNATURE
            if name in checked:
                raise invalid(f"Duplicate evaluation of signature: {name}")
            checked.add(name)
            if name not in servable.model.signatures:
                raise invalid(f"Requested signature not found in model graph: {name}")
            checks = {CLASSIFY_METHOD: self._classify_signature, REGRESS_METHOD: self._regress_signature}
            check = checks.get(task.method_name)
            if check is None:
                raise StatusError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")
            signatures.append(check(servable.model.signatures[name]))
            if signatures[-1].input != signatures[0].input:
                raise invalid("Input tensor must be the same for all Signatures.")
        return signatures

    def _classify_signature(self, signature: model_pb2.SignatureDef) -> ExampleSignature:
        if self.method_check and signature.method_name != CLASSIFY_METHOD:
            raise invalid(f"Expected classification signature method_name to be {CLASSIFY_METHOD}. Was: "
                          f"{signature.method_name}")
        if len(signature.inputs) != 1:
            raise invalid("Expected one input Tensor.")
        if len(signature.outputs) not in (1, 2):
            raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
        if "inputs" not in signature.inputs:
            raise invalid(f"No classification inputs found in SignatureDef: {to_text(signature)}")
        outputs = {alias: signature.outputs[alias].name
                   for alias in ("classes", "scores") if alias in signature.outputs}
        if not outputs:
            raise invalid('Expected classification signature outputs to contain at least one of "classes" or "scores". '
                          f"Signature was: {to_text(signature)}")
        return ExampleSignature(signature.inputs["inputs"].name, outputs)

    def _regress_signature(self, signature: model_pb2.SignatureDef) -> ExampleSignature:
        if self.method_check and signature.method_name != REGRESS_METHOD:
            raise invalid(f"Expected regression signature method_name to be {REGRESS_METHOD}. Was: "
                          f"{signature.method_name}")
        if len(signature.inputs) != 1:
            raise invalid("Expected one input Tensor.")
        if len(signature.outputs) != 1:
            raise invalid("Expected one output Tensor.")
        if "inputs" not in signature.inputs:
            raise invalid(f"No regression inputs found in SignatureDef: {to_text(signature)}")
        if "outputs" not in signature.outputs:
            raise invalid(f"No regression outputs found in SignatureDef: {to_text(signature)}")
        return ExampleSignature(signature.inputs["inputs"].name, {"outputs": signature.outputs["outputs"].name})


def _signature(servable: Servable, spec: pb.ModelSpec) -> model_pb2.SignatureDef:
    name = spec.signature_name or DEFAULT_SIGNATURE
    try:
        return servable.model.signatures[name]
    except KeyError:
        raise invalid(f"No signature was found with the name: {name}") from None


def describe(spec: pb.ModelSpec, servable: Servable, signature: str) -> None:
    """Say in a reply which version and signature answered."""
    spec.name, spec.signature_name = servable.id.name, signature
    spec.version.value = servable.id.version


def serialized(given: pb.Input) -> list[bytes]:
    """The request's examples as bytes, each with the context's features that it lacks. Raises StatusError."""
    if given.WhichOneof("kind") == "example_list_with_context":
        context = given.example_list_with_context.context.SerializeToString()
        # Messages that are concatenated are merged, and the later of two entries of a map counts.
        examples = [context + e.SerializeToString() for e in given.example_list_with_context.examples]
    else:
        examples = [e.SerializeToString() for e in given.example_list.examples]
    if not examples:
        raise invalid("Input is empty.")
    return examples


def _run(servable: Servable, tensor: str, examples: Sequence[bytes], outputs: dict[str, str]) -> dict[str, Array]:
    feed = np.empty(len(examples), dtype=object)
    feed[:] = examples
    return dict(zip(outputs, servable.model.run({tensor: feed}, list(outputs.values())), strict=True))


def fill_classes(result: pb.ClassificationResult, outputs: dict[str, Array], size: int) -> None:
    """Labels and scores, side by side. Raises StatusError."""
    for alias, dtype, enum in (("classes", "string", "DT_STRING"), ("scores", "float32", "DT_FLOAT")):
        if alias not in outputs:
            continue
        array = outputs[alias]
        if array.ndim != 2:
            raise invalid(_SHAPE + _shape(array))
        if dtype_name(array.dtype) != dtype:
            raise invalid(f"Expected {alias} Tensor of {enum}. Got: {_enum(array)}")
        if len(array) != size:
            raise invalid(f"Expected {alias} output batch size of {size}. Got: {len(array)}")
    labels, scores = outputs.get("classes"), outputs.get("scores")
    if labels is not None and scores is not None and labels.shape[1] != scores.shape[1]:
        raise invalid(f"Tensors class and score should match in dim_size(1). Got {labels.shape[1]} vs. "
                      f"{scores.shape[1]}")
    known = next(a for a in (labels, scores) if a is not None)
    names = labels.tolist() if labels is not None else [[b""] * known.shape[1]] * size
    values = scores.tolist() if scores is not None else [[0.0] * known.shape[1]] * size
    for row_names, row_values in zip(names, values, strict=True):
        classes = result.classifications.add().classes
        for label, score in zip(row_names, row_values, strict=True):
            classes.add(label=label.decode("utf-8", "replace"), score=score)
    result.SetInParent()


def fill_values(result: pb.RegressionResult, outputs: dict[str, Array], size: int) -> None:
    """One value per example. Raises StatusError."""
    (array,) = outputs.values()
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] != 1):
        raise invalid("Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
                      f"{_shape(array)}")
    if len(array) != size:
        raise invalid(f"Input batch size did not match output batch size: {size} vs. {len(array)}")
    if dtype_name(array.dtype) != "float32":
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {_enum(array)}")
    for value in array.ravel().tolist():
        result.regressions.add(value=value)
    result.SetInParent()


def _shape(array: Array) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _enum(array: Array) -> str:
    return str(tensor_pb2.DataType.Name(dtype_number(dtype_name(array.dtype))))

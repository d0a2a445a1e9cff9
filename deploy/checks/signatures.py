"""Rules about signatures: can a request be made that the server answers, by each method, and through its batching?

Sources: tensorflow_serving/servables/tensorflow/classifier.cc, regressor.cc and predict_util.cc;
tensorflow_serving/batching/batching_session.cc.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from deploy.checks.rules import RULES, Finding, Severity, Where
from deploy.checks.targets import MOST_ROWS, ServerBatching, Target
from deploy.errors import DeployError
from deploy.types import (
    CLASSIFY_METHOD,
    DEFAULT_SIGNATURE,
    PREDICT_METHOD,
    REGRESS_METHOD,
    Contract,
    Signature,
    TensorSpec,
)
from deploy.wire.config_pb2 import BatchingParameters
from deploy.wire.dtypes import SENDABLE, WITHOUT_JSON
from deploy.wire.model_pb2 import MetaGraphDef
from deploy.wire.text import from_text

PARAMETERS = "batching_params.pbtxt"
"""A version's own batching parameters, with --enable_per_model_batching_parameters."""

_BASE64_KEY = "b64"
_MOST_TEXT = 1 << 20
_METHODS = (PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD)
_KNOWN: Mapping[str, Mapping[str, tuple[str, tuple[int, ...]]]] = {  # method: output -> dtype, ranks
    CLASSIFY_METHOD: {"classes": ("string", (2,)), "scores": ("float32", (2,))},
    REGRESS_METHOD: {"outputs": ("float32", (1, 2))},
}


def check(contract: Contract, graph: MetaGraphDef, target: Target, directory: Path) -> Iterator[Finding]:
    """All findings about the signatures of one graph."""
    yield from default(contract)
    for signature in contract.values():
        yield from _sendable(signature, graph)
        yield from _batch(signature, graph)
        if signature.method_name in ("", PREDICT_METHOD):
            yield from _rest(signature)
        yield from _method(signature, graph)
    yield from _batchings(contract, graph, target, directory)


def default(contract: Contract, file: str = "") -> Iterator[Finding]:
    """Whether a request that names no signature has one."""
    rule, where = RULES["default-signature"], Where(file=file)
    if not contract:
        yield rule.found("there is no signature, so nothing in it can be asked for", where,
                         fix="save it with signatures={'serving_default': ...}, or export the model with `tfs export`")
    elif DEFAULT_SIGNATURE not in contract:
        yield rule.found(f"there is no {DEFAULT_SIGNATURE}, only {', '.join(contract)}: every request has to name one",
                         where)


def _sendable(signature: Signature, graph: MetaGraphDef) -> Iterator[Finding]:
    infos = graph.signature_def[signature.name]
    places = (("input", signature.inputs, infos.inputs), ("output", signature.outputs, infos.outputs))
    for place, specs, named in places:
        for spec in specs:
            encoding = named[spec.name].WhichOneof("encoding")
            if encoding in ("coo_sparse", "composite_tensor"):
                tensor = "a sparse tensor" if encoding == "coo_sparse" else "a composite tensor"
            elif spec.dtype.removesuffix("_ref") not in SENDABLE:
                tensor = f"a {spec.dtype} tensor"
            else:
                continue
            yield RULES["sendable"].found(f"{place} {spec.name!r} is {tensor}, which no request can hold",
                                          Where(signature.name))


def _batch(signature: Signature, graph: MetaGraphDef) -> Iterator[Finding]:
    """Every input's first dimension. A scalar beside inputs with a free one is a setting of the request."""
    infos = graph.signature_def[signature.name].inputs
    pinned = [spec for spec in signature.inputs if spec.shape and spec.shape[0] is not None]
    scalars = [spec for spec in signature.inputs if spec.shape == () and infos[spec.name].HasField("tensor_shape")]
    free = len(signature.inputs) - len(pinned) - len(scalars)
    if not pinned and (not scalars or free):
        return
    shown = "; ".join(map(str, pinned or scalars))
    severity = Severity.ERROR if signature.name == DEFAULT_SIGNATURE and not free else Severity.WARNING
    rows = pinned[0].shape[0] if pinned and pinned[0].shape else None
    behaviour = "takes one thing at a time" if rows is None else f"takes {rows} row{'s' * (rows != 1)} at a time"
    yield RULES["batch-free"].found(f"{behaviour}: {shown}", Where(signature.name), severity=severity)


def _rest(signature: Signature) -> Iterator[Finding]:
    rule, where = RULES["rest-reachable"], Where(signature.name)
    if not signature.inputs:
        yield rule.found("it has no inputs, and a REST request needs one", where, severity=Severity.NOTE)
    inexpressible = [spec for spec in (*signature.inputs, *signature.outputs) if spec.dtype in WITHOUT_JSON]
    if inexpressible:
        yield rule.found(f"JSON has no form for {_listed(inexpressible)}", where,
                         fix="call it through gRPC, or cast to float32 in the signature")
    if len(signature.inputs) > 1 and any(spec.name == _BASE64_KEY for spec in signature.inputs):
        yield rule.found("an input is called 'b64', which JSON requests use to mark base64", where,
                         fix="give the input another name")


def _listed(specs: list[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} ({spec.dtype})" for spec in specs)


def _batchings(contract: Contract, graph: MetaGraphDef, target: Target, directory: Path) -> Iterator[Finding]:
    """What the server's batching, or that of the version alone, needs of each signature."""
    try:
        batching = _own(target.batching, directory / PARAMETERS)
    except (OSError, ValueError, DeployError) as error:
        yield RULES["batching"].found(f"{PARAMETERS} can't be read: {error}", Where(file=PARAMETERS))
        return
    for signature in contract.values():
        for why, severity in _batched(signature, graph, batching) if batching else ():
            yield RULES["batching"].found(f"the server's batching is on, and {why}", Where(signature.name),
                                          severity=severity)


def _own(batching: ServerBatching | None, path: Path) -> ServerBatching | None:
    """The batching of one version: with parameters per model, those of the file beside it, and none without."""
    if batching is None or not batching.per_model:
        return batching
    if not path.is_file():
        return None
    if path.stat().st_size > _MOST_TEXT:
        raise ValueError(f"it has {path.stat().st_size:,} bytes")
    parameters = from_text(path.read_text(), BatchingParameters, str(path))
    most = parameters.max_batch_size.value if parameters.HasField("max_batch_size") else MOST_ROWS
    return ServerBatching(True, most, parameters.pad_variable_length_inputs)


def _method(signature: Signature, graph: MetaGraphDef) -> Iterator[Finding]:
    """Other signatures than the default one are warnings: Predict can ask for them whatever they are called for."""
    rule, where, method = RULES["method"], Where(signature.name), signature.method_name
    severity = Severity.ERROR if signature.name == DEFAULT_SIGNATURE else Severity.WARNING
    if method not in _METHODS:
        yield rule.found(f"its method is {method!r}, which is none of {', '.join(_METHODS)}: every request fails",
                         where, severity=severity)
    elif method in _KNOWN:
        short = method.rpartition("/")[2]
        for problem in (*_examples(signature, graph), *_answers(signature, graph)):
            yield rule.found(f"it is for {short}, which {problem}", where, severity=severity)


def _examples(signature: Signature, graph: MetaGraphDef) -> Iterator[str]:
    """One input, `inputs`: a vector of tf.Examples."""
    if [spec.name for spec in signature.inputs] != ["inputs"]:
        names = ", ".join(sorted(spec.name for spec in signature.inputs)) or "none"
        yield f"takes one input called 'inputs'; it has {names}"
        return
    spec = signature.inputs[0]
    shape = _shape(spec, graph, signature, outputs=False)
    if spec.dtype != "string" or (shape is not None and len(shape) != 1):
        yield f"takes a vector of strings, tf.Examples; its input is {spec}"


def _answers(signature: Signature, graph: MetaGraphDef) -> Iterator[str]:
    known = _KNOWN[signature.method_name]
    names = [spec.name for spec in signature.outputs]
    classify = signature.method_name == CLASSIFY_METHOD
    if not known.keys() & set(names) or len(names) > len(known):
        wanted = "'classes', 'scores' or both" if classify else "one output called 'outputs'"
        yield f"gives {wanted}; it has {', '.join(sorted(names)) or 'none'}"
    for spec in signature.outputs:
        if spec.name not in known:
            continue
        dtype, ranks = known[spec.name]
        shape = _shape(spec, graph, signature, outputs=True)
        fits = shape is None or (len(shape) in ranks and (classify or len(shape) == 1 or shape[1] in (1, None)))
        if spec.dtype.removesuffix("_ref") != dtype or not fits:
            form = "[batch, classes]" if classify else "[batch] or [batch, 1]"
            yield f"gives {spec.name!r} as {dtype} {form}; it is {spec}"


def _batched(signature: Signature, graph: MetaGraphDef, batching: ServerBatching) -> Iterator[tuple[str, Severity]]:
    """What batching needs of inputs and outputs: a first dimension, free, and the same for all."""
    if not signature.inputs:
        yield "the signature has no input, so there is nothing to put together", Severity.ERROR
    for place, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            shape = _shape(spec, graph, signature, outputs=place == "output")
            if shape is None:
                yield f"{place} {spec.name!r} says no shape: whether it has a first dimension can't be known", \
                    Severity.WARNING
            elif not shape:
                yield f"{place} {spec.name!r} is a scalar, which has no first dimension to be batched by", \
                    Severity.ERROR
            elif shape[0] is not None and batching.most != shape[0]:
                rows = f"{shape[0]} row{'s' * (shape[0] != 1)}"
                yield f"{place} {spec.name!r} has {rows}, whatever the batch has ({spec})", Severity.ERROR
            elif place == "input" and None in shape[1:] and not batching.pads:
                yield f"input {spec.name!r} is {spec}: requests of different lengths can't be put together without " \
                    "pad_variable_length_inputs", Severity.WARNING


def _shape(spec: TensorSpec, graph: MetaGraphDef, signature: Signature, *,
           outputs: bool) -> tuple[int | None, ...] | None:
    """None if it isn't known: an empty shape means a scalar only where it is said."""
    infos = graph.signature_def[signature.name]
    info = (infos.outputs if outputs else infos.inputs)[spec.name]
    return spec.shape if info.HasField("tensor_shape") else None

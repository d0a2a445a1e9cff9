"""One generated request per signature: can a version that says AVAILABLE answer at all?

A graph of TensorFlow 2 with an op that isn't registered loads, is AVAILABLE, and fails each request. A model may also
refuse a made-up request for good reasons (bytes that are no JPEG, a number out of its domain), so only errors that no
other request could avoid count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from deploy.client.encoding import no_json
from deploy.client.interfaces import Asked, Inputs
from deploy.errors import BadRequest, ClientError, Rejected, TimedOut
from deploy.goldens import examples
from deploy.types import DEFAULT_SIGNATURE, PREDICT_METHOD, Contract, ModelRef, Signature, TensorSpec

MOST = 16
"""Signatures of a version that are asked."""

# Texts of TensorFlow's runtime about the graph, its state or the device, whatever the request is
_HOPELESS = re.compile("|".join((
    r"Op type not registered", r"[Nn]o OpKernel was registered", r"No registered '.*' OpKernel",
    r"Could not find device for node", r"Cannot assign a device for operation", r"no kernel image is available",
    r"NodeDef mentions attr", r"is not defined in (?:the function library|.*graph)", r"Function .* is not defined",
    r"[Uu]ninitialized value", r"variable was uninitialized", r"variable has been deleted",
    r"Could not find (?:resource|variable)", r"Resource .* does not exist", r"Container .* does not exist",
    r"[Tt]able (?:is )?not initialized", r"lookup table .* not (?:been )?initialized", r"callback \S+ is not found",
    r"NHWC tensor format", r"only supports NHWC", r"JIT compilation failed", r"libdevice not found",
    r"CUDNN_STATUS_NOT_INITIALIZED", r"DNN library (?:is not found|initialization failed)",
    r"Unsupported (?:builtin|custom) op", r"unresolved custom op", r"Encountered unresolved",
)))


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Of one version. fault: why it can't answer, empty if it can. refused: signatures whose made-up request the model
    didn't take, with its reason. answered: signatures that did answer."""

    fault: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)
    answered: tuple[str, ...] = ()


def hopeless(error: ClientError) -> bool:
    """Whether this error says that no request could be answered, whatever is in it."""
    return isinstance(error, Rejected) and bool(_HOPELESS.search(str(error.details.get("server") or error.message)))


def probe(asked: Asked, ref: ModelRef, contract: Contract, *,
          features: Mapping[str, Sequence[TensorSpec]] | None = None, without: frozenset[str] = frozenset(),
          rest: bool = False, most: int = MOST, timeout: float | None = None) -> ProbeResult:
    """Ask each signature once, the default one first, `most` of them.

    without: signatures that needn't be asked. rest: JSON has to express the request.
    timeout: seconds for each; None: the client's.

    Raises Unreachable if the server is gone. A slow answer is no fault.
    """
    answered, refused = list[str](), dict[str, str]()
    for signature, inputs in islice(_requests(contract, without, features, rest), most):
        try:
            asked.predict(ref, inputs, signature=signature, timeout=timeout)
        except (TimedOut, BadRequest):
            continue
        except Rejected as e:
            if hopeless(e):
                return ProbeResult(f"{ref} is AVAILABLE, but can't answer (signature {signature.name!r}): "
                                   f"{e.details.get('server') or e.message}", refused, tuple(answered))
            refused[signature.name] = str(e.details.get("server") or e.message)
        else:
            answered.append(signature.name)
    return ProbeResult("", refused, tuple(answered))


def _requests(contract: Contract, without: frozenset[str], features: Mapping[str, Sequence[TensorSpec]] | None,
              rest: bool) -> Iterator[tuple[Signature, Inputs]]:
    chosen = [s for s in contract.values() if s.method_name == PREDICT_METHOD and s.name not in without]
    for signature in sorted(chosen, key=lambda s: s.name != DEFAULT_SIGNATURE):
        if rest and no_json(signature):
            continue
        for golden in examples.requests([signature], features, batches=(1,)):
            yield signature, golden.inputs

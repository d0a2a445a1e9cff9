"""Which errors of a generated request say that a version can't serve, and which only that it was made up."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.client import Prediction, probing
from deploy.client.failures import CallSite
from deploy.errors import ClientError, Unreachable
from deploy.types import CLASSIFY_METHOD, Contract, ModelRef, Signature, TensorSpec

REF = ModelRef("m", 1)
CALL = CallSite("predict of m/1", "h:1", REF, 3.0)


def signature(name: str = "serving_default", dtype: str = "float32", method: str = "") -> Signature:
    x = TensorSpec("x", dtype, (None, 2))
    return Signature(name, (x,), (x,), method) if method else Signature(name, (x,), (x,))


class Model:
    """Answers, or fails, by the signature's name."""

    def __init__(self, **errors: ClientError) -> None:
        self.errors, self.asked = errors, list[tuple[str, Any]]()

    def predict(self, ref: ModelRef, inputs: Any, /, *, signature: Signature, timeout: float | None = None
                ) -> Prediction:
        self.asked.append((signature.name, {k: v.shape for k, v in inputs.items()}))
        if signature.name in self.errors:
            raise self.errors[signature.name]
        return Prediction({}, None, signature.name)


@pytest.mark.parametrize(("code", "text"), [
    ("NOT_FOUND", "Op type not registered 'NoSuchOp' in binary running on host. Make sure the Op and Kernel are "
                  "registered in the binary running in this process."),
    ("INVALID_ARGUMENT", "No OpKernel was registered to support Op 'RFFTND' used by {{node RFFTND}} with these attrs"),
    ("NOT_FOUND", "Could not find device for node: {{node x}} = SegmentSumV2[T=DT_FLOAT]\nAll kernels registered for"),
    ("FAILED_PRECONDITION", "Attempting to use uninitialized value dense/kernel"),
    ("FAILED_PRECONDITION", "Error while reading resource variable w from Container: localhost. This could mean that "
                            "the variable was uninitialized. Not found: Container localhost does not exist."),
    ("FAILED_PRECONDITION", "Could not find variable v. This could mean that the variable has been deleted."),
    ("NOT_FOUND", "Resource localhost/v/N10tensorflow3VarE does not exist."),
    ("FAILED_PRECONDITION", "Table not initialized."),
    ("UNIMPLEMENTED", "The Conv2D op currently only supports the NHWC tensor format on the CPU."),
    ("INVALID_ARGUMENT", "NodeDef mentions attr 'grad_x' not in Op<name=MatMul>"),
    ("UNKNOWN", "ValueError: callback pyfunc_3 is not found"),
])
def test_errors_that_no_request_can_avoid(code: str, text: str) -> None:
    verdict = probing.probe(Model(serving_default=CALL.rejected(text, code)), REF, Contract((signature(),)))
    assert verdict.fault.startswith("m/1 is AVAILABLE, but can't answer (signature 'serving_default'): ")
    assert text in verdict.fault


@pytest.mark.parametrize(("code", "text"), [
    ("INVALID_ARGUMENT", "Unknown image file format. One of JPEG, PNG, GIF, BMP required."),
    ("INVALID_ARGUMENT", "assertion failed: [x must be positive]"),
    ("INVALID_ARGUMENT", "Could not parse example input, value: 'the'"),
    ("INVALID_ARGUMENT", "indices[0] = 9 is not in [0, 5)"),
    ("NOT_FOUND", "the; No such file or directory"),
    ("RESOURCE_EXHAUSTED", "Server Threadpool Exhausted"),
    ("RESOURCE_EXHAUSTED", "OOM when allocating tensor"),
    ("INTERNAL", "something"),
])
def test_a_made_up_request_may_be_refused(code: str, text: str) -> None:
    verdict = probing.probe(Model(serving_default=CALL.rejected(text, code)), REF, Contract((signature(),)))
    assert not verdict.fault and verdict.refused == {"serving_default": text}


def test_each_signature_that_has_no_golden_case_is_asked_once() -> None:
    model = Model(b=CALL.timed_out())
    contract = Contract((signature("a"), signature("b"), signature("c"), signature("d", method=CLASSIFY_METHOD),
                         signature("e", "resource")))
    verdict = probing.probe(model, REF, contract, without=frozenset({"c"}))
    assert model.asked == [("a", {"x": (1, 2)}), ("b", {"x": (1, 2)})]
    assert verdict == probing.ProbeResult("", {}, ("a",))


def test_a_fault_in_a_later_signature_is_found() -> None:
    model = Model(b=CALL.rejected("Op type not registered 'X'", "NOT_FOUND"))
    assert "signature 'b'" in probing.probe(model, REF, Contract((signature("a"), signature("b")))).fault


def test_many_signatures_are_bounded_and_json_is_heeded() -> None:
    model = Model()
    probing.probe(model, REF, Contract(tuple(signature(f"s{i}") for i in range(100))))
    assert len(model.asked) == probing.MOST
    model = Model()
    probing.probe(model, REF, Contract((signature("a"), signature())), most=1)
    assert [name for name, _ in model.asked] == ["serving_default"]
    model = Model()
    probing.probe(model, REF, Contract((signature("half", "float16"), signature("whole"))), rest=True)
    assert [name for name, _ in model.asked] == ["whole"]


def test_a_server_that_is_gone_is_no_verdict() -> None:
    with pytest.raises(Unreachable):
        probing.probe(Model(serving_default=CALL.unreachable("reset")), REF, Contract((signature(),)))

"""The smoke test's report and judgement, against a client that is made of values."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from deploy import smoke
from deploy.client import Client, Metadata, Prediction
from deploy.client.failures import CallSite
from deploy.client.rest import Reply
from deploy.errors import SmokeFailed
from deploy.goldens.recorded import Golden
from deploy.goldens.tolerances import Tolerance
from deploy.report import junit
from deploy.repository import VersionFacts
from deploy.smoke import Outcome, Settings, SmokeCheck, SmokeReport
from deploy.types import (
    CLASSIFY_METHOD,
    Contract,
    ModelRef,
    ModelVersion,
    ServedModel,
    Signature,
    Specific,
    TensorSpec,
    VersionState,
    VersionStatus,
)

FLOATS = (None,)
CONTRACT = Contract((Signature("serving_default", (TensorSpec("x", "float32", FLOATS),),
                               (TensorSpec("y", "float32", FLOATS),)),))
X = {"x": np.array([1, 2], "f4")}
GOLDEN = Golden("serving_default", X, {"y": np.array([2.5, 3], "f4")})
CALL = CallSite("predict", "fake", ModelRef("m"), 1.0)


class Rpc:
    """x / 2 + 2 on gRPC, with whatever is wrong. after: how many calls until it is gone."""

    endpoint = "127.0.0.1:1"

    def __init__(self, *, contract: Contract = CONTRACT, off: float = 0.0, label_to: int = 1, after: int = 10**6,
                 state: VersionState = VersionState.AVAILABLE, forgiving: bool = False) -> None:
        self.contract, self.off, self.label_to, self.after = contract, off, label_to, after
        self.state, self.forgiving, self.calls = state, forgiving, 0

    def _call(self) -> None:
        self.calls += 1
        if self.calls > self.after:
            raise CALL.unreachable("Connection refused")

    def status(self, ref: ModelRef, *, timeout: float | None = None) -> list[VersionStatus]:
        self._call()
        return [VersionStatus(1, self.state, 3, "it broke")]

    def metadata(self, ref: ModelRef, *, timeout: float | None = None) -> Metadata:
        self._call()
        return Metadata(self.label_to if ref.label else 1, self.contract)

    def resolve(self, ref: ModelRef, *, timeout: float | None = None) -> ModelVersion:
        return ModelVersion("m", self.metadata(ref).version)

    def predict(self, ref: ModelRef, inputs: Mapping[str, Any], **_: Any) -> Prediction:
        self._call()
        return Prediction({"y": np.asarray(inputs["x"], "f4") / 2 + np.float32(2 + self.off)},
                          ModelVersion("m", self.label_to if ref.label else 1))

    def request(self, method: str, message: Any, reply: Any, *, timeout: float | None = None) -> object:
        self._call()
        if self.forgiving:
            return reply()
        known = message.model_spec.name == "m" and message.model_spec.version.value in (0, 1)
        raise CALL.rejected("no", "INVALID_ARGUMENT" if known else "NOT_FOUND")

    def close(self) -> None:
        """Nothing to do."""


def ask(rpc: Rpc, known: VersionFacts | None = None, labels: Mapping[str, int] | None = None, **settings: Any
        ) -> SmokeReport:
    wanted = ServedModel("m", "/nowhere", Specific((1,)), labels or {})
    return smoke.smoke_test(Client(rpc, None), [wanted], lambda _: known, Settings(repeats=2, **settings))  # type: ignore[arg-type]


def failed(report: SmokeReport) -> list[str]:
    return [f"{c.subject}: {c.name}" for c in report.failed]


def test_all_is_well() -> None:
    said: list[str] = []
    wanted = [ServedModel("m", "/nowhere", Specific((1,)), {"stable": 1})]
    facts = VersionFacts(CONTRACT, [GOLDEN])
    report = smoke.smoke_test(Client(Rpc(), None), wanted, lambda _: facts, progress=said.append)  # type: ignore[arg-type]
    assert report.ok and said == ["asking m/1"]
    report.raise_if_failed()
    assert {c.seen for c in report.checks if c.outcome is Outcome.SKIPPED} >= {"this endpoint offers no REST"}
    [latency] = report.latencies
    assert latency.protocol == "gRPC" and latency.first > 0


def test_what_is_planned_is_what_is_asked_in_the_same_order() -> None:
    classify = Signature("classes", (TensorSpec("inputs", "string", FLOATS, "examples:0"),),
                         (TensorSpec("scores", "float32", (None, 2)),), CLASSIFY_METHOD)
    other = Signature("other", (TensorSpec("x", "float32", FLOATS),), (TensorSpec("y", "float32", FLOATS),))
    contract = Contract((*CONTRACT.values(), other, classify))
    wanted = ServedModel("m", "/nowhere", Specific((1,)), {"stable": 1})
    facts = VersionFacts(contract, [GOLDEN, Golden("serving_default", X, X)])
    report = smoke.smoke_test(Client(Rpc(contract=contract), None), [wanted], lambda _: facts)  # type: ignore[arg-type]
    planned = smoke.planned_checks([wanted], lambda _: facts)
    assert planned == tuple(check.id for check in report.checks)
    assert len(set(planned)) == len(planned)
    assert str(planned[0]) == "m/1 status [gRPC]"


def test_each_check_alone_ends_as_among_the_others() -> None:
    wanted = ServedModel("m", "/nowhere", Specific((1,)), {"stable": 1})
    for rpc in (Rpc(), Rpc(off=0.5), Rpc(label_to=2), Rpc(forgiving=True)):
        for facts in (VersionFacts(CONTRACT, [GOLDEN]), VersionFacts()):
            whole = smoke.smoke_test(Client(rpc, None), [wanted], lambda _, facts=facts: facts)  # type: ignore
            for check in whole.checks:
                report = smoke.smoke_test(Client(rpc, None), [wanted], lambda _, facts=facts: facts,  # type: ignore
                                          only={check.id})
                [alone] = report.checks
                assert (alone.id, alone.outcome, alone.seen) == (check.id, check.outcome, check.seen)


def test_a_check_alone_asks_little() -> None:
    rpc, goldens = Rpc(), [GOLDEN] * 50
    wanted = ServedModel("m", "/nowhere", Specific((1,)))
    [check] = smoke.smoke_test(Client(rpc, None), [wanted], lambda _: VersionFacts(CONTRACT, goldens),  # type: ignore
                               Settings(repeats=0), only={("m/1", "golden 50 of serving_default", "gRPC")}).checks
    assert check.ok and rpc.calls <= 3  # status, contract, and itself


def test_wrong_answers_are_told_with_what_was_expected() -> None:
    report = ask(Rpc(off=0.5), VersionFacts(CONTRACT, [GOLDEN]))
    assert failed(report) == ["m/1: golden 1 of serving_default"]
    [check] = report.failed
    assert "expected 2.5, got 3.0" in check.seen and "y [2]" in check.expected
    assert check.reproduce.startswith("python -c 'import deploy;") and "[1.0, 2.0]" in check.reproduce
    with pytest.raises(SmokeFailed, match="m/1, golden 1 of serving_default over gRPC: exp") as caught:
        report.raise_if_failed()
    assert caught.value.exit_code == 9 and caught.value.details["report"] == report.to_json()


def test_tolerances_of_the_version_and_of_the_settings() -> None:
    tolerances = {"serving_default/y": Tolerance(1.0, 0.0)}
    assert ask(Rpc(off=0.5), VersionFacts(CONTRACT, [GOLDEN], tolerances)).ok
    assert not ask(Rpc(off=0.5), VersionFacts(CONTRACT, [GOLDEN], tolerances), absolute=0.1).ok
    assert ask(Rpc(off=0.5), VersionFacts(CONTRACT, [GOLDEN]), absolute=1.0).ok


def test_generated_requests_need_finite_answers() -> None:
    assert ask(Rpc()).ok
    report = ask(Rpc(off=float("nan")))
    assert failed(report) == ["m/1: generated request for serving_default"]
    assert "NaN or infinity" in report.failed[0].seen


def test_an_output_that_no_signature_promises_is_wrong_without_a_golden_as_well() -> None:
    class Talkative(Rpc):
        def predict(self, ref: ModelRef, inputs: Mapping[str, Any], **_: Any) -> Prediction:
            answer = super().predict(ref, inputs)
            return Prediction({**answer, "z": answer["y"]}, answer.model_version)

    for facts in (None, VersionFacts(CONTRACT, [GOLDEN])):
        [check] = ask(Talkative(), facts).failed
        assert check.seen == "output 'z' is not expected"


def test_another_contract_than_published() -> None:
    other = Contract((Signature("serving_default", (TensorSpec("x", "float32", FLOATS),),
                                (TensorSpec("y", "float32", FLOATS), TensorSpec("z", "int64", FLOATS))),))
    report = ask(Rpc(), VersionFacts(other, [GOLDEN]))
    assert failed(report) == ["m/1: contract"] and "'z' is missing" in report.failed[0].seen


def test_a_golden_of_a_signature_that_is_gone() -> None:
    report = ask(Rpc(), VersionFacts(None, [Golden("scale", X, X)]))
    assert failed(report) == ["m/1: golden 1 of scale"]


def test_a_label_that_leads_elsewhere() -> None:
    report = ask(Rpc(label_to=2), VersionFacts(CONTRACT, [GOLDEN]), {"stable": 1})
    assert failed(report) == ["m@stable: label"] and report.failed[0].seen == "version 2"


def test_a_version_that_is_not_served() -> None:
    report = ask(Rpc(state=VersionState.END))
    assert failed(report) == ["m/1: status"] and report.failed[0].seen == "END: it broke"
    assert [c.seen for c in report.checks if c.outcome is Outcome.NOT_RUN] == ["the version isn't served"]


def test_errors_have_to_come() -> None:
    report = ask(Rpc(forgiving=True))
    assert failed(report) == ["m/1: unknown version", "m/1: malformed request",
                              "tfs-smoke-no-such-model: unknown model"]


def test_wrong_requests_are_left_out_if_nobody_wants_them() -> None:
    report = ask(Rpc(forgiving=True), refusals=False)
    assert report.ok and not [c.name for c in report.checks if "unknown" in c.name or "malformed" in c.name]


@pytest.mark.parametrize("after", range(10))
def test_a_server_that_goes_away_leaves_a_whole_report(after: int) -> None:
    report = ask(Rpc(after=after), VersionFacts(CONTRACT, [GOLDEN]), {"stable": 1})
    assert not report.ok
    assert len(report.failed) <= 1
    names = [c.name for c in report.checks if c.protocol == "gRPC"]
    assert names[:1] == ["status"] and names[-1] == "unknown model"
    left = [c for c in report.checks if c.outcome is Outcome.NOT_RUN]
    assert left and all("any more" in c.seen or "isn't served" in c.seen or "not all" in c.seen for c in left)
    with pytest.raises(SmokeFailed, match=r"stopped answering: gRPC: .*Connection refused"):
        report.raise_if_failed()


def test_nothing_served_under_a_bare_name() -> None:
    report = smoke.smoke_test(Client(Rpc(state=VersionState.END), None), ["m"])  # type: ignore[arg-type]
    assert failed(report) == ["m: status"]


def test_no_wanted_model_is_not_ok_by_itself() -> None:
    assert smoke.smoke_test(Client(Rpc(), None), []).ok  # the unknown model was refused  # type: ignore[arg-type]
    assert not SmokeReport("e", (), (), 0.0).ok


def test_junit_is_xml_whatever_the_server_says() -> None:
    nasty = "a < b & \"c\" \0\x1b]]> \ud800 日本"
    checks = (SmokeCheck("m", 1, None, nasty, "gRPC", Outcome.FAILED, nasty, nasty, nasty, 0.5),
              SmokeCheck("m", 1, None, "s", "REST", Outcome.SKIPPED, "", nasty),
              SmokeCheck("n", None, "l", "p", "REST", Outcome.NOT_RUN, "", "gone"),
              SmokeCheck("n", 2, None, "q", "REST", Outcome.PASSED))
    root = ET.fromstring(junit(SmokeReport("e", checks, (), 1.0)))
    assert {n: root.get(n) for n in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4", "failures": "1", "errors": "1", "skipped": "1"}
    assert [suite.get("name") for suite in root] == ["m", "n"]
    failure = root.find(".//failure")
    assert failure is not None and failure.text is not None
    assert "a < b & \"c\" \ufffd\ufffd]]> \ufffd 日本" in failure.text


def test_the_table_shows_failures_and_reasons() -> None:
    from rich.console import Console

    from deploy.cli.smoke_tables import smoke_table

    console = Console(width=160, file=io.StringIO(), record=True)
    console.print(smoke_table(ask(Rpc(off=0.5), VersionFacts(CONTRACT, [GOLDEN]))))
    text = console.export_text()
    for part in ("m/1", "golden 1 of serving_default over gRPC", "expected 2.5, got 3.0", "reproduce  python -c",
                 "this endpoint offers no REST", "1 failed"):
        assert part in text




class Rest(Rpc):
    """The same answers over REST."""

    endpoint = "http://127.0.0.1:2"

    def curl(self, path: str, body: bytes | None = None) -> str:
        return path

    def request(self, *_: Any, **__: Any) -> Reply:  # type: ignore[override]
        return Reply(404, b"")

    def predict_body(self, *_: Any, **__: Any) -> bytes:
        return b""


def test_a_label_is_asked_with_a_golden_that_json_can_say() -> None:
    """The first one is float16, of which REST knows nothing."""
    half = Signature("a_half", (TensorSpec("x", "float16", FLOATS),), (TensorSpec("y", "float16", FLOATS),))
    contract = Contract((half, *CONTRACT.signatures))
    known = VersionFacts(contract, [Golden("a_half", {"x": X["x"].astype("f2")}, GOLDEN.outputs), GOLDEN])
    client = Client(Rpc(contract=contract), Rest(contract=contract))  # type: ignore[arg-type]
    wanted = ServedModel("m", "/nowhere", Specific((1,)), {"stable": 1})
    report = smoke.smoke_test(client, [wanted], lambda _: known, Settings(repeats=0))
    asked = {c.protocol: c.outcome for c in report.checks if c.label == "stable" and "golden" in c.name}
    assert asked["gRPC"] is Outcome.PASSED and asked["REST column"] is Outcome.PASSED

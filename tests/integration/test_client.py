"""The client against a server process that runs real models, over both protocols."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from deploy import client
from deploy.client import Client
from deploy.client.rest import RestClient
from deploy.client.rpc import RpcClient
from deploy.errors import BadRequest, Rejected, TimedOut, Unreachable
from deploy.types import All, Endpoint, ModelRef, ModelVersion, ServedModel, Specific, VersionState
from deploy.wire.tensors import numpy_dtype
from tests.support import client as support

pytestmark = pytest.mark.tensorflow

Protocol = RestClient | RpcClient
NUMBERS = ["float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64"]
ONLY_RPC = ["float16", "bfloat16", "uint16", "complex64", "complex128"]


@pytest.fixture(scope="module")
def endpoint(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    root = tmp_path_factory.mktemp("client")
    single = ["mnist", "two_signatures", "vocabulary", "dtypes", "shapes", "classes", "fails"]
    support.lay_out(models, root, {"half": {1: "half_plus_two", 2: "half_plus_three"}, **{m: {1: m} for m in single}})
    served = [ServedModel("half", str(root / "half"), All(), {"stable": 1, "canary": 2}),
              *(ServedModel(m, str(root / m), Specific((1,))) for m in single)]
    with support.server(served, root) as (endpoint, _):
        yield endpoint


@pytest.fixture(scope="module")
def both(endpoint: Endpoint) -> Iterator[Client]:
    with client.connect(endpoint) as made:
        yield made


@pytest.fixture(params=["rpc", "rest"])
def one(request: pytest.FixtureRequest, both: Client) -> Protocol:
    found: Protocol = getattr(both, request.param)
    return found


def test_answers_by_version_label_and_name(one: Protocol) -> None:
    answers = {ref: one.predict(ref, {"x": [1.0, 2.0]})["y"].tolist() for ref in
               ("half/1", "half@stable", "half/2", "half@canary", "half")}
    assert answers == {"half/1": [2.5, 3.0], "half@stable": [2.5, 3.0], "half/2": [3.5, 4.0], "half@canary": [3.5, 4.0],
                       "half": [3.5, 4.0]}


def test_grpc_tells_which_version_answered(both: Client) -> None:
    assert both.predict("half@stable", [1.0]).model_version == ModelVersion("half", 1)
    assert both.rest is not None
    assert both.rest.predict("half@stable", [1.0]).model_version is None


def test_all_ways_of_one_batch_agree(both: Client) -> None:
    assert both.rpc and both.rest
    pixels = np.random.default_rng(1).random((5, 784), np.float32)
    answer = both.rpc.predict("mnist", pixels)["probs"]
    assert answer.dtype == np.float32 and answer.shape == (5, 10)
    for form in ("row", "column"):
        np.testing.assert_allclose(both.rest.predict("mnist", pixels, form=form)["probs"], answer, rtol=1e-6)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_numbers_come_back_as_they_were(one: Protocol, dtype: str) -> None:
    kind = numpy_dtype(dtype)
    limits = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
    values = np.array([limits.min, 0, 1, limits.max], kind)
    answer = one.predict("dtypes", values, signature=dtype)["y"]
    assert answer.dtype == kind
    np.testing.assert_array_equal(answer, values)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_random_bits_survive_json(both: Client, dtype: str) -> None:
    assert both.rest
    bits = np.random.default_rng(3).integers(0, 256, 8000, np.uint8).view(dtype).copy()
    bits = bits[np.isfinite(bits)]
    bits[np.abs(bits) < np.finfo(bits.dtype).tiny] *= 0  # denormals are zero in the server's JSON
    for form in ("row", "column"):
        answer = both.rest.predict("dtypes", bits, signature=dtype, form=form)["y"]
        np.testing.assert_array_equal(answer, bits)


@pytest.mark.parametrize("values", [[np.nan, 1, np.inf, -np.inf, np.nan], [np.nan, 0.5]])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_and_infinities_pass(one: Protocol, dtype: str, values: list[float]) -> None:
    np.testing.assert_array_equal(one.predict("dtypes", np.array(values, dtype), signature=dtype)["y"],
                                  np.array(values, dtype))


@pytest.mark.parametrize("dtype", ONLY_RPC)
def test_dtypes_without_json_say_so(both: Client, dtype: str) -> None:
    assert both.rpc and both.rest
    values = np.array([1, 2], numpy_dtype(dtype))
    np.testing.assert_array_equal(both.rpc.predict("dtypes", values, signature=dtype)["y"], values)
    with pytest.raises(BadRequest, match=f"is {dtype}, which has no JSON form; use gRPC"):
        both.rest.predict("dtypes", values, signature=dtype)


def test_bools_and_strings(one: Protocol) -> None:
    assert one.predict("dtypes", [True, False], signature="bool")["y"].tolist() == [True, False]
    words = ["héllo", "日本 \"quoted\"\n", ""]
    assert one.predict("dtypes", words, signature="string")["y"].tolist() == [word.encode() for word in words]
    raw = [b"\xff\x00raw", b"", b"text"]
    assert one.predict("dtypes", raw, signature="string")["y"].tolist() == raw
    assert one.predict("vocabulary", {"words": ["fox", "cat"]})["ids"].tolist() == [3, -1]


def test_several_inputs_and_outputs(one: Protocol) -> None:
    answer = one.predict("two_signatures", {"x": [[1, 2, 3.0]], "factor": 2.0}, signature="scale")
    assert {n: a.tolist() for n, a in answer.items()} == {"scaled": [[2, 4, 6]], "total": [6]}
    chosen = one.predict("two_signatures", {"x": [[1, 2, 3.0]], "factor": 2.0}, signature="scale", outputs=["total"])
    assert list(chosen) == ["total"]


def test_shapes(one: Protocol) -> None:
    assert one.predict("shapes", 3.0, signature="unknown_rank")["y"].tolist() == 6
    assert one.predict("half", np.zeros(0, "f4"))["y"].shape == (0,)
    assert one.predict("shapes", [1.0, 2.0], signature="scalar_out")["total"].shape == ()


def test_an_empty_batch_keeps_its_shape_or_isnt_sent(both: Client) -> None:
    empty = np.zeros((0, 3), "f4")
    assert both.rpc
    assert both.rpc.predict("shapes", empty, signature="unknown_dims")["y"].shape == (0, 3)
    assert both.rest
    for form in ("row", "column"):
        with pytest.raises(BadRequest, match=r"input 'x' is empty, and JSON can't express its shape \[0, 3\]"):
            both.rest.predict("shapes", empty, signature="unknown_dims", form=form)


def test_what_rows_cannot_express(both: Client) -> None:
    assert both.rest
    for model, signature, inputs, why in (
            ("two_signatures", "scale", {"x": [[1.0, 2, 3]], "factor": 2.0}, "one batch dimension"),
            ("shapes", "scalar_out", [1.0], "is a scalar"),
            ("half", "serving_default", np.zeros(0, "f4"), "no rows")):
        with pytest.raises(BadRequest, match=why):
            both.rest.predict(model, inputs, signature=signature, form="row")


@pytest.mark.parametrize(("inputs", "why"), [
    ({"pixels": np.zeros((1, 784))[:, :3].astype("f4")}, "expected shape"),
    ({"pixels": np.zeros(784, "f4")}, "array\\[None\\]"),
    ({"pixels": [["a"] * 784]}, "expected float32"),
    ({}, "no value for input pixels"),
    ({"pixel": np.zeros((1, 784), "f4")}, "did you mean 'pixels'"),
])
def test_bad_requests_are_not_sent(one: Protocol, inputs: object, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        one.predict("mnist", inputs)  # type: ignore[arg-type]


def test_unknown_names(one: Protocol) -> None:
    for ref in ("nope", "half/99"):
        with pytest.raises(Rejected) as caught:
            one.predict(ref, [1.0])
        assert caught.value.code == "NOT_FOUND" and caught.value.ref == ModelRef.parse(ref)
    with pytest.raises(BadRequest, match="no signature 'other'"):
        one.predict("half", [1.0], signature="other")


def test_a_refusal_is_explained(one: Protocol) -> None:
    with pytest.raises(Rejected, match=r"(?s)negative input.*takes x: float32\[\?\]"):
        one.predict("fails", [-1.0])


def test_status_and_metadata(one: Protocol) -> None:
    found = one.status("half")
    assert [(s.version, s.state) for s in found] == [(2, VersionState.AVAILABLE), (1, VersionState.AVAILABLE)]
    assert [s.version for s in one.status("half/1")] == [1]
    assert one.resolve("half@stable") == ModelVersion("half", 1)
    assert one.metadata("two_signatures").contract["scale"].input("factor").shape == ()
    with pytest.raises(Rejected, match="refused"):
        one.status("nope")


def test_both_protocols_tell_the_same_contract(both: Client) -> None:
    assert both.rpc and both.rest
    for model in ("dtypes", "shapes", "classes", "two_signatures", "mnist"):
        assert both.rpc.metadata(model) == both.rest.metadata(model)


def test_classify_and_regress(one: Protocol) -> None:
    assert one.classify("classes", [{"x": 0.25}, {"x": [1.0]}]) == [
        [("yes", 0.25), ("no", 0.75)], [("yes", 1.0), ("no", 0.0)]]
    assert one.regress("classes", [{"x": 3.0}, {}], signature="regress").tolist() == [6, 0]
    assert one.regress("classes", [{}, {}], context={"x": 1.5}, signature="regress").tolist() == [3, 3]


def test_threads_share_a_client(one: Protocol) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: one.predict("half/1", [float(i)])["y"][0], range(64)))
    assert answers == [i / 2 + 2 for i in range(64)]


def test_large_messages_pass(both: Client) -> None:
    big = np.ones((2000, 784), np.float32)  # 6 MB, beyond gRPC's usual 4
    assert both.rpc and both.rest
    assert both.rpc.predict("mnist", big)["probs"].shape == (2000, 10)
    assert both.rpc.predict("dtypes", big.ravel(), signature="float32")["y"].shape == (big.size,)


def test_a_deadline_ends_the_call(one: Protocol) -> None:
    with pytest.raises(TimedOut):
        one.predict("dtypes", np.zeros(2_000_000, "f4"), signature="float32", timeout=0.001)


def test_reload_and_a_new_version_behind_the_name(models: Path, tmp_path: Path) -> None:
    from deploy.render.configs import models_config

    support.lay_out(models, tmp_path, {"m": {1: "half_plus_two", 2: "two_signatures"}})

    def config(version: int) -> object:
        return models_config([ServedModel("m", str(tmp_path / "m"), Specific((version,)))], {"m": str(tmp_path / "m")})

    first = ServedModel("m", str(tmp_path / "m"), Specific((1,)))
    with support.server([first], tmp_path) as (endpoint, process), client.connect(endpoint) as both:
        assert both.rpc and both.rest
        for one in (both.rpc, both.rest):
            assert one.predict("m", [1.0])["y"].tolist() == [2.5]
        both.reload(config(2))  # type: ignore[arg-type]
        support.poll(lambda: both.resolve("m").version == 2 or None, support.Deadline(30))
        for one in (both.rpc, both.rest):  # another contract, which their kept signature doesn't fit
            assert one.predict("m", [[1.0, 2, 3]])["y"].tolist() == [[2, 3, 4]]
        with pytest.raises(BadRequest, match="needs gRPC"), client.connect(endpoint.rest_url) as alone:
            alone.reload(config(2))  # type: ignore[arg-type]
        process.kill()
        process.wait()
        for one in (both.rpc, both.rest):
            with pytest.raises(Unreachable, match="is the server running"):
                one.status("m")


def test_curl_reproduces_a_call(both: Client) -> None:
    assert both.rest
    known = both.rest.metadata("half/1").contract["serving_default"]
    body = both.rest.predict_body("half/1", {"x": [1.0]}, signature=known, form="row")
    shell = both.rest.curl("/v1/models/half/versions/1:predict", body)
    out = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True).stdout
    assert "2.5" in out

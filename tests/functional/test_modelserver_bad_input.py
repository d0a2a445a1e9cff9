"""Input that is out of all proportion: refused with the real server's answer, and without its price."""

from __future__ import annotations

import gzip
import json
import threading
import tracemalloc
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.modelserver.core import Core
from deploy.modelserver.echo import ANY, EchoModel, signature_defs
from deploy.modelserver.examples import Examples
from deploy.modelserver.lifecycle import Lifecycle
from deploy.modelserver.loader import Model
from deploy.modelserver.metrics import Metrics
from deploy.modelserver.rest import routes
from deploy.modelserver.source import BasePathMissing, Monitored, Poller, look
from deploy.net.http1.limits import MOST_UNPACKED, UNPACKED_ANYWAY
from deploy.net.http1.messages import Abandoned, Heavier, Request, TooLarge, check_values, unpack
from deploy.types import Latest
from deploy.wire import config_pb2, serving_pb2


class Echoes:
    """A loader whose versions need no files."""

    def load(self, name: str, version: int, path: str) -> Model:
        return EchoModel(signature_defs(ANY))


def configuration(*names: str) -> config_pb2.ModelServerConfig:
    config = config_pb2.ModelServerConfig()
    for name in names:
        config.model_config_list.config.add(name=name, base_path=f"/{name}", model_platform="tensorflow")
    return config


@pytest.fixture(scope="module")
def core() -> Iterator[Core]:
    lifecycle = Lifecycle(Echoes())
    made = Core(lifecycle, Poller(lifecycle, 0.01, lambda models: {m.name: {1: m.base_path} for m in models}))
    made.reload(configuration("m"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def api(core: Core) -> routes.Api:
    calls = {"predict": routes.predict(core), "classify": routes.classify(core, Examples())}
    return routes.Api(core, Metrics(), calls, {})


def predict(api: routes.Api, body: str, verb: str = "predict") -> tuple[int, str]:
    reply = api.answer(Request("POST", f"/v1/models/m:{verb}", body=body.encode()))
    return reply.status, json.loads(reply.body)["error"]


@pytest.mark.parametrize("digits", ["9" * 19, "9" * 5000, "0" * 5000 + "9" * 5000])
def test_versions_of_many_digits_have_no_text(api: routes.Api, digits: str) -> None:
    reply = api.answer(Request("GET", f"/v1/models/m/versions/{digits}"))
    assert (reply.status, reply.body) == (400, b"")


def test_zeros_before_a_version(api: routes.Api) -> None:
    assert api.answer(Request("GET", f"/v1/models/m/versions/{'0' * 5000}1")).status == 200


@pytest.mark.parametrize("number", ["9" * 5000, "-" + "9" * 5000, "9" * 5000 + ".5"])
def test_numbers_of_many_digits(api: routes.Api, number: str) -> None:
    assert predict(api, f'{{"instances": [{number}]}}') == (
        400, "JSON Parse error: Number too big to be stored in double. at offset: 15")


@pytest.mark.parametrize("depth", [70, 200, 253])
def test_as_many_dimensions_as_tensorflow_has(api: routes.Api, depth: int) -> None:
    for key, answer in (("instances", "predictions"), ("inputs", "outputs")):
        body = f'{{"{key}": {"[" * depth}1{"]" * depth}}}'.encode()
        reply = api.answer(Request("POST", "/v1/models/m:predict", body=body))
        found = b"".join(reply.body.split()).decode()
        assert (reply.status, found) == (200, f'{{"{answer}":{"[" * depth}1.0{"]" * depth}}}')


@pytest.mark.parametrize("depth", [255, 300, 999, 1020, 1030, 100_000])
def test_deep_lists(api: routes.Api, depth: int) -> None:
    for value in ("1", '"a"', "NaN", "{}"):
        for key in ("instances", "inputs"):
            status, error = predict(api, f'{{"{key}": {"[" * depth}{value}{"]" * depth}}}')
            assert status == 400
            assert error.startswith("tensor parsing error: x" if value in ("1", "NaN") else
                                    ("JSON Value: ", "Failed to process element: 0 of"))


@pytest.mark.parametrize("depth", [300, 999, 1020, 100_000])
def test_deep_objects(api: routes.Api, depth: int) -> None:
    for verb, key in (("predict", "instances"), ("predict", "other"), ("classify", "examples"), ("classify", "other")):
        nested = '{"x":' * depth + "1" + "}" * depth
        status, error = predict(api, f'{{"{key}": {nested}}}', verb)
        assert (status, len(error) < 70_000) == (400, True)


@pytest.mark.parametrize("other", ["[" * 100_000 + "]" * 100_000, '{"x":' * 100_000 + "1" + "}" * 100_000,
                                   '[{"x":' * 50_000 + "NaN" + "}]" * 50_000])
def test_what_nobody_asks_for_may_be_of_any_depth(api: routes.Api, other: str) -> None:
    body = f'{{"other": {other}, "instances": [1.0]}}'.encode()
    assert api.answer(Request("POST", "/v1/models/m:predict", body=body)).status == 200
    reply = api.answer(Request("POST", "/v1/models/m:predict", body=body[:-1]))
    assert json.loads(reply.body)["error"] == ("JSON Parse error: Missing a comma or } after an object member. at "
                                               f"offset: {len(body) - 1}")


@pytest.mark.parametrize("body", [
    f'{{"x": {[1.5] * 1_000_000}}}',
    f'{{"x": "{"y" * 4_000_000}"}}',
    f'{{"{"y" * 4_000_000}": 1}}',
    f'{{"signature_name": "{"y" * 4_000_000}", "instances": [1]}}',
    f'{{"instances": [["{"y" * 4_000_000}"]]}}',
    f'{{"instances": [{{"{"y" * 4_000_000}": 1}}]}}',
    f'{{"instances": [{[1.5] * 10}, {["y"] * 1_000_000}]}}',
])
def test_errors_quote_no_more_than_the_beginning(api: routes.Api, body: str) -> None:
    status, error = predict(api, body)
    assert (status, len(error) < 300_000, "..." in error or len(error) < 1000) == (400, True, True)


@pytest.mark.parametrize("body", [
    b'{"instances": [' + b"1.5, " * 500_000 + b'"a"]}',
    b'{"instances": [' + b"1.5, " * 500_000 + b"Inf]}",
    b'{"examples": [' + b'{"x": 1}, ' * 100_000 + b"Inf]}",
])
def test_nothing_is_read_for_nobody(api: routes.Api, body: bytes) -> None:
    verb = "classify" if b"examples" in body else "predict"
    with pytest.raises(Abandoned):
        api.answer(Request("POST", f"/v1/models/m:{verb}", body=body, over=True))


@pytest.mark.parametrize(("numbers", "expected"), [
    ("NaN", "NaN"), ("-Infinity", "-Infinity"), ("Infinity", "Infinity"), ("Inf", "Infinity"), ("1e400", None),
    ("NaN, 1e400", None), ("123456789012345678901234567890, NaN", "1.23456789e+29, NaN"), ("NaN]}, x", "NaN"),
])
def test_long_bodies_with_what_json_lacks(api: routes.Api, numbers: str, expected: str | None) -> None:
    body = f'{{"instances": [{"1.0, " * 1000}{numbers}]}}'.encode()
    reply = api.answer(Request("POST", "/v1/models/m:predict", body=body))
    if expected is None:
        assert "Number too big to be stored in double" in reply.body.decode()
    else:
        assert f"1.0, {expected}\n    ]" in reply.body.decode()


def test_values_are_counted_before_they_are_read() -> None:
    check_values(b"1," * 1000, 1001)
    check_values(b"1," * 1000, 0)
    check_values(b"1" * 5000, 1001)
    for body in (b"1," * 1001, b"1," * 3_000_000):
        with pytest.raises(TooLarge, match="--tfs_rest_max_values=1001"):
            check_values(body, 1001)


@pytest.mark.parametrize("body", [b'{"signature_name": "\xff", "examples": [{"x": 1}]}',
                                  b'{"examples": [{"\xff": 1}]}'])
def test_bytes_that_no_message_takes(api: routes.Api, body: bytes) -> None:
    assert api.answer(Request("POST", "/v1/models/m:classify", body=body)).status == 400


def packed(data: bytes, level: int = 1) -> Request:
    return Request(headers={b"content-encoding": b"gzip"}, body=gzip.compress(data, level))


def test_a_body_unpacks_to_no_more_than_in_the_real_server() -> None:
    for size, expected in ((MOST_UNPACKED, MOST_UNPACKED), (MOST_UNPACKED + 1, 0)):
        request = packed(bytes(size), level=0)  # so that it isn't the ratio that counts
        unpack(request)
        assert len(request.body) == expected


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, UNPACKED_ANYWAY])
def test_what_unpacks_to_little_may_be_packed_as_tight_as_can_be(size: int) -> None:
    request = packed(bytes(size))
    unpack(request)
    assert request.body == bytes(size)


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    request = packed(bytes(80 << 20), level=9)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="unpacks to more than 16777216 bytes"):
            unpack(request)
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()


def test_nothing_is_unpacked_for_nobody() -> None:
    request = packed(bytes(8 << 20))
    request.over = True
    with pytest.raises(Abandoned):
        unpack(request)


@pytest.mark.parametrize("cut", [0, 1, 9, 100, -1, -8])
def test_a_packed_body_that_is_cut_off_counts_as_empty(cut: int) -> None:
    request = packed(bytes(range(256)) * 5000)
    request.body = request.body[:cut]
    unpack(request)
    assert request.body == b""


def test_base_paths_that_no_file_system_takes_are_missing_ones() -> None:
    for path in ("/a\0b", "/" + "a" * 5000):
        with pytest.raises(BasePathMissing):
            look(Monitored("m", path, Latest()))


def test_a_look_that_fails_doesnt_end_the_polling() -> None:
    looks = 0

    def clumsy(models: Iterable[Monitored]) -> dict[str, dict[int, str]]:
        nonlocal looks
        looks += 1
        if looks < 3:
            raise RuntimeError("a surprise")
        return {"m": {1: "/m/1"}}

    lifecycle = Lifecycle(Echoes())
    core = Core(lifecycle, Poller(lifecycle, 0.001, clumsy))
    core.reload(configuration("m"))  # returns when the model is there
    assert looks >= 3
    core.close()


def test_a_model_that_cant_be_freed_doesnt_end_the_manager() -> None:
    class Sticky(EchoModel):
        def close(self) -> None:
            raise RuntimeError("a surprise")

    class Loader:
        def load(self, name: str, version: int, path: str) -> Model:
            return Sticky(signature_defs(ANY))

    lifecycle = Lifecycle(Loader())
    for number in (1, 2, 3):
        lifecycle.aspire("m", {number: "/m"})
        assert lifecycle.wait(lambda n=number: any(s.version == n and s.serving for s in lifecycle.states("m")), 10)
    lifecycle.close()


def test_a_label_that_moves_while_it_is_looked_up(core: Core) -> None:
    """The version that it stood for may be gone by then; it stands for another one now."""
    lifecycle = core.lifecycle
    config = configuration("m")
    config.model_config_list.config[0].version_labels["stable"] = 1
    core.reload(config)
    spec = serving_pb2.ModelSpec(name="m", version_label="stable")
    core._labels = Moving([{"m": {"stable": 7}}, {"m": {"stable": 1}}])
    with core.servable(spec) as servable:
        assert servable.id.version == 1
    assert lifecycle.states("m")[0].version == 1


class Moving(dict):  # type: ignore[type-arg]
    """Labels that are others each time they are looked at."""

    def __init__(self, states: list[dict[str, dict[str, int]]]) -> None:
        self._states = states

    def __getitem__(self, name: str) -> dict[str, int]:
        return (self._states.pop(0) if len(self._states) > 1 else self._states[0])[name]


def test_names_of_models_that_nobody_has_dont_pile_up() -> None:
    metrics = Metrics()
    for number in range(5_000):
        metrics.count("serving:request_count", model_name=f"m{number}", status="NOT_FOUND")
        metrics.observe("serving:request_latency", 1.0, model_name=f"m{number}", API="predict", entrypoint="REST")
    metrics.count("serving:request_count", model_name="m" * 5000, status="NOT_FOUND")
    metrics.count("serving:request_count", model_name="m1", status="NOT_FOUND")
    page = metrics.page()
    assert b'request_count{model_name="m1",status="NOT_FOUND"} 2' in page
    assert b"m4999" not in page and b"mmmm" not in page


def test_a_model_that_is_back_before_it_was_unloaded() -> None:
    """Nothing changes then, so there is nothing to wait for."""
    loading, go = threading.Event(), threading.Event()

    class Slow(Echoes):
        def load(self, name: str, version: int, path: str) -> Model:
            if name == "slow":
                loading.set()
                go.wait(10)
            return super().load(name, version, path)

    lifecycle = Lifecycle(Slow())
    versions: dict[str, dict[int, str]] = {"m": {1: "/m/1"}, "slow": {}}
    core = Core(lifecycle, Poller(lifecycle, 0.001, lambda models: {m.name: versions[m.name] for m in models}))
    core.reload(configuration("m"))
    versions["slow"] = {1: "/slow/1"}
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(core.reload, configuration("m", "slow"))
        assert loading.wait(10)  # the lifecycle is busy, and so is the reload
        go.set()
        first.result(10)
        loading.clear()
        go.clear()
        versions["slow"][2] = "/slow/2"
        assert loading.wait(10)
        core.reload(configuration("slow"))
        pool.submit(core.reload, configuration("m", "slow")).result(10)
        go.set()
    core.close()


def test_a_body_that_is_heavier_than_it_looks_waits_as_it_came() -> None:
    packed = gzip.compress(b"1" * 5000)
    request = Request(body=packed, headers={b"content-encoding": b"gzip"})
    with pytest.raises(Heavier):
        unpack(request, 4999)
    assert request.body == packed
    unpack(request, 5000)
    assert len(request.body) == 5000

"""A version judged by its answers, on a server without TensorFlow."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy import client, goldens, testing
from deploy.client.monitoring import RequestCounts, request_counts
from deploy.errors import Malformed, Rejected, RepositoryError, RolloutError
from deploy.goldens import Golden, examples
from deploy.rollout import canary
from deploy.spec import ComparePart
from deploy.types import Contract, ModelRef, Signature, TensorSpec
from deploy.wire import records
from deploy.wire.flags import Options
from tests.support.serving import FakeClock

ROWS = Contract((Signature("serving_default", (TensorSpec("x", "float32", (None, 3)),),
                           (TensorSpec("y", "float32", (None, 3)),)),))
X = np.array([[1, 2, 3], [3, 2, 1]], np.float32)
REQUESTS = [Golden("serving_default", {"x": X}), Golden("serving_default", {"x": X + 1})]

VERSIONS = ModelRef("m", label="stable"), ModelRef("m", label="canary")


def version(function: Any) -> testing.Version:
    return testing.Version(ROWS, {"serving_default": lambda inputs: {"y": function(np.asarray(inputs["x"]))}})


def nan(x: Any) -> Any:
    return np.where(x > 2, np.nan, x)


def fails(x: Any) -> Any:
    from deploy.modelserver.status import invalid

    raise invalid("I don't like it")


def judged(after: Any, **limits: Any) -> canary.CanaryReport:
    with testing.serve({"m": {1: version(lambda x: x), 2: version(after)}}, labels={"m": {"stable": 1, "canary": 2}}
                       ) as server, client.connect(server.endpoint) as asked:
        return canary.judge(asked, *VERSIONS, REQUESTS, limits=ComparePart(**{"latency": 1e9, **limits}))


@pytest.mark.parametrize(("after", "limits", "problem"), [
    (lambda x: x, {}, ""),
    (lambda x: x + 0.25, {}, ""),
    (lambda x: x + 0.25, {"deviation": 0.3}, ""),
    (lambda x: x + 0.25, {"deviation": 0.2}, "serving_default/y is up to 0.25 apart, 0.2 allowed"),
    (lambda x: -x, {}, "serving_default/y decides otherwise in 4 of 4 rows, 20% allowed"),
    (lambda x: -x, {"flips": 1.0}, ""),
    (lambda x: x * np.inf, {"flips": 1.0}, ""),
    (lambda x: x * np.inf, {"flips": 1.0, "deviation": 9.0},
     "serving_default/y is infinitely far apart in 6 of 6 values; up to 9 apart is allowed"),
    (lambda x: x[:1], {"deviation": 9.0},
     "serving_default/y has shape [1, 3], [2, 3] before; up to 9 apart is allowed"),
    (nan, {"flips": 1.0}, "serving_default/y has 50.0% NaN, 0.0% before"),
    (fails, {}, "2 requests refused, 0 before: "),
    (fails, {"errors": 1.0}, ""),
])
def test_the_limits(after: Any, limits: dict[str, float], problem: str) -> None:
    report = judged(after, **limits)
    assert report.ok is (not problem) and (report.problems or ("",))[0].startswith(problem)
    if problem:
        with pytest.raises(RolloutError, match="m@canary isn't like m@stable"):
            report.raise_if_refused()


def test_a_slow_canary() -> None:
    def slow(x: Any) -> Any:
        for _ in range(3000):
            np.linalg.norm(x)
        return x

    report = judged(slow, latency=1.5)
    assert "the median request takes" in report.problems[0]


class Loaded:
    """Answers in `seconds`, on a machine that lets every third request wait, for up to a quarter of a second."""

    def __init__(self, seed: int, seconds: Mapping[ModelRef, float], share: float = 0.35) -> None:
        self.clock, self.calls = FakeClock(), 0
        self._seconds, self._share, self._random = seconds, share, random.Random(seed)

    def predict(self, ref: ModelRef, inputs: Any, **_: object) -> Any:
        self.calls += 1
        busy = self._random.random() < self._share
        self.clock.sleep(self._seconds[ref] + (min(0.25, self._random.expovariate(1 / 0.05)) if busy else 0.0))
        return {"y": inputs["x"]}


def trial_on(loaded: Loaded, *, brief: bool = False) -> canary.CanaryReport:
    return canary.judge(loaded, *VERSIONS, REQUESTS, limits=ComparePart(), clock=loaded.clock, brief=brief)  # type: ignore[arg-type]


@pytest.mark.parametrize(("brief", "refused"), [(False, 0.95), (True, 0.85)])
def test_a_loaded_machine_is_not_the_versions_fault_and_a_slow_version_is_slow_on_it(brief: bool, refused: float
                                                                                     ) -> None:
    before, after = VERSIONS
    seeds = range(500)
    for seed in seeds:
        assert trial_on(Loaded(seed, {before: 0.004, after: 0.004}), brief=brief).ok, seed
    trials = [trial_on(Loaded(seed, {before: 0.004, after: 0.02}), brief=brief).ok for seed in seeds]
    assert trials.count(False) > refused * len(seeds), "of the others the first few requests didn't show it, by chance"


@pytest.mark.parametrize(("brief", "slower", "calls"), [(False, 1, 5), (True, 1, 3), (False, 5, 9), (True, 5, 13)])
def test_both_are_asked_as_often_as_it_takes(brief: bool, slower: int, calls: int) -> None:
    quiet = Loaded(0, {VERSIONS[0]: 0.1, VERSIONS[1]: 0.1 * slower}, share=0)
    assert trial_on(quiet, brief=brief).ok is (slower == 1)
    assert quiet.calls == calls * len(REQUESTS) * len(VERSIONS)


class Answering:
    """Answers in 10 ms what it is asked, each time at the second try."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock, self._calls = clock, 0

    def predict(self, ref: ModelRef, inputs: Any, **_: object) -> Any:
        self._calls += 1
        if self._calls % 2:
            raise Rejected("no room", code="RESOURCE_EXHAUSTED")
        self._clock.sleep(0.01)
        return {"y": inputs["x"]}


def test_pauses_of_a_busy_server_say_nothing_of_a_version() -> None:
    clock = FakeClock()
    report = canary.judge(Answering(clock), *VERSIONS, REQUESTS, limits=ComparePart(), clock=clock)  # type: ignore[arg-type]
    assert report.ok and len(report.before.timings.seconds) == len(report.after.timings.seconds) == 8
    assert max(report.before.timings.seconds + report.after.timings.seconds) == pytest.approx(0.01)


def test_the_report(tmp_path: Path) -> None:
    report = judged(lambda x: x + 0.25, repeats=3)
    data = json.loads(json.dumps(report.to_json()))
    assert data["ok"] and data["requests"] == 2 and data["before"]["timed"] == 4
    assert report.summary.startswith("2 requests: up to 0.25 apart, 0 of 4 rows decided otherwise, ")
    text = canary.report_page(report, "a <title>")
    assert "a &lt;title&gt;" in text and "<svg" in text and "<script" not in text and "http" not in text

    opened: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            opened.append(tag)

    Tags().feed(text)
    assert opened.count("table") == 2 and opened.count("svg") == 2


def test_requests(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    goldens.write(tmp_path / "v", [Golden("serving_default", {"x": X}, {"y": X})], "m")
    assert np.array_equal(goldens.requests(tmp_path / "v" / goldens.FILE)[0].inputs["x"], X)
    assert [len(golden.inputs["x"]) for golden in examples.requests(ROWS.values(), batches=(1, 5))] == [1, 5]
    records.write(tmp_path / "empty", iter(()))
    for path in (tmp_path / "empty", tmp_path / "none"):
        with pytest.raises(RepositoryError, match=r"no predict request|no file"):
            goldens.requests(path)
    damaged = bytearray((tmp_path / "v" / goldens.FILE).read_bytes())
    damaged[20] ^= 1
    (tmp_path / "damaged").write_bytes(damaged)
    with pytest.raises(Malformed, match="damaged: record 0"):
        goldens.requests(tmp_path / "damaged")


def test_counting() -> None:
    monitored = Options(max_num_load_retries=0, allow_version_labels_for_unavailable_models=True)
    with testing.serve({"m": {1: version(lambda x: x)}}, options=monitored) as server, \
            client.connect(server.endpoint) as asked:
        assert request_counts(asked.rest, "m", "/monitoring/prometheus/metrics") is None  # monitoring is off
    assert request_counts(None, "m", "/x") is None
    one, two = RequestCounts({"OK": 5}), RequestCounts({"OK": 9, "INTERNAL": 2, "NOT_FOUND": 1})
    assert (two.since(one).all, two.since(one).failed) == (7, 2)
    assert one.since(two) == one  # started again

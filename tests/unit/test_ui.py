"""The page's decisions: who is answered, a release's steps, rates from counters, golden answers side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.client.monitoring import parse
from deploy.errors import SpecError
from deploy.goldens import Golden
from deploy.state import Ledger, releases
from deploy.ui.answers import in_common, request_key, shown
from deploy.ui.guarding import Guard, check_host
from deploy.ui.metrics import counters, quantile, rates
from deploy.ui.timeline import release_steps

TOKEN = "right"
JSON = {"content-type": "application/json", "content-length": "2"}


async def nothing(*_: object) -> None:
    raise AssertionError("it isn't asked")


def status(method: str = "GET", path: str = "/api/state", *, token: str | None = TOKEN, **headers: str) -> int:
    names = {"host": "127.0.0.1:8555", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return Guard(nothing, host="127.0.0.1", token=token).refusal(method, path, names)[0]


@pytest.mark.parametrize("host", ["127.0.0.1:8555", "localhost:8555", "localhost", "[::1]:8555", "127.0.0.2:1"])
def test_this_machine_is_answered(host: str) -> None:
    assert status(host=host) == 200


@pytest.mark.parametrize("name", ["evil.example:8555", "127.0.0.1.evil.example", "", "10.0.0.7:8555", "localhost.evil"])
def test_a_name_that_somebody_elses_dns_points_here_is_not(name: str) -> None:
    guard = Guard(nothing, host="127.0.0.1", token=TOKEN)
    assert guard.refusal("GET", "/", {"host": name})[0] == 403


def test_on_another_address_every_address_is_answered_and_no_name() -> None:
    guard = Guard(nothing, host="0.0.0.0", token=None)
    assert guard.refusal("GET", "/", {"host": "10.0.0.7:8555"})[0] == 200
    assert guard.refusal("GET", "/", {"host": "evil.example"})[0] == 403


def test_other_pages_are_refused_and_links_to_this_one_are_not() -> None:
    assert status(origin="http://127.0.0.1:8555") == 200
    assert status(origin="http://127.0.0.1:9999") == 403 and status(origin="null") == 403
    assert status(sec_fetch_site="cross-site") == 403
    assert status(path="/servers/s", sec_fetch_site="cross-site") == 200


@pytest.mark.parametrize(("headers", "expected"), [
    ({"authorization": "Bearer right", **JSON}, 200),
    ({**JSON}, 401), ({"authorization": "Bearer wrong", **JSON}, 401), ({"authorization": "Bearer ü", **JSON}, 401),
    ({"authorization": "Bearer right", "content-type": "text/plain", "content-length": "2"}, 415),
    ({"authorization": "Bearer right", "content-type": "application/json"}, 413),
    ({"authorization": "Bearer right", "content-type": "application/json", "content-length": "99999999"}, 413)])
def test_what_changes_something_needs_the_token(headers: dict[str, str], expected: int) -> None:
    assert Guard(nothing, host="127.0.0.1", token=TOKEN).refusal(
        "POST", "/api/servers/s/actions", {"host": "localhost", **headers})[0] == expected


def test_without_allow_actions_nothing_is_changed() -> None:
    assert status("POST", token=None, authorization="Bearer None") == 403
    assert status("DELETE", token=None) == 403


def test_actions_are_for_this_machine_only() -> None:
    check_host("0.0.0.0", actions=False)
    check_host("::1", actions=True)
    with pytest.raises(SpecError, match=r"--allow-actions .* 0\.0\.0\.0 isn't one"):
        check_host("0.0.0.0", actions=True)


# -- a release's steps

BEGIN = {"release": "r1", "model": "m", "kind": "rollout", "version": 2, "by": {"by": "me"},
         "before": {"versions": [1], "labels": {"stable": 1}}, "goal": {"versions": [2], "labels": {"stable": 2}},
         "options": {"label": "stable", "canary": "canary", "trial": ["gate", "compare", "bake_before"],
                     "after": ["confirm", "bake_after"], "pauses": ["promote"], "bake_before": 5.0, "bake_after": 30.0}}
LOADED = [("apply", {"action": {"do": "load", "version": 2}}),
          ("confirm", {"action": {"do": "load", "version": 2}, "seconds": 0.5, "memory": 3_000_000}),
          ("confirm", {"action": {"do": "point", "label": "canary", "version": 2}, "seconds": 0.1})]
TRIED = [*LOADED, ("passed", {"check": "gate", "found": "9 checks passed", "seconds": 0.2})]


def steps(tmp_path: Path, *events: tuple[str, dict[str, Any]], begin: dict[str, Any] = BEGIN) -> list[Any]:
    ledger = Ledger(tmp_path)
    ledger.append("begin", **begin)
    for event, fields in events:
        ledger.append(event, release="r1", **fields)
    lines = ledger.read()
    return release_steps(lines, releases(lines)[0])


def states(found: list[Any]) -> dict[str, str]:
    return {step.name: step.state for step in found}


def test_the_steps_of_a_release_that_runs(tmp_path: Path) -> None:
    found = steps(tmp_path, *TRIED)
    assert states(found) == {"load": "done", "canary": "done", "gate": "done", "compare": "running",
                             "bake_before": "pending", "promote": "pending", "confirm": "pending",
                             "bake_after": "pending", "unload": "pending"}
    assert (found[0].note, found[0].seconds) == ("3 MB more memory", 0.5)
    assert found[2].note == "9 checks passed" and found[3].title == "Compare with version 1" and found[3].began
    assert found[4].expected == 5.0 and found[5].approval and found[5].title == "Move stable to version 2"


def test_one_that_waits_one_that_failed_and_one_that_is_done(tmp_path: Path) -> None:
    waits = [*TRIED, ("pause", {"before": "compare"})]
    assert states(steps(tmp_path / "a", *waits))["compare"] == "waiting"
    failed = steps(tmp_path / "b", *TRIED, ("undo", {"reason": "too far apart"}),
                   ("confirm", {"action": {"do": "unload", "version": 2}, "seconds": 0.1}),
                   ("end", {"outcome": "undone", "reason": "too far apart"}))
    assert (states(failed)["compare"], states(failed)["unload"]) == ("failed", "skipped")
    assert failed[3].note == "too far apart"
    done = steps(tmp_path / "c", *TRIED, ("end", {"outcome": "done"}))
    assert "running" not in states(done).values() and "pending" not in states(done).values()


def test_a_rollback_to_what_is_loaded_still(tmp_path: Path) -> None:
    begin = {**BEGIN, "kind": "rollback", "version": 1, "before": {"versions": [1, 2], "labels": {"stable": 2}},
             "goal": {"versions": [1], "labels": {"stable": 1}},
             "options": {"label": "stable", "canary": None, "trial": [], "after": ["confirm"], "backward": True}}
    found = steps(tmp_path, ("confirm", {"action": {"do": "point", "label": "stable", "version": 1}, "seconds": 0.1}),
                  begin=begin)
    assert states(found) == {"promote": "done", "confirm": "running", "unload": "pending"}


# -- rates

def page(ok: int, failed: int, buckets: dict[str, int]) -> bytes:
    lines = [f':tensorflow:serving:request_count{{model_name="m",status="OK"}} {ok}',
             f':tensorflow:serving:request_count{{model_name="m",status="INTERNAL"}} {failed}']
    lines += [f':tensorflow:serving:request_latency_bucket{{model_name="m",API="Predict",le="{le}"}} {n}'
              for le, n in buckets.items()]
    return "\n".join(lines).encode()


def test_two_looks_make_rates() -> None:
    before = counters(parse(page(10, 0, {"1000": 10, "2000": 10, "+Inf": 10})), 100.0)
    after = counters(parse(page(30, 2, {"1000": 20, "2000": 30, "+Inf": 30})), 104.0)
    assert rates(before, after) == {"m": {"rps": 5.5, "failed": 0.5, "p50": 1.0, "p99": 1.98}}
    assert rates(after, after) == {}


def test_a_quantile_is_inside_its_bucket() -> None:
    assert quantile({}, 0.5) is None and quantile({10.0: 0.0}, 0.5) is None
    assert quantile({10.0: 0.0, 20.0: 10.0, float("inf"): 10.0}, 0.5) == 15.0
    assert quantile({10.0: 0.0, float("inf"): 4.0}, 0.99) == 10.0  # of what lies beyond, only the least is known


# -- golden answers

def golden(x: float, y: float, signature: str = "serving_default") -> Golden:
    return Golden(signature, {"x": np.array([x], np.float32)}, {"y": np.array([y], np.float32)})


def test_equal_requests_are_found_in_another_version() -> None:
    pairs = list(in_common([golden(1, 2), golden(3, 4), golden(5, 6)], [golden(3, 7), golden(1, 2, "other")]))
    assert [(float(p.before["y"][0]), float(p.after["y"][0])) for p in pairs] == [(4.0, 7.0)]  # type: ignore[index]
    strings = [Golden("s", {"x": np.array([text], object)}, {}) for text in (b"a", b"a", b"b")]
    assert request_key(strings[0]) == request_key(strings[1]) != request_key(strings[2])


def test_arrays_in_a_few_words() -> None:
    assert shown({"y": np.arange(20, dtype=np.float32)}) == {"y": "float32[20] 0, 1, 2, 3, 4, 5 …"}
    assert shown({"s": np.array([b"\xff", "long" * 40], object)})["s"].startswith("string[2] �, long")
    assert shown({"i": np.array(7)}) == {"i": "int64[] 7"}

"""Which run of a server is seen: two pages of metrics in, whether one run can have written both out."""

from __future__ import annotations

import pytest

from deploy.client.monitoring import parse
from deploy.rollout.server_runs import RunCounters, same_run

ONE, TWO = ("/m/1", (1.0, 900.0)), ("/m/2", (1.0, 700.0))


def counters(*loads: tuple[str, tuple[float, float]], ok: float = 0.0, started: float = 0.0) -> RunCounters:
    return RunCounters(dict(loads), {"OK": ok} if ok else {}, started)


@pytest.mark.parametrize(("before", "now", "same"), [
    (counters(), counters(ONE), True),
    (counters(ONE), counters(ONE), True),
    (counters(ONE), counters(ONE, TWO, ok=5), True),
    (counters(ONE), counters(("/m/1", (2.0, 1500.0))), True),  # loaded again
    (counters(("/m/1", (1.0, 0.0))), counters(ONE), True),  # its time is counted a moment later
    (counters(ONE), counters(), False),
    (counters(ONE, TWO), counters(TWO), False),
    (counters(ONE), counters(("/m/1", (1.0, 901.0))), False),  # no load took exactly as long as another
    (counters(ONE), counters(("/m/1", (1.0, 899.0))), False),
    (counters(("/m/1", (2.0, 900.0))), counters(ONE), False),
    (counters(ONE, ok=5), counters(ONE, ok=4), False),
    (counters(ONE, ok=5), counters(ONE), False),
    (counters(ONE, started=7.0), counters(ONE, started=7.0), True),
    (counters(ONE, started=7.0), counters(ONE, started=8.0), False),
    (counters(ONE), counters(ONE, started=8.0), True),
])
def test_one_run_or_another(before: RunCounters, now: RunCounters, same: bool) -> None:
    assert same_run(before, now) is same


def test_a_page_in_numbers() -> None:
    page = b"""# TYPE :tensorflow:cc:saved_model:load_attempt_count counter
:tensorflow:cc:saved_model:load_attempt_count{model_path="/m/1",status="success"} 1
:tensorflow:cc:saved_model:load_attempt_count{model_path="/m/1",status="fail"} 2
:tensorflow:cc:saved_model:load_latency{model_path="/m/1"} 900
:tensorflow:serving:request_count{model_name="m",status="OK"} 3
process_start_time_seconds 1.5e9
other{model_path="/m/1"} 4
"""
    assert RunCounters.of(parse(page)) == RunCounters(
        {"/m/1": (3.0, 900.0)}, {'{"model_name": "m", "status": "OK"}': 3.0}, 1.5e9)

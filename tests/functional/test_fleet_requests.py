"""How often a release of several servers, and `status`, ask each of them: a count, which no load moves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from deploy import fleet, serving
from deploy.client import rest, rpc
from deploy.repository import StoredVersion
from deploy.rollout import live_server, observing, server_runs
from deploy.spec import load_spec
from deploy.waiting import Deadline, poll
from tests.support.echo_fleet import echo_fleet

MOST, MOST_OF_STATUS = 52, 6  # requests of each server

_again = ContextVar("_again", default=False)  # whether a server is asked once more for what it is still busy with


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Requests by protocol, connections, and versions that were read and verified.

    Those that a busy machine adds aren't counted: looks at a version that is still loading after the first, and what is
    asked anew since the last answer is too old.
    """
    counts = Counter[str]()

    def counted(name: str, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            counts[name] += not _again.get()
            return function(*args, **kwargs)

        return call

    def first_looks_counted(probe: Callable[[], Any], deadline: Deadline, **pauses: float) -> Any:
        looks = 0

        def look() -> Any:
            nonlocal looks
            looks += 1
            token = _again.set(_again.get() or looks > 1)
            try:
                return probe()
            finally:
                _again.reset(token)

        return poll(look, deadline, **pauses)

    monkeypatch.setattr(live_server, "poll", first_looks_counted)
    monkeypatch.setattr(live_server.LiveServer, "moment", 600.0)
    monkeypatch.setattr(observing, "_SAME_RUN", 600.0)
    monkeypatch.setattr(server_runs, "_MOMENT", 600.0)
    monkeypatch.setattr(rest.Transport, "send", counted("REST", rest.Transport.send))
    monkeypatch.setattr(rpc.RpcClient, "_once", counted("gRPC", rpc.RpcClient._once))
    monkeypatch.setattr(rpc, "_channel", counted("channels", rpc._channel))
    monkeypatch.setattr(StoredVersion, "check", counted("verified", StoredVersion.check))
    return counts


def test_requests_of_each_server(tmp_path: Path, asked: Counter[str]) -> None:
    count = 6
    part = {"soak": 0.0, "hold": 0.0, "waves": [1, "50%", "100%"], "max_unavailable": "50%"}
    with echo_fleet(tmp_path, count, rollout=part) as path:
        spec = load_spec(path)
        for member in spec.members:
            serving.up(member)
        asked.clear()
        assert fleet.roll_out(spec, "m", 2).ended.outcome == "done"
        assert asked["channels"] == count, "one connection to each, kept to the end"
        at_length = (5 - 2) * 8  # more requests to the first one, for its latencies
        assert (asked["REST"] + asked["gRPC"] - at_length) / count <= MOST, asked
        assert asked["verified"] == 4, "once for all that are staged, and once for those that change together"
        asked.clear()
        for member in spec.members:
            assert serving.status(member).ready
        assert (asked["REST"] + asked["gRPC"]) / count <= MOST_OF_STATUS, asked

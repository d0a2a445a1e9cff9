"""How often a release of several servers, and `status`, ask each of them: a count, which no load on the machine moves."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from deploy import fleet, serving
from deploy.client import rest, rpc
from deploy.spec import load_spec
from tests.support.echo_fleet import echo_fleet

MOST, MOST_OF_STATUS = 100, 6  # requests of each server; of them those that wait for a version may be a few more


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Requests by protocol, and connections."""
    counts = Counter[str]()

    def counted(name: str, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            counts[name] += 1
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(rest.Transport, "send", counted("REST", rest.Transport.send))
    monkeypatch.setattr(rpc.RpcClient, "_once", counted("gRPC", rpc.RpcClient._once))
    monkeypatch.setattr(rpc, "_channel", counted("channels", rpc._channel))
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
        assert (asked["REST"] + asked["gRPC"]) / count <= MOST + (5 - 1) * 8 / count, asked  # the first is asked at length
        asked.clear()
        for member in spec.members:
            assert serving.status(member).ready
        assert (asked["REST"] + asked["gRPC"]) / count <= MOST_OF_STATUS, asked

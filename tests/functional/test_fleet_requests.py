"""How often a release of several servers, and `status`, ask each of them: a count, which no load moves."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from deploy import fleet, serving
from deploy.client import rest, rpc
from deploy.repository import StoredVersion
from deploy.spec import load_spec
from tests.support.echo_fleet import echo_fleet

MOST, MOST_OF_STATUS = 55, 6  # requests of each server; it may be asked a few more times for a version that is loading


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Requests by protocol, connections, and versions that were read and verified."""
    counts = Counter[str]()

    def counted(name: str, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            counts[name] += 1
            return function(*args, **kwargs)

        return call

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

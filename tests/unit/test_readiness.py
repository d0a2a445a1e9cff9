"""What is missing until a server is ready: snapshots in, gaps out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from deploy.errors import ClientError, Rejected, TimedOut, Unreachable
from deploy.readiness import Desired, Gap, Snapshot, by_policy, closed_ports, gaps, not_running
from deploy.state import Release
from deploy.types import All, Latest, Serving, Specific, VersionPolicy, VersionState, VersionStatus

ONE, TWO = Serving(frozenset({1}), {"stable": 1}), Serving(frozenset({2}), {"stable": 2})
OPEN = Release("r1", "m", "rollout", 2, ONE, TWO, {}, "2026-01-01T00:00:00+00:00")
FAILED = VersionStatus(2, VersionState.END, 5, "no such op")
LOADING = VersionStatus(2, VersionState.LOADING)
UNLOADED = VersionStatus(2, VersionState.END)
CLOSED, SLOW = Unreachable("nobody answers"), TimedOut("too slow")
BUSY, UNKNOWN = Rejected("busy", code="RESOURCE_EXHAUSTED"), Rejected("no such model", code="NOT_FOUND")


def seen(*versions: int | VersionStatus, error: ClientError | None = None, unknown: Mapping[str, str] | None = None,
         **labels: int) -> Snapshot:
    statuses = (v if isinstance(v, VersionStatus) else VersionStatus(v, VersionState.AVAILABLE) for v in versions)
    return Snapshot("REST", tuple(statuses), labels, unknown or {}, error)


def want(*versions: int, labels: Mapping[str, int | None] | None = None, **more: Any) -> Desired:
    return Desired("m", frozenset(versions) if versions else None, labels or {}, **more)


STABLE = {"stable": 1}
CASES: dict[str, tuple[Desired, Snapshot, list[str]]] = {
    "exactly": (want(1, 2), seen(1, 2), []),
    "any": (want(), seen(7), []),
    "any, and none there": (want(), seen(LOADING), ["m serves nothing, wanted any version"]),
    "none wanted": (Desired("m", frozenset()), seen(), []),
    "none wanted, one there": (Desired("m", frozenset()), seen(1), ["m serves 1, wanted nothing"]),
    "latest 3, one available": (want(1, 2, 3), seen(1, LOADING), ["m serves 1, wanted 1, 2, 3"]),
    "one too many": (want(1), seen(1, 2), ["m serves 1, 2, wanted 1"]),
    "one more is allowed": (want(1, more=True), seen(1, 2), []),
    "one more, and one missing": (want(1, 3, more=True), seen(1, 2), ["m serves 1, 2, wanted 1, 3"]),
    "another": (want(1), seen(3), ["m serves 3, wanted 1"]),
    "failed": (want(1, 2), seen(1, FAILED), ["m/2 can't be loaded: no such op", "m serves 1, wanted 1, 2"]),
    "failed, not wanted": (want(1), seen(1, FAILED), []),
    "failed, any wanted and served": (want(), seen(1, FAILED), []),
    "failed, any wanted": (want(), seen(FAILED), ["m/2 can't be loaded: no such op",
                                                  "m serves nothing, wanted any version"]),
    "unloaded": (want(1), seen(1, UNLOADED), []),
    "label": (want(1, labels=STABLE), seen(1, stable=1), []),
    "label to nothing": (want(1, labels=STABLE), seen(1), ["m@stable resolves to nothing, wanted 1"]),
    "label elsewhere": (want(1, 2, labels=STABLE), seen(1, 2, stable=2), ["m@stable resolves to 2, wanted 1"]),
    "label anywhere": (want(1, 2, labels={"stable": None}), seen(1, 2, stable=2), []),
    "label anywhere, to nothing": (want(1, labels={"stable": None}), seen(1),
                                   ["m@stable resolves to nothing, wanted any version"]),
    "label that nobody could ask for": (want(1, labels=STABLE), seen(1, unknown={"stable": "busy"}),
                                        ["m@stable can't be asked for: busy"]),
    "further labels": (want(1), seen(1, canary=1), []),
    "no server": (want(1), seen(error=CLOSED), ["REST doesn't answer (nobody answers)"]),
    "no answer in time": (want(1), seen(error=SLOW), ["REST doesn't answer (too slow)"]),
    "no such model": (want(1), seen(error=UNKNOWN), ["m serves nothing, wanted 1 (no such model)"]),
    "no thread": (want(1), seen(error=BUSY), ["m can't be asked for: busy"]),
    "before a release": (want(1, labels=STABLE, release=OPEN), seen(1, stable=1), []),
    "on trial": (want(1, labels=STABLE, release=OPEN), seen(1, 2, stable=1), []),
    "label moved": (want(1, labels=STABLE, release=OPEN), seen(1, 2, stable=2), []),
    "goal": (want(1, labels=STABLE, release=OPEN), seen(2, stable=2), []),
    "a stranger in a release": (want(1, labels=STABLE, release=OPEN), seen(1, 3, stable=1),
                                ["m serves 1, 3, wanted 1"]),
    "nothing in a release": (want(1, labels=STABLE, release=OPEN), seen(LOADING),
                             ["m serves nothing, wanted 1", "m@stable resolves to nothing, wanted 1"]),
    "the one before failed in a release": (want(1, labels=STABLE, release=OPEN),
                                           seen(VersionStatus(1, VersionState.END, 5, "gone"), 2, stable=2),
                                           ["m/1 can't be loaded: gone"]),
}


@pytest.mark.parametrize("case", CASES)
def test_gaps_over_one_protocol(case: str) -> None:
    desired, snapshot, expected = CASES[case]
    assert list(map(str, gaps(desired, [snapshot]))) == expected


def over(protocol: str, snapshot: Snapshot) -> Snapshot:
    return Snapshot(protocol, snapshot.statuses, snapshot.labels, snapshot.unknown, snapshot.error)


@pytest.mark.parametrize(("rest", "grpc", "expected"), [
    (seen(1), seen(1), []),
    (seen(2), seen(2), ["m serves 2, wanted 1"]),
    (seen(2), seen(1), ["m serves 2 over REST, wanted 1"]),
    (seen(2), seen(3), ["m serves 2 over REST, wanted 1", "m serves 3 over gRPC, wanted 1"]),
    (seen(1), seen(error=CLOSED), ["gRPC doesn't answer (nobody answers)"]),
    (seen(error=BUSY), seen(1), ["m can't be asked for over REST: busy"]),
])
def test_what_only_one_protocol_shows_names_it(rest: Snapshot, grpc: Snapshot, expected: list[str]) -> None:
    assert list(map(str, gaps(want(1), [over("REST", rest), over("gRPC", grpc)]))) == expected


def test_a_gap_is_a_value() -> None:
    failed, versions = gaps(want(1, 2), [seen(1, FAILED)])
    assert (failed.model, failed.version, failed.final) == ("m", 2, True)
    assert (versions.wanted, versions.seen, versions.final) == ("1, 2", "1", False)
    (label,) = gaps(want(1, labels=STABLE), [seen(1)])
    assert (label.label, label.wanted, label.seen) == ("stable", "1", "nothing")
    assert gaps(want(1), []) == []


def test_gaps_of_the_server_itself() -> None:
    assert closed_ports({"gRPC": 8500, "REST": None}, {8500}) == []
    assert closed_ports({"gRPC": 8500, "REST": 8501}, ()) == [
        Gap("", "gRPC port 8500 isn't open, REST port 8501 isn't open", "open", "closed")]
    assert str(not_running("s", None, ended=False)) == "s isn't running"
    assert str(not_running("s", 137, ended=True)) == "s ended with exit code 137"
    assert str(not_running("s", None, ended=True)) == "s ended"


@pytest.mark.parametrize(("policy", "snapshot", "on_disk", "expected"), [
    (Specific((1, 2)), seen(1, 2, 3), {1, 2, 3}, []),
    (Specific((1, 2)), seen(1, LOADING), {1, 2}, ["m serves 1, wanted 1, 2"]),
    (Latest(1), seen(1), {1}, []),
    (Latest(1), seen(1, LOADING), {1, 2}, []),  # a new version is on its way
    (Latest(1), seen(1, FAILED), {1, 2}, []),  # and failed: a restart would serve nothing
    (Latest(1), seen(FAILED), {2}, ["m/2 can't be loaded: no such op", "m serves nothing, wanted 2"]),
    (Latest(1), seen(LOADING), {2}, ["m serves nothing, wanted 2"]),
    (Latest(1), seen(1, FAILED), {1}, []),  # it was taken away again
    (Latest(3), seen(1, 2, 3), {1, 2, 3, 4}, []),
    (Latest(3), seen(1, 2), {1, 2}, []),  # there are no more
    (Latest(3), seen(1), {1, 2, 3}, ["m serves 1, wanted 1, 2, 3"]),
    (Latest(3), seen(1, FAILED), None, ["m/2 can't be loaded: no such op", "m serves 1, wanted 1, 2"]),
    (All(), seen(1), {1, 2}, ["m serves 1, wanted 1, 2"]),
    (All(), seen(1, 3), None, []),
    (Latest(1), seen(), (), ["m serves nothing, wanted any version"]),
])
def test_what_a_health_check_asks_for(policy: VersionPolicy, snapshot: Snapshot, on_disk: Any, expected: list[str]
                                      ) -> None:
    desired = by_policy("m", policy, (), snapshot.statuses, on_disk)
    assert list(map(str, gaps(desired, [snapshot]))) == expected

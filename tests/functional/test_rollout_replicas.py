"""Releases over several replicas: three servers in this process stand for three pods of one server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from deploy import client, testing
from deploy.backends import Replica
from deploy.backends.backend import LocalConfig
from deploy.errors import BackendMissing, NotReady, RolloutError, TimedOut
from deploy.render.configs import MODELS, models_config
from deploy.rollout import ConfigFile, Driver, Unfinished, begin, forward, goal_of
from deploy.rollout.actions import CanaryTrial, Checks
from deploy.rollout.configs import find, serving_of
from deploy.rollout.merging import last_shown
from deploy.rollout.replicas import LiveReplicas
from deploy.state import Ledger, Release, releases
from deploy.testing.echo import Described
from deploy.types import Serving, Specific
from deploy.wire.text import to_text
from tests.support.rollout import BROKEN, ENTRY, MODEL, NEW, OLD, PASSING, QUICK, SERVED, STRATEGY, Hurried, adds


@dataclass
class Pod:
    """One of them: ended and started again, it begins with what the file names then."""

    name: str
    versions: dict[int, Described]
    file: ConfigFile
    stack: ExitStack = field(default_factory=ExitStack)
    starts: int = 0
    restarts: int = 0
    ended: str = ""

    def start(self) -> None:
        named = serving_of(find(self.file.read(), MODEL))
        self.running = self.stack.enter_context(testing.serve(
            {MODEL: self.versions}, versions=Specific(tuple(named.versions)), labels={MODEL: named.labels}))
        self.starts += 1

    def end(self) -> None:
        self.stack.close()

    @property
    def replica(self) -> Replica:
        return Replica(self.name, self.running.endpoint, f"{self.name} {self.starts}", self.restarts, self.ended)

    @property
    def live(self) -> Serving:
        loaded = frozenset(s.version for s in self.running.statuses(MODEL) if s.serving)
        with client.connect(self.running.endpoint) as asked:
            return Serving(loaded, {"stable": asked.metadata(f"{MODEL}@stable").version})


@dataclass
class Pods:
    """down: nobody can say which there are."""

    directory: Path
    all: list[Pod] = field(default_factory=list)
    away: set[str] = field(default_factory=set)
    down: int = 0

    def __post_init__(self) -> None:
        self.file, self.ledger = ConfigFile(LocalConfig(self.directory)), Ledger(self.directory)
        (self.directory / MODELS).write_text(to_text(models_config([SERVED], {MODEL: SERVED.base_path})))

    def add(self, name: str, versions: dict[int, Described] | None = None) -> Pod:
        self.all.append(Pod(name, versions or {1: adds(1), 2: adds(2)}, self.file))
        self.all[-1].start()
        return self.all[-1]

    def replicas(self) -> list[Replica]:
        if self.down:
            self.down -= 1
            raise BackendMissing("the API server doesn't answer")
        return [pod.replica for pod in self.all if pod.name not in self.away]

    def live(self) -> LiveReplicas:
        connect = partial(client.connect, timeout=5.0, attempts=1)
        return LiveReplicas(MODEL, self.file, self.replicas, connect, timeouts=QUICK, clock=Hurried())

    def begin(self) -> Release:
        return begin(self.ledger, MODEL, "rollout", forward(OLD, 2, STRATEGY))

    def drive(self, release: Release, checks: Checks = PASSING, live: LiveReplicas | None = None) -> str:
        server = live or self.live()
        if live is None:
            server.began(OLD)
        try:
            return Driver(server, self.ledger, release, goal_of(release), checks, entry=ENTRY).run().outcome
        finally:
            server.close()

    @property
    def named(self) -> Serving:
        return serving_of(find(self.file.read(), MODEL))


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[Pods]:
    made = Pods(tmp_path)
    for number in range(3):
        made.add(f"web-{number}")
    yield made
    for pod in made.all:
        pod.end()


def during(name: str, do: object) -> Checks:
    """Checks of which one does something."""
    def check(trial: CanaryTrial) -> str:
        do()  # type: ignore[operator]
        return f"{trial.candidate} is fine"

    return {**PASSING, name: check}


def test_each_is_told_and_each_shows_it(pods: Pods) -> None:
    assert pods.drive(pods.begin()) == "done"
    assert [pod.live for pod in pods.all] == [NEW] * 3 and pods.named == NEW


def test_a_version_that_one_cannot_load_is_seen_by_that_one_only(pods: Pods) -> None:
    pods.all[0].versions[2] = BROKEN
    pods.all[0].end()
    pods.all[0].start()
    assert pods.drive(pods.begin()) == "undone"
    assert [pod.live for pod in pods.all] == [OLD] * 3
    assert "web-0: out of memory" in (releases(pods.ledger.read())[-1].reason or "")
    assert not [s for pod in pods.all[1:] for s in pod.running.statuses(MODEL) if s.version == 2]


def test_one_that_fails_after_the_first_has_loaded_it_undoes_all(pods: Pods) -> None:
    pods.all[2].versions[2] = BROKEN
    pods.all[2].end()
    pods.all[2].start()
    assert pods.drive(pods.begin()) == "undone"
    assert [pod.live for pod in pods.all] == [OLD] * 3


@pytest.mark.parametrize("check", ["gate", "confirm"])
def test_one_that_is_replaced_in_the_middle_is_brought_to_the_goal(pods: Pods, check: str) -> None:
    def replace() -> None:
        pods.all.pop(1).end()
        pods.add("web-9")

    assert pods.drive(pods.begin(), during(check, replace)) == "done"
    assert [pod.replica.name for pod in pods.all] == ["web-0", "web-2", "web-9"]
    assert [pod.live for pod in pods.all] == [NEW] * 3


def test_one_that_starts_again_is_brought_to_the_goal_and_one_that_does_so_again_and_again_undoes_it(pods: Pods
                                                                                                     ) -> None:
    def again() -> None:
        pods.all[1].end()
        pods.all[1].start()
        pods.all[1].restarts += 1

    assert pods.drive(pods.begin(), during("gate", again)) == "done"
    assert [pod.live for pod in pods.all] == [NEW] * 3
    pods.file.change(MODEL, OLD)
    for pod in pods.all:
        pod.end()
        pod.start()

    def crashes() -> None:
        again()
        again()
        pods.all[1].ended = "exit code 139"

    assert pods.drive(pods.begin(), during("gate", crashes)) == "undone"
    assert [pod.live for pod in pods.all] == [OLD] * 3


def test_whoever_was_killed_between_two_is_gone_on_with(pods: Pods) -> None:
    """The first replica has been told, the others haven't."""
    release = pods.begin()
    pods.ledger.append("apply", release=release.id, action={"do": "load", "version": 2},
                       config=Serving(frozenset({1, 2}), {"stable": 1}).to_json())
    with client.connect(pods.all[0].running.endpoint) as asked:
        assert asked.rpc is not None
        from deploy.rollout.configs import replaced

        asked.rpc.reload(replaced(pods.file.read(), MODEL, Serving(frozenset({1, 2}), {"stable": 1})))
    fresh = pods.live()
    with pytest.raises(NotReady, match="the replicas serve different versions of m: web-0"):
        fresh.began(OLD)
    fresh.close()
    live = pods.live()
    live.resumed(last_shown(pods.ledger.read(), release))
    assert pods.drive(release, live=live) == "done"
    assert [pod.live for pod in pods.all] == [NEW] * 3


def test_one_that_does_not_answer_stops_it_and_blocks_nobody_on_the_way_back(pods: Pods) -> None:
    def hangs() -> None:
        pods.all[1].end()  # and is listed still

    told: list[str] = []
    live = pods.live()
    live.began(OLD)
    release = pods.begin()
    driver = Driver(live, pods.ledger, release, goal_of(release), during("gate", hangs), entry=ENTRY,
                    progress=told.append)
    assert driver.run().outcome == "undone"
    live.close()
    assert [pods.all[i].live for i in (0, 2)] == [OLD] * 2
    assert any("web-1 doesn't answer" in line for line in told), told


def test_while_nobody_says_which_there_are_it_waits(pods: Pods) -> None:
    def blind() -> None:
        pods.down = 1

    assert pods.drive(pods.begin(), during("gate", blind)) == "done"
    pods.file.change(MODEL, NEW)

    def blind_for_ever() -> None:
        pods.down = 10_000
        live._looked = float("-inf")  # what was known a moment ago is old

    release = begin(pods.ledger, MODEL, "rollout", forward(NEW, 1, STRATEGY))
    live = pods.live()
    live.began(NEW)
    with pytest.raises(Unfinished, match="API server doesn't answer"):
        pods.drive(release, during("gate", blind_for_ever), live)
    pods.down = 0
    resumed = pods.live()
    resumed.resumed(last_shown(pods.ledger.read(), release))
    assert pods.drive(release, live=resumed) == "done"
    assert [pod.live for pod in pods.all] == [OLD] * 3


def test_a_refused_reload_is_told(pods: Pods) -> None:
    live = pods.live()
    live.began(OLD)
    with pytest.raises((RolloutError, TimedOut, Exception), match="label"):
        live.reload(Serving(frozenset({1}), {"stable": 7}))
    live.close()

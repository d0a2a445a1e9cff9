"""A model server in this process, its config file and its ledger: everything that a release needs, in milliseconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deploy import client, testing
from deploy.backends.backend import LocalConfig
from deploy.client import Client
from deploy.errors import Rejected, SmokeFailed
from deploy.render.configs import MODELS, models_config
from deploy.rollout import (
    CanaryTrial,
    Checks,
    ConfigFile,
    Driver,
    Goal,
    LiveServer,
    RolloutOutcome,
    Strategy,
    Timeouts,
    begin,
    forward,
    goal_of,
)
from deploy.rollout.configs import find, serving_of
from deploy.state import Ledger, Release, releases, started_from
from deploy.state.release import entry
from deploy.testing.echo import Described, Version
from deploy.types import ServedModel, Serving, Specific
from deploy.wire.text import to_text

MODEL = "m"
SERVED = ServedModel(MODEL, f"memory://{MODEL}", Specific((1,)), {"stable": 1})
ENTRY = entry(SERVED)
QUICK = Timeouts(ask=5.0, reload=5.0, load=300.0, patience=0.2)


def adds(offset: float) -> Described:
    """A version that answers with x + offset."""
    return lambda inputs: {"y": np.asarray(inputs["x"]) + offset}


BROKEN = Version(error="out of memory", code=8)


class Hurried:
    """A clock for which a pause is over after a hundredth of its time."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def sleep(self, seconds: float, /) -> None:
        time.sleep(seconds / 100)
        self._ahead += seconds * 0.99


@dataclass
class Bench:
    """A server that holds versions 1, 2, ... of one model, serving the first. `restart` starts it from the file."""

    directory: Path
    versions: Mapping[int, Described]
    stack: ExitStack
    running: testing.Running = field(init=False)
    asked: Client = field(init=False)
    serving: ExitStack = field(init=False)
    wrap: Callable[[Any], Any] = lambda thing: thing
    starts: int = 0

    def __post_init__(self) -> None:
        self.file = ConfigFile(LocalConfig(self.directory))
        self.ledger = Ledger(self.directory)
        (self.directory / MODELS).write_text("# ours\n" + to_text(models_config([SERVED], {MODEL: SERVED.base_path})))
        self.restart()

    def stop(self) -> None:
        """The server only: clients stay, as they do in life."""
        self.serving.close()

    def restart(self) -> None:
        self.stack.close()
        self.starts += 1
        self.serving = ExitStack()
        self.stack.callback(self.serving.close)
        named = self.named
        self.running = self.serving.enter_context(testing.serve(
            {MODEL: self.versions}, versions=Specific(tuple(named.versions)), labels={MODEL: named.labels}))
        self.asked = self.stack.enter_context(client.connect(self.running.endpoint, timeout=5.0, attempts=1))

    @property
    def named(self) -> Serving:
        """What the file names."""
        return serving_of(find(self.file.read(), MODEL))

    @property
    def live(self) -> Serving:
        """What is served."""
        loaded = {s.version for s in self.running.statuses(MODEL) if s.serving}
        return Serving(frozenset(loaded), self.live_server().labels(("stable", "canary")))

    def live_server(self) -> LiveServer:
        assert self.asked.rpc is not None and self.asked.rest is not None
        return LiveServer(MODEL, self.wrap(self.asked.rpc), self.wrap(self.file), others=[self.asked.rest],
                          timeouts=QUICK, clock=Hurried(), instance=lambda: str(self.starts))

    def begin(self, version: int = 2, strategy: Strategy | None = None) -> Release:
        return begin(self.ledger, MODEL, "rollout", forward(self.live, version, strategy or STRATEGY))

    def drive(self, release: Release, checks: Checks | None = None, goal: Goal | None = None,
              told: list[str] | None = None) -> RolloutOutcome:
        driver = Driver(self.live_server(), self.wrap(self.ledger), release, goal or goal_of(release),
                        checks or PASSING, entry=ENTRY, known_good=started_from(self.ledger.read(), SERVED),
                        progress=(told if told is not None else []).append)
        return driver.run()

    def release(self) -> Release:
        """The last one, as the ledger tells it."""
        return releases(self.ledger.read())[-1]

    def events(self) -> list[str]:
        return [line["event"] for line in self.ledger.read()]

    def answer(self, ref: str = f"{MODEL}@stable") -> float:
        return float(self.asked.predict(ref, {"x": np.float32(0)})["y"])


STRATEGY = Strategy(trial=("gate",), after=("confirm",))


def passes(trial: CanaryTrial) -> str:
    return f"{trial.candidate} is fine"


def refuses(trial: CanaryTrial) -> str:
    raise SmokeFailed(f"{trial.candidate} answers nonsense", hint="look at it", details={"differences": ["y"]})


OLD, NEW = Serving(frozenset({1}), {"stable": 1}), Serving(frozenset({2}), {"stable": 2})
PASSING: Checks = {"gate": passes, "compare": passes, "bake_before": passes, "confirm": passes,
                   "bake_after": passes}


class Busy:
    """A control that has no room every other time."""

    def __init__(self, rpc: Any) -> None:
        self._rpc, self._calls = rpc, 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._rpc, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._calls += 1
            if self._calls % 2:
                raise Rejected("no room", code="RESOURCE_EXHAUSTED")
            return found(*args, **kwargs)

        return call


@contextmanager
def bench(directory: Path, versions: Mapping[int, Described] | None = None) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(directory, versions or {1: adds(1), 2: adds(2), 3: BROKEN}, stack)

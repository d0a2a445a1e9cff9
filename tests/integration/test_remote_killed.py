"""Releases on a server that somebody else starts: kill -9 of the tool, and of that server, at every step.

The server starts again from a file that tfs can't write: with version 1, while 2 is known to be good and 3 on its way.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy import rollout, serving
from deploy.errors import DeployError
from deploy.spec import Spec
from deploy.state import Ledger, releases
from deploy.types import Serving
from tests.functional.test_remote import TWO, live, published, staged
from tests.support.remote import elsewhere

THREE = Serving(frozenset({3}), {"stable": 3})
MOST = 40


class Killed(BaseException):
    """kill -9, as far as this process is concerned."""


class Deadly:
    """Does something at the n-th sentence of a release."""

    def __init__(self, at: int, act: Callable[[], None]) -> None:
        self.left, self._act = at, act

    def __call__(self, _: str) -> None:
        self.left -= 1
        if self.left == 0:
            self._act()


def finish(spec: Spec) -> None:
    """What people do: run it again, until nothing is open."""
    for _ in range(4):
        try:
            rollout.roll_out(spec, "m", 3)
        except DeployError:
            continue
        return
    pytest.fail("it doesn't come to an end")


def back(spec: Spec) -> None:
    rollout.roll_back(spec, "m", 2)
    assert live(spec) == TWO


def test_kill_9_of_the_tool_at_every_step(tmp_path: Path) -> None:
    def die() -> None:
        raise Killed

    with elsewhere(tmp_path / "there") as there:
        published(tmp_path / "ops" / "models", 2, 3)
        spec = there.spec(tmp_path / "ops", staged(there))
        serving.up(spec)
        rollout.roll_out(spec, "m", 2)
        for at in range(1, MOST):
            deadly = Deadly(at, die)
            try:
                rollout.roll_out(spec, "m", 3, progress=deadly)
            except Killed:
                now = live(spec)
                assert now.labels["stable"] in now.versions and now.labels["stable"] in (2, 3)
                finish(spec)
            assert live(spec) == THREE and not any(r.open for r in releases(Ledger(spec.state_dir).read()))
            if deadly.left > 0:
                break
            back(spec)
        else:
            pytest.fail("it has more steps than that")
        assert at > 10, "it was killed on the way"


def test_kill_9_of_the_server_at_every_step(tmp_path: Path) -> None:
    with elsewhere(tmp_path / "there") as there:
        published(tmp_path / "ops" / "models", 2, 3)
        spec = there.spec(tmp_path / "ops", staged(there))
        serving.up(spec)
        rollout.roll_out(spec, "m", 2)
        for at in range(1, MOST):
            deadly = Deadly(at, there.restart)
            try:
                rollout.roll_out(spec, "m", 3, progress=deadly)
            except DeployError:
                finish(spec)
            now = rollout.watch(spec)
            assert now.outcome in ("well", "mended") and live(spec) == THREE, f"killed at {at}"
            assert not any(r.open for r in releases(Ledger(spec.state_dir).read()))
            if deadly.left > 0:
                break
            back(spec)
        else:
            pytest.fail("it has more steps than that")
        assert at > 10, "it was killed on the way"

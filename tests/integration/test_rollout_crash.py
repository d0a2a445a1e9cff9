"""kill -9 of the tool, and of the server, before and after everything that a release touches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.rollout import NEW, OLD, PASSING, Bench, bench, refuses


class Killed(BaseException):
    """kill -9, as far as this process is concerned."""


class Deadly:
    """Ends the run before or after the n-th touch of the outside world."""

    def __init__(self, at: int) -> None:
        self.left = at

    def wrap(self, thing: Any) -> Any:
        deadly = self

        class Wrapped:
            def __getattr__(self, name: str) -> Any:
                found = getattr(thing, name)
                if name not in ("append", "change", "reload"):
                    return found

                def touch(*args: Any, **kwargs: Any) -> Any:
                    deadly.tick()
                    result = found(*args, **kwargs)
                    deadly.tick()
                    return result

                return touch

        return Wrapped()

    def tick(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


def killed_everywhere(tmp_path: Path, versions: Any, checks: Any, end: Callable[[Bench], None], *, server: bool) -> int:
    """Kill the tool (and the server) at every point; each time, what is left is good, and another run ends well."""
    for at in range(1, 200):
        directory = tmp_path / str(at)
        directory.mkdir()
        with bench(directory, versions) as there:
            release, deadly = there.begin(), Deadly(at)
            there.wrap = deadly.wrap
            try:
                there.drive(release, checks)
                return at
            except Killed:
                there.wrap = lambda thing: thing
            if server:
                there.restart()
            assert there.answer() in (1, 2), at
            assert there.named.versions <= {1, 2} and there.named.labels["stable"] in there.named.versions
            assert 3 not in there.named.versions
            release = there.release()
            if release.open:
                there.drive(release, checks)
            end(there)
    raise AssertionError("it never came to an end")


@pytest.mark.parametrize("server", [False, True], ids=["tool", "tool and server"])
def test_killed_at_every_point_of_a_rollout(tmp_path: Path, server: bool) -> None:
    def end(there: Bench) -> None:
        assert there.live == there.named == NEW and there.release().outcome == "done"

    assert killed_everywhere(tmp_path, None, PASSING, end, server=server) > 40


@pytest.mark.parametrize("server", [False, True], ids=["tool", "tool and server"])
def test_killed_at_every_point_of_the_way_back(tmp_path: Path, server: bool) -> None:
    def end(there: Bench) -> None:
        assert there.live == there.named == OLD and there.release().outcome == "undone"

    assert killed_everywhere(tmp_path, None, {**PASSING, "gate": refuses}, end, server=server) > 30

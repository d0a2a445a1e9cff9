"""`python -m deploy.testing.watcher DIRECTORY`: ends a test run when its owner was killed before it could.

It ends by itself as soon as the run has ended.
"""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.testing.runs import TestRun
from deploy.waiting import Deadline, poll

_LOOK = 0.5  # seconds between two looks


def watch(directory: Path) -> None:
    """Return when the run in this directory is over, which is as soon as its owner is."""
    run = TestRun.read(directory)
    if run is not None:
        poll(lambda: None if run.alive else True, Deadline(None), first=_LOOK, most=_LOOK)
        run.end()


if __name__ == "__main__":
    watch(Path(sys.argv[1]))

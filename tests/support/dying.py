"""`python -m tests.support.dying SPEC MODEL VERSION N`: a release, of one server or several, by a process that is
killed as soon as the N-th line of any ledger is on the disk. VERSION 0: its pods are replaced instead."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from deploy import fleet, rollout
from deploy.spec import load_spec
from deploy.state import Ledger
from deploy.state.lines import Line


def arm(number: int) -> None:
    append, turn, lines = Ledger.append, threading.Lock(), [0]

    def deadly(self: Ledger, event: str, **fields: Any) -> Line:
        line = append(self, event, **fields)
        with turn:
            lines[0] += 1
            if lines[0] >= number:
                os.kill(os.getpid(), signal.SIGKILL)
        return line

    Ledger.append = deadly  # type: ignore[method-assign]


if __name__ == "__main__":
    arm(int(sys.argv[4]))
    spec = load_spec(sys.argv[1])
    if sys.argv[3] == "0":
        rollout.replace_replicas(spec)
        sys.exit()
    (fleet.roll_out if spec.servers else rollout.roll_out)(spec, sys.argv[2], int(sys.argv[3]))

"""Processes that are killed on the way."""

from __future__ import annotations

import os
from collections.abc import Callable


def killed(arm: Callable[[], object], work: Callable[[], object]) -> bool:
    """Run `work` in a child that `arm` may let be killed; False if it ended before that."""
    child = os.fork()
    if not child:
        try:
            arm()
            work()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)

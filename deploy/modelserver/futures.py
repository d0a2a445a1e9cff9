"""Futures whose results nobody waits for."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import Any

log = logging.getLogger("modelserver")


def log_failure(future: Future[Any]) -> None:
    """A callback for `add_done_callback`: an error that nobody else would see is logged."""
    if not future.cancelled() and (error := future.exception()) is not None:
        log.error("a task of the server failed", exc_info=error)

"""The threads of the gRPC server: a limited number, and calls that none of them gets to are refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
Item = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...], dict[str, Any]]

_MOST_WAITING = 10_000
_LOOK = 0.05  # seconds between two looks at the threads
_LONG = 0.1  # all threads busy with the same calls for so long: a burst of short calls isn't an exhausted pool


class Exhausted(Exception):
    """More functions wait for a thread than the pool takes."""


class RefusingPool(Executor):
    """Runs functions in up to `threads` threads, started when they are needed. While all are busy with long ones,
    others run apart, with `refusing` set.

    A function that finds `refusing` true has to end at once. most: how many functions may wait for a thread.
    """

    def __init__(self, threads: int, most: int = _MOST_WAITING) -> None:
        self._most_waiting = most
        self._queue: SimpleQueue[Item | None] = SimpleQueue()
        self._most, self._starting = threads, threading.Lock()
        self._since: list[float | None] = []  # by thread: since when it is at work
        self._local, self._ended = threading.local(), threading.Event()
        threading.Thread(target=self._refuse, name="grpc-refusing", daemon=True).start()

    @property
    def refusing(self) -> bool:
        """Whether the calling thread has to refuse what it is given."""
        return getattr(self._local, "refusing", False)

    @property
    def idle(self) -> bool:
        """Whether a thread has nothing to do."""
        return len(self._since) < self._most or None in self._since

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Raises Exhausted."""
        if self._queue.qsize() >= self._most_waiting:
            raise Exhausted
        future: Future[T] = Future()
        self._queue.put((future, function, args, kwargs))
        self._start()
        return future

    def _start(self) -> None:
        """Another thread, if there is more to do than there are idle ones."""
        with self._starting:
            number = len(self._since)
            if number < self._most and self._queue.qsize() > self._since.count(None) and not self._ended.is_set():
                self._since.append(None)
                threading.Thread(target=self._work, args=(number,), name=f"grpc-{number}", daemon=True).start()

    def _work(self, number: int) -> None:
        while (item := self._queue.get()) is not None:
            self._since[number] = time.monotonic()
            _run(item)
            self._since[number] = None

    def _refuse(self) -> None:
        self._local.refusing = True
        while not self._ended.wait(_LOOK):
            before = time.monotonic() - _LONG
            if self.idle or not all(since is not None and since < before for since in self._since):
                continue
            try:
                while (item := self._queue.get_nowait()) is not None:
                    _run(item)
                self._queue.put(None)  # meant for a worker
            except Empty:
                pass

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """End the threads when the queue is empty; nobody is waited for."""
        with self._starting:
            self._ended.set()
        for _ in self._since:
            self._queue.put(None)


def _run(item: Item) -> None:
    future, function, args, kwargs = item
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function(*args, **kwargs))
    except BaseException as error:
        future.set_exception(error)

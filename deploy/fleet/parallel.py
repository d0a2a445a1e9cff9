"""One verb on many servers at a time. A server that fails, or doesn't answer, is a result, and not the others' end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from deploy import locks
from deploy.backends import Progress, silent
from deploy.spec import Spec
from deploy.waiting import interrupted_by, interrupts

T = TypeVar("T")

LOOKING, CHANGING = 32, 8  # servers at a time: they are only asked; they start, stop or change
_LOOK = 0.5  # seconds between two looks for a Ctrl-C that Python has dropped
_FIRST = 3  # threads; half as many more each time that these leave the processor idle: else more only hinder each other
_GROW, _IDLE = 0.05, 0.6  # seconds between two looks whether they do; the share of one processor below which they do


@dataclass(frozen=True, slots=True)
class ServerResult(Generic[T]):
    """What a verb gave for one server, or why it gave nothing.

    server: its short name. error: whatever was raised. interrupted: by Ctrl-C, before its end or before it began.
    """

    server: str
    value: T | None = None
    error: Exception | None = None
    interrupted: bool = False
    seconds: float = 0.0


def everywhere(servers: Sequence[Spec], verb: Callable[[Spec, Progress], T], *, progress: Progress = silent,
               at_once: int = LOOKING, stop: threading.Event | None = None) -> tuple[ServerResult[T], ...]:
    """The verb's result for each server, in the order of `servers`, whatever order they end in.

    verb: gets a server's spec, and where its steps go; runs in one of at most `at_once` threads. That many are there
    while they mostly wait; fewer, if what they do keeps the processor busy.
    progress: gets each step after the server's short name, from one thread at a time. stop: is set by Ctrl-C.

    Ctrl-C is raised once in each verb that waits (see waiting.interrupted_by): it undoes what it undoes alone, and is
    waited for; no further one begins. A second Ctrl-C is raised here at once.
    """
    locks.load()
    run = _Run(servers, verb, progress, stop or threading.Event(), at_once)
    try:
        run.wait()
    except KeyboardInterrupt:
        run.stop.set()
        run.wait()
    return tuple(run.results[spec.name] for spec in servers)


class _Run(Generic[T]):
    """The servers that are still to be done, and the results so far. stop: no further one begins."""

    def __init__(self, servers: Sequence[Spec], verb: Callable[[Spec, Progress], T], progress: Progress,
                 stop: threading.Event, at_once: int) -> None:
        self.stop, self.results = stop, dict[str, ServerResult[T]]()
        self._count, self._verb, self._progress, self._turn = len(servers), verb, progress, threading.Lock()
        self._todo, self._done = SimpleQueue[Spec](), SimpleQueue[tuple[Spec, ServerResult[T]]]()
        for spec in servers:
            self._todo.put(spec)
        self._threads, self._most = 0, min(at_once, len(servers))
        self._looked = time.monotonic(), time.process_time()
        self._start(_FIRST)

    def _start(self, more: int) -> None:
        count = min(self._threads + more, self._most)
        for number in range(self._threads, count):
            threading.Thread(target=copy_context().run, args=(self._work,), name=f"fleet-{number}", daemon=True).start()
        self._threads = count

    def _grow(self) -> None:
        """Start more threads, if those that there are mostly wait."""
        (looked, used), now, using = self._looked, time.monotonic(), time.process_time()
        if now - looked < _GROW:
            return
        self._looked = now, using
        if using - used < _IDLE * (now - looked) and not self._todo.empty():
            self._start(-(-self._threads // 2))

    def _work(self) -> None:
        """One thread: server after server, until none is left."""
        while True:
            try:
                spec = self._todo.get_nowait()
            except Empty:
                return
            self._done.put((spec, self._result(spec)))

    def _result(self, spec: Spec) -> ServerResult[T]:
        name, began = spec.short_name, time.monotonic()
        if self.stop.is_set():
            return ServerResult(name, interrupted=True)
        try:
            with interrupted_by(self.stop):
                value = self._verb(spec, lambda sentence: self._tell(name, sentence))
        except KeyboardInterrupt:
            return ServerResult(name, interrupted=True, seconds=time.monotonic() - began)
        except Exception as error:
            return ServerResult(name, error=error, seconds=time.monotonic() - began)
        return ServerResult(name, value, seconds=time.monotonic() - began)

    def _tell(self, name: str, sentence: str) -> None:
        with self._turn:
            self._progress(f"{name}: {sentence}")

    def wait(self) -> None:
        """Until each server has its result. Raises KeyboardInterrupt."""
        with interrupts() as raised:
            while len(self.results) < self._count:
                if raised:
                    raise raised[0]
                growing = self._threads < self._most and not self.stop.is_set()
                if growing:
                    self._grow()
                try:
                    spec, result = self._done.get(timeout=_GROW if growing else _LOOK)
                except Empty:
                    continue
                self.results[spec.name] = result

"""The REST port: an event loop (uvloop), its connections, and the threads that answer what takes longer.

Short requests are answered in the loop, all others by threads. Replies to requests on one connection go out in their
order. What isn't HTTP is answered as libevent does, which the real server is built on.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

from deploy.engine.settings import flush_for_good
from deploy.modelserver import execution
from deploy.modelserver.execution import InlinePolicy, Steps, finish
from deploy.modelserver.listening import close_listeners, new_loop, open_files
from deploy.modelserver.status import NeverAnswered
from deploy.net.http1 import limits as most
from deploy.net.http1.connection import Connection
from deploy.net.http1.heads import HeadCache
from deploy.net.http1.limits import Limits
from deploy.net.http1.messages import (
    Abandoned,
    Heavier,
    Request,
    Response,
    TooLarge,
    check_values,
    error_reply,
    html_error,
    is_packed,
    rendered,
    unpack,
)

log = logging.getLogger("modelserver")
T = TypeVar("T")

Answer = Callable[[Request], Steps[Response]]
Refusal = Callable[[Request], Response | None]
_FLUSH = 2.0  # seconds for clients to take the last bytes
_LAST_IN = 0.02  # seconds in which clients that have already been let in by the kernel are taken over
_LINGER = 0.25  # seconds for a client's next request, so that the reply can tell that the connection ends
_LOOK = 1.0  # seconds between two looks at what takes too long
_FILES_KEPT = 64  # for all but connections
_OLDEST = 64  # connections among which the one is chosen that makes room for another


def _none_is_refused(request: Request) -> Response | None:  # noqa: ARG001
    return None


@dataclass(slots=True)
class _Job:
    """A request that a thread answers, by the steps that the loop has left, None for all.

    timer: for the end of its time. heavy: by one of the threads for long bodies. handed_over: when the loop left the
    rest to a thread (time.monotonic()).
    """

    connection: Connection
    number: int
    request: Request
    timer: asyncio.TimerHandle | None = None
    steps: Steps[Response] | None = None
    heavy: bool = False
    handed_over: float | None = None


class RestServer:
    """Listens as soon as it is made. Raises OSError if the address can't be had.

    answer: a request's steps. late: the reply to a request that isn't answered after `timeout` seconds (0: however long
    it takes). refusal: the response to a request that is wrong whatever its body is. limits: what clients may take.
    """

    def __init__(self, host: str, port: int, answer: Answer, *, threads: int, timeout: float, late: Response,
                 refusal: Refusal = _none_is_refused, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
            self._socket.listen(1024)
        except OSError:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]
        self.connections: dict[Connection, None] = {}  # the oldest first
        self.held = 0  # bytes of bodies that have arrived and aren't answered
        self.refusal, self.heads = refusal, HeadCache()
        self._answer, self._timeout, self._late = answer, timeout, late
        times = self.limits.head, self.limits.idle, self.limits.stall
        self._look_every = min([_LOOK, *(seconds / 4 for seconds in times if seconds > 0)])
        self._most_connections = _most_connections(self.limits.connections)
        self._pool = ThreadPoolExecutor(max(1, threads), "rest", flush_for_good)
        self._heavy = ThreadPoolExecutor(max(1, threads // 4), "rest-heavy", flush_for_good)
        self.loop, self._ready = new_loop(), threading.Event()
        self._inline = InlinePolicy()
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name="rest", daemon=True)
        self._thread.start()
        self._ready.wait()

    def _serve(self) -> None:
        flush_for_good()
        asyncio.set_event_loop(self.loop)
        self._listener = self.loop.run_until_complete(
            self.loop.create_server(lambda: Connection(self), sock=self._socket, backlog=1024))
        self.loop.call_soon(self._look)
        self._ready.set()
        self.loop.run_forever()
        close_listeners(self.loop, [self._listener])

    # -- requests

    def answer(self, connection: Connection, number: int, request: Request) -> Response | None:
        """The response, if it can be had without keeping others waiting; else a thread answers. Called in the loop."""
        steps = None
        if (b"content-encoding" not in request.headers and request.size <= most.SHORT
                and self._inline.may_begin(request.target, request.size)):
            steps = self._answer(request)
            try:
                response = self._answered(partial(self._inline.advance, request.target, steps))
            except NeverAnswered:
                return None
            if response is not None:
                return response
        self._submit(_Job(connection, number, request, steps=steps,
                          handed_over=None if steps is None else time.monotonic()))
        return None

    def _submit(self, job: _Job) -> None:
        if self._timeout:
            job.timer = self.loop.call_later(self._timeout, self._time_is_over, job.connection, job.number, job.request)
        job.heavy = job.request.size > most.HEAVY
        pool = self._heavy if job.heavy else self._pool
        pool.submit(self._work, job)  # as the last thing: a thread wakes up, and wants Python's lock

    def _time_is_over(self, connection: Connection, number: int, request: Request) -> None:
        request.over = True
        self._finish(_Job(connection, number, request), self._late)

    def _work(self, job: _Job) -> None:
        """Answer a request. Nobody reads this function's future, so no error leaves it."""
        request = job.request
        try:
            request.go_on()
            if request.collected is not None:
                request.body, request.collected = bytes(request.collected), None
            if is_packed(request):
                unpack(request, None if job.heavy else most.HEAVY)
                del request.headers[b"content-encoding"]
            check_values(request.body, self.limits.values)
            steps = job.steps or self._answer(request)
            until = time.monotonic() + self._timeout if self._timeout else None
            with execution.deadline(until, handed_over=job.handed_over):
                self._finish_soon(job, self._answered(partial(finish, steps)))
        except Heavier:  # it waits as it came: many of them unpacked would fill the memory
            job.heavy = True
            self._heavy.submit(self._work, job)
        except NeverAnswered:  # not even when its time is over
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(job.timer.cancel if job.timer else int)
        except TooLarge as error:
            self._finish_soon(job, error_reply(413, str(error), close=False))
        except Abandoned:
            pass
        except BaseException:
            log.exception("a request failed")
            self._finish_soon(job, html_error(500))
        finally:
            if job.steps is not None:
                job.steps.close()

    def _finish_soon(self, job: _Job, response: Response) -> None:
        try:
            self.loop.call_soon_threadsafe(self._finish, job, response)
        except RuntimeError:
            log.debug("the server ended before a request did")

    def _answered(self, answer: Callable[[], T]) -> T | Response:
        try:
            return answer()
        except (NeverAnswered, Abandoned):
            raise
        except Exception:
            log.exception("a request failed")
            return html_error(500)

    def _finish(self, job: _Job, response: Response) -> None:
        if job.timer is not None:
            job.timer.cancel()
        job.connection.reply(job.number, *self.reply(job.connection, job.request, response))

    def reply(self, connection: Connection, request: Request, response: Response) -> tuple[bytes, bool]:
        """A response's bytes, and whether the connection ends with them."""
        if self._stopping and connection.answers_last:
            request.keep_alive = False
        return rendered(request, response), response.close or not request.keep_alive

    # -- connections

    def came(self, connection: Connection) -> None:
        """A client has connected; beyond the limit the place of a silent one is taken, or nobody is let in."""
        if len(self.connections) >= self._most_connections > 0:
            idle = [c for c in islice(self.connections, _OLDEST) if c.idle_since is not None]
            if idle:
                min(idle, key=lambda c: c.idle_since or 0.0).close()
            else:
                connection.turn_away()
        self.connections[connection] = None

    def _look(self) -> None:
        now = self.loop.time()
        for connection in list(self.connections):
            connection.look(now)
        self.loop.call_later(self._look_every, self._look)

    def stop(self, grace: float) -> None:
        """Take no new connections, give requests that have arrived `grace` seconds, then close all."""
        if self._stopping:
            return
        self._stopping = True
        for last, seconds in ((self._listener.close, _LAST_IN), (self._drain, _LINGER)):
            self.loop.call_soon_threadsafe(self.loop.call_later, min(grace, seconds), last)
        self._thread.join(grace)
        for last in (self._close_all, self.loop.stop):
            with suppress(RuntimeError):  # it has ended meanwhile
                self.loop.call_soon_threadsafe(last)
            self._thread.join(_FLUSH)
        self._thread.join()
        self.loop.close()
        for pool in (self._pool, self._heavy):
            pool.shutdown(wait=False)

    def _drain(self) -> None:
        for connection in list(self.connections):
            connection.finish()
        self.gone(None)

    def _close_all(self) -> None:
        for connection in list(self.connections):
            connection.close()
        self.gone(None)

    def gone(self, connection: Connection | None) -> None:
        """A connection ended; the last one ends the loop of a server that is stopping. Called in the event loop."""
        if connection is not None:
            self.connections.pop(connection, None)
        if self._stopping and not self.connections:
            self.loop.stop()


def _most_connections(wanted: int) -> int:
    """As many as are wanted, or as the process may have files: the other port has half of them."""
    files = open_files()
    return wanted if files is None else min(wanted or files, max(_FILES_KEPT, (files - _FILES_KEPT) // 2))

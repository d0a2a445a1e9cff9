"""One server, looked at again and again while somebody watches; and the newest of everything, for who waits for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from deploy import serving
from deploy.errors import DeployError
from deploy.locks import holder
from deploy.spec import Spec, load_spec
from deploy.state import ledger_of, releases
from deploy.state.ledger import FILE as LEDGER
from deploy.ui.metrics import MetricsHistory

EVERY = 1.0  # seconds from one look to the next; one that takes long is followed by a pause as long
_TICK = 0.25  # seconds: how soon a line in the ledger is seen
_HEARTBEAT = 15.0  # seconds; what stands between may end connections on which nothing comes
_IDLE = 5.0  # seconds after the last spectator left until nobody looks any more
MOST_RELEASES = 200  # of each server, the newest

Event = tuple[str, str, bytes]
"""What it is about (`server`, `metrics`, `action`), whose, and JSON."""


class Feed:
    """The newest event of each subject. Any thread publishes; spectators await what they haven't seen.

    A slow spectator skips what is outdated, so nothing piles up.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: dict[tuple[str, str], tuple[int, bytes]] = {}
        self._wakers: set[Callable[[], None]] = set()
        self._number, self._closed, self._left = 0, False, 0.0

    @property
    def watched(self) -> bool:
        """Whether somebody follows, or did a moment ago."""
        with self._lock:
            return bool(self._wakers) or time.monotonic() - self._left < _IDLE

    @property
    def spectators(self) -> int:
        return len(self._wakers)

    def publish(self, what: str, whose: str, data: object) -> bool:
        """Whether it is news."""
        body = orjson.dumps(data, default=str, option=orjson.OPT_NON_STR_KEYS)
        with self._lock:
            if self._newest.get((what, whose), (0, b""))[1] == body:
                return False
            self._number += 1
            self._newest[what, whose] = self._number, body
            wakers = list(self._wakers)
        for wake in wakers:
            wake()
        return True

    def close(self) -> None:
        """Everyone's `follow` ends."""
        with self._lock:
            self._closed, wakers = True, list(self._wakers)
        for wake in wakers:
            wake()

    async def follow(self) -> AsyncIterator[Event | None]:
        """The newest event of every subject, then each newer one; None every 15 s in which there is none."""
        loop, event, seen = asyncio.get_running_loop(), asyncio.Event(), 0

        def wake() -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(event.set)

        with self._lock:
            self._wakers.add(wake)
        try:
            while not self._closed:
                event.clear()
                with self._lock:
                    news = sorted((n, *key, body) for key, (n, body) in self._newest.items() if n > seen)
                for seen, what, whose, body in news:  # noqa: B007  the last one counts
                    yield what, whose, body
                try:
                    await asyncio.wait_for(event.wait(), _HEARTBEAT)
                except asyncio.TimeoutError:
                    yield None
        finally:
            with self._lock:
                self._wakers.discard(wake)
                self._left = time.monotonic()


@dataclass(frozen=True, slots=True)
class SpecSource:
    """Where a spec comes from: read again when its file has changed. read: how; the command line may override some."""

    path: Path
    read: Callable[[Path], Spec] = load_spec

    def load(self) -> Spec:
        """Raises SpecError."""
        return self.read(self.path)


class Watcher:
    """Looks at one server in a thread of its own, and publishes what changed. Nothing is asked while nobody watches."""

    def __init__(self, source: SpecSource, feed: Feed) -> None:
        self.source, self.spec, self._feed = source, source.load(), feed
        self.metrics = MetricsHistory()
        self.view: dict[str, Any] = {}
        self._stat, self._ended, self._looking = _changed(source.path), threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"watch {self.spec.name}", daemon=True)

    @property
    def name(self) -> str:
        return self.spec.name

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(10)

    def look(self) -> dict[str, Any]:
        """What there is now, as JSON data, published if it is news."""
        with self._looking:
            error = self._reload()
            view = view_of(self.spec)
            if error is not None:
                view["error"] = error.to_json()
            self.view = view
            self._feed.publish("server", self.name, view)
            return view

    def _reload(self) -> DeployError | None:
        """The spec again, if its file has changed. One that is broken, or another server's, is told and not used."""
        changed = _changed(self.source.path)
        if changed == self._stat and not self.view.get("error"):
            return None
        try:
            spec = self.source.load()
        except DeployError as error:
            return error
        self._stat = changed
        if spec.name != self.name:
            return DeployError(f"{spec.path.name} is called {spec.name!r} now, and was {self.name!r}",
                               hint="start tfs ui again")
        self.spec = spec
        return None

    def _look_safely(self) -> None:
        """A look and a sample. What nobody has translated is shown, and doesn't end the watching."""
        try:
            self.look()
            sample = self.metrics.sample(self.spec) if self.metrics.due() else None
        except Exception as error:
            self.view = {**self.view, "error": DeployError(f"internal error: {error!r}").to_json()}
            self._feed.publish("server", self.name, self.view)
            return
        if sample is not None:
            self._feed.publish("metrics", self.name, sample)

    def _run(self) -> None:
        ledger, due = None, 0.0
        while not self._ended.wait(_TICK):
            now = time.monotonic()
            written = _changed(self.spec.state_dir / LEDGER)
            if not self._feed.watched or (now < due and written == ledger):
                continue
            ledger = written
            self._look_safely()
            due = now + max(EVERY, 2 * (time.monotonic() - now))


def view_of(spec: Spec) -> dict[str, Any]:
    """A server as the page shows it: `tfs status --json`, `tfs history --json`, and who is changing it."""
    view: dict[str, Any] = {"name": spec.name, "spec": str(spec.path), "status": None, "releases": [], "error": None,
                            "monitoring": bool(spec.server.monitoring and spec.server.monitoring.enable),
                            "label": spec.rollout.label, "canary": spec.rollout.canary_label}
    try:
        view["releases"] = [r.to_json() for r in releases(ledger_of(spec).read())[-MOST_RELEASES:]]
        status = serving.status(spec)
        view["status"] = status.to_json()
        for model, data in zip(status.models, view["status"]["models"], strict=True):
            data["on_disk"] = sorted(model.views.on_disk or ())
    except DeployError as error:
        view["error"] = error.to_json()
    owner = holder(spec.state_dir)
    view["changing"] = {"by": owner.by, "since": owner.since, "why": owner.why} if owner else None
    return view


def _changed(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size

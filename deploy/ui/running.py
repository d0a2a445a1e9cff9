"""The page's own server: a port, uvicorn in a thread, watchers, and the address to open."""

from __future__ import annotations

import errno
import secrets
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from deploy.errors import PortTaken, ServerError, SpecError
from deploy.files import reason
from deploy.types import bracketed
from deploy.ui.actions import Actions
from deploy.ui.guarding import check_host
from deploy.ui.watching import Feed, SpecSource, Watcher
from deploy.ui.web import application
from deploy.waiting import Deadline, poll

PORT = 8555
_MOST_CONNECTIONS = 256
_START = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class UiServer:
    """A page that can be opened. address: without the token. token: what its actions need, None if it has none."""

    address: str
    token: str | None
    servers: tuple[str, ...]
    actions: Actions | None

    @property
    def url(self) -> str:
        """What to open. A fragment isn't sent to any server, so the token is in no log."""
        return self.address if self.token is None else f"{self.address}#token={self.token}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"url": self.url, "actions": self.token is not None, "servers": list(self.servers)}


@contextmanager
def open_ui(sources: Sequence[SpecSource], *, host: str = "127.0.0.1", port: int = PORT, allow_actions: bool = False
            ) -> Iterator[UiServer]:
    """Serve the page of these specs until the block ends. port: 0 takes any free one.

    Actions that run then are waited for. Raises SpecError for a spec that can't be read, two of one name, or actions on
    an address that isn't of this machine; PortTaken, ServerError if it can't listen there.
    """
    check_host(host, actions=allow_actions)
    feed = Feed()
    watchers = _watchers(sources, feed)
    token = secrets.token_urlsafe(24) if allow_actions else None
    actions = Actions(feed) if allow_actions else None
    app = application(watchers, feed, host=host, actions=actions, token=token)
    with _listening(host, port) as listener:
        config = uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off", server_header=False,
                                limit_concurrency=_MOST_CONNECTIONS, timeout_graceful_shutdown=2, ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), name="tfs ui", daemon=True)
        thread.start()
        try:
            if poll(lambda: server.started or None, Deadline(_START)) is None:
                raise ServerError(f"the page doesn't answer on {host}:{port}")
            for watcher in watchers.values():
                watcher.start()
            address = f"http://{bracketed(host)}:{listener.getsockname()[1]}/"
            yield UiServer(address, token, tuple(watchers), actions)
        finally:
            for watcher in watchers.values():
                watcher.stop()
            if actions is not None:
                actions.finish()
            feed.close()
            server.should_exit = True
            thread.join(_START)


def _watchers(sources: Sequence[SpecSource], feed: Feed) -> dict[str, Watcher]:
    watchers: dict[str, Watcher] = {}
    for source in sources:
        watcher = Watcher(source, feed)
        if watcher.name in watchers:
            raise SpecError(f"two specs are called {watcher.name!r}: {watchers[watcher.name].source.path} and "
                            f"{source.path}", hint="give one of them a `name`")
        watchers[watcher.name] = watcher
    return watchers


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host.strip("[]"), port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(f"port {port} of {host} is taken", hint="another one: tfs ui --port 0") from None
            raise ServerError(f"can't listen on {host}:{port}: {reason(error)}",
                              hint="--host is an address of this machine") from None
        listener.listen(128)
        yield listener

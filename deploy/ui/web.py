"""The addresses of the page: JSON of the same values as `--json`, events, and the files in assets/."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import orjson
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from deploy import serving
from deploy.errors import BackendMissing, DeployError, LockHeld, ServerError, SpecError, VersionNotFound
from deploy.state import ledger_of, releases
from deploy.ui.actions import ActionRequest, Actions, rollback_plan
from deploy.ui.answers import answers
from deploy.ui.guarding import Guard
from deploy.ui.timeline import release_steps, reported
from deploy.ui.watching import Feed, Watcher
from deploy.version import __version__

ASSETS = Path(__file__).parent / "assets"
MOST_LINES = 2000
MOST_SPECTATORS = 50
_STATUS: tuple[tuple[type[DeployError], int], ...] = (
    (LockHeld, 409), (SpecError, 400), (VersionNotFound, 404), (BackendMissing, 501))


class _Missing(DeployError):
    """What an address names isn't there."""


class Pages:
    """What the addresses answer. Everything that is asked of a server or a disk runs in a thread."""

    def __init__(self, watchers: Mapping[str, Watcher], feed: Feed, actions: Actions | None) -> None:
        self._watchers, self._feed, self._actions = watchers, feed, actions

    def state(self, _: Request) -> Any:
        """Everything at once: how a page begins before its first event."""
        return {"version": __version__, "actions": self._actions is not None,
                "servers": [w.view or w.look() for w in self._watchers.values()],
                "recent": list(self._actions.recent) if self._actions else []}

    def release(self, request: Request) -> Any:
        spec, ident = self._watcher(request).spec, request.path_params["release"]
        lines = ledger_of(spec).read()
        for release in releases(lines):
            if release.id == ident:
                return {**release.to_json(), "options": dict(release.options),
                        "steps": [step.to_json() for step in release_steps(lines, release)],
                        "report": reported(spec.state_dir, release)}
        raise _Missing(f"there is no release {ident} of {spec.name}")

    def answers(self, request: Request) -> Any:
        spec, name = self._watcher(request).spec, request.path_params["model"]
        for model in spec.models:
            if model.name == name:
                return answers(spec, model)
        raise _Missing(f"there is no model {name!r} in {spec.path.name}")

    def metrics(self, request: Request) -> Any:
        return self._watcher(request).metrics.to_json()

    def logs(self, request: Request) -> Any:
        asked = request.query_params.get("tail", "200")
        tail = min(MOST_LINES, max(1, int(asked))) if asked.isdecimal() else 200
        spec = self._watcher(request).spec
        try:
            return {"logs": serving.logs(spec, tail).splitlines(), "reason": ""}
        except ServerError as error:  # one that never ran: nothing to be alarmed about
            return {"logs": [], "reason": str(error)}

    def plan(self, request: Request) -> Any:
        return rollback_plan(self._watcher(request).spec, request.path_params["model"])

    async def act(self, request: Request) -> Response:
        """Begin an action; what becomes of it comes as events."""
        assert self._actions is not None  # the guard lets nothing pass then
        try:
            wanted = msgspec.json.decode(await request.body(), type=ActionRequest)
            return _json(self._actions.begin(self._watcher(request), wanted), 202)
        except msgspec.MsgspecError as error:
            return _json(SpecError(f"this is no action: {error}").to_json(), 400)
        except DeployError as error:
            return _refusal(error)

    async def events(self, _: Request) -> Response:
        if self._feed.spectators >= MOST_SPECTATORS:
            return _json({"error": "Busy", "message": f"{MOST_SPECTATORS} pages are open already"}, 503)

        async def stream() -> AsyncIterator[bytes]:
            yield b"retry: 1000\n\n"
            async for event in self._feed.follow():
                if event is None:
                    yield b": still here\n\n"
                else:
                    what, whose, body = event
                    yield b"event: %s\ndata: {\"name\":%s,\"data\":%s}\n\n" % (what.encode(), orjson.dumps(whose), body)

        return StreamingResponse(stream(), media_type="text/event-stream", headers={"cache-control": "no-store"})

    def _watcher(self, request: Request) -> Watcher:
        name = request.path_params["server"]
        if name not in self._watchers:
            raise _Missing(f"there is no server {name!r} on this page")
        return self._watchers[name]


def application(watchers: Mapping[str, Watcher], feed: Feed, *, host: str, actions: Actions | None, token: str | None
                ) -> Starlette:
    """The page as an ASGI application. token: what changes need; None without `actions`."""
    pages, server = Pages(watchers, feed, actions), "/api/servers/{server}"
    return Starlette(
        routes=[
            Route("/api/state", _answered(pages.state)),
            Route("/api/events", pages.events),
            Route(f"{server}/releases/{{release}}", _answered(pages.release)),
            Route(f"{server}/models/{{model}}/answers", _answered(pages.answers)),
            Route(f"{server}/models/{{model}}/rollback", _answered(pages.plan), methods=["POST"]),
            Route(f"{server}/metrics", _answered(pages.metrics)),
            Route(f"{server}/logs", _answered(pages.logs)),
            Route(f"{server}/actions", pages.act, methods=["POST"]),
            Route("/api/{rest:path}", _nothing),
            Mount("/assets", StaticFiles(directory=ASSETS)),
            Route("/{rest:path}", _page),
        ],
        middleware=[Middleware(Guard, host=host, token=token), Middleware(GZipMiddleware, minimum_size=2048)])


def _answered(function: Callable[[Request], Any]) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        try:
            return _json(function(request))
        except DeployError as error:
            return _refusal(error)

    return answer


def _refusal(error: DeployError) -> Response:
    status = 404 if isinstance(error, _Missing) else next((s for kind, s in _STATUS if isinstance(error, kind)), 502)
    return _json(error.to_json(), status)


def _json(data: object, status: int = 200) -> Response:
    body = orjson.dumps(data, default=str, option=orjson.OPT_NON_STR_KEYS)
    return Response(body, status, media_type="application/json", headers={"cache-control": "no-store"})


def _nothing(request: Request) -> Response:
    return _json({"error": "Missing", "message": f"there is nothing at {request.url.path:.200}"}, 404)


def _page(_: Request) -> Response:
    """Every address of a person is the same document: its script reads the address."""
    return FileResponse(ASSETS / "index.html", headers={"cache-control": "no-cache"})

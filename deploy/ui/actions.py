"""What the page may change, where it may: let a release go on, abort it, roll back. The command line's own calls, with
its locks and its ledger."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from deploy import rollout
from deploy.errors import DeployError, LockHeld, SpecError
from deploy.rollout import Released
from deploy.spec import Spec
from deploy.ui.watching import Feed, Watcher

MOST = 20  # actions that are remembered
_MOST_SENTENCES = 100


class ActionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a browser asks for. to: a version, for rolling back to another one than the one before."""

    verb: Literal["continue", "abort", "rollback"]
    model: str
    to: int | None = None
    note: str = ""


class Actions:
    """One at a time for each server. What becomes of each is published: its sentences, and how it ended."""

    def __init__(self, feed: Feed) -> None:
        self._feed, self._lock, self._number = feed, threading.Lock(), 0
        self._running: dict[str, threading.Thread] = {}
        self.recent: deque[dict[str, Any]] = deque(maxlen=MOST)

    def begin(self, watcher: Watcher, request: ActionRequest) -> dict[str, Any]:
        """Start it in a thread of its own. Raises LockHeld if one is running on that server, SpecError for a model that
        the spec doesn't have."""
        spec = watcher.spec
        if request.model not in {m.name for m in spec.models}:
            raise SpecError(f"there is no model {request.model!r} in {spec.path.name}", hint="load the page again")
        with self._lock:
            if (thread := self._running.get(spec.name)) is not None and thread.is_alive():
                raise LockHeld(f"another action of this page is running on {spec.name}", by="this page",
                               since="a moment ago", why="an action", hint="wait until it is done")
            self._number += 1
            action = {"id": self._number, "server": spec.name, "verb": request.verb, "model": request.model,
                      "state": "running", "sentences": [], "error": None, "outcome": None}
            self.recent.append(action)
            thread = threading.Thread(target=self._run, args=(watcher, spec, request, action),
                                      name=f"{request.verb} of {request.model}")  # not a daemon: it is waited for
            self._running[spec.name] = thread
        self._publish(action)
        thread.start()
        return dict(action)

    def finish(self) -> list[str]:
        """Wait for what is running; the names of those actions."""
        with self._lock:
            running = [thread for thread in self._running.values() if thread.is_alive()]
        for thread in running:
            thread.join()
        return [thread.name for thread in running]

    def _run(self, watcher: Watcher, spec: Spec, request: ActionRequest, action: dict[str, Any]) -> None:
        def progress(sentence: str) -> None:
            action["sentences"] = [*action["sentences"], sentence][-_MOST_SENTENCES:]
            self._publish(action)

        try:
            released = call(spec, request, progress)
            action |= {"state": "done", "outcome": {**released.to_json(), "text": released.text()}}
        except DeployError as error:
            action |= {"state": "failed", "error": error.to_json()}
        except Exception as error:
            action |= {"state": "failed", "error": DeployError(f"internal error: {error!r}").to_json()}
        self._publish(action)
        watcher.look()

    def _publish(self, action: dict[str, Any]) -> None:
        self._feed.publish("action", str(action["id"]), action)


def call(spec: Spec, request: ActionRequest, progress: Callable[[str], None]) -> Released:
    """As `tfs rollout --continue`, `tfs rollout --abort` and `tfs rollback` do; raises what they raise."""
    if request.verb == "continue":
        return rollout.go_on(spec, request.model, progress=progress)
    if request.verb == "abort":
        return rollout.abort(spec, request.model, request.note or "aborted", progress=progress)
    return rollout.roll_back(spec, request.model, request.to, note=request.note, progress=progress)


def rollback_plan(spec: Spec, model: str) -> dict[str, Any]:
    """What rolling back would do, as `tfs rollback --plan --json` tells it. Raises as that does."""
    return rollout.plan_rollback(spec, model, None).to_json()

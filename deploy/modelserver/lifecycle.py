"""Does what the catalog decides: loads and unloads versions in threads, and hands out the loaded ones.

One thread acts. With no load (unload) threads it loads (unloads) by itself, one version after the other, and decides
nothing meanwhile; that is the real server's default, and can be seen: a load that is being retried holds up all others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from deploy.modelserver.catalog import Action, Catalog, Id, Load, Unload
from deploy.modelserver.loader import Loader, Model
from deploy.modelserver.servable import Servable
from deploy.modelserver.status import Code, StatusError, not_found
from deploy.types import VersionState, VersionStatus

log = logging.getLogger("modelserver")
T = TypeVar("T")
_RETRY = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Retries:
    """How often (after the first time) and after which pause (seconds; below 0: none) a failed load is repeated."""

    most: int = 5
    pause: float = 60.0


class Lifecycle:
    """Owns the catalog and the loaded versions. All methods may be called from any thread."""

    def __init__(self, loader: Loader, *, load_threads: int = 0, unload_threads: int = 0,
                 retries: Retries | None = None, reserve: Callable[[Id, str], None] | None = None) -> None:
        """reserve: comes before a load; may raise StatusError."""
        self._loader, self._retries, self._reserve = loader, retries or Retries(), reserve or (lambda *_: None)
        self._catalog = Catalog()
        self._changed = threading.Condition()
        self._serving: dict[str, dict[int, Servable]] = {}
        self._closing = False
        self._loads = _pool(load_threads, "load")
        self._unloads = _pool(unload_threads, "unload")
        self._thread = threading.Thread(target=self._act, name="lifecycle", daemon=True)
        self._thread.start()

    # -- what should be loaded

    def aspire(self, name: str, versions: Mapping[int, str]) -> None:
        with self._changed:
            self._catalog.aspire(name, versions)
            self._changed.notify_all()

    @contextmanager
    def many_load_threads(self, threads: int) -> Iterator[None]:
        """Load that many versions at once meanwhile: for the first load of all models."""
        before, self._loads = self._loads, _pool(threads, "load")
        try:
            yield
        finally:
            self._loads = before

    # -- what is loaded

    def take(self, name: str, version: int | None) -> Servable:
        """Hold a loaded version, the highest if none is named; give it back by `release()`. Raises StatusError."""
        with self._changed:
            versions = self._serving.get(name)
            number = version if version is not None or not versions else max(versions)
            servable = versions.get(number) if versions and number is not None else None
            if servable is None:
                wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
                raise not_found(f"Servable not found for request: {wanted}")
            servable.hold()
            return servable

    def states(self, name: str, since: int = -1) -> list[VersionStatus]:
        """All versions of a model that ever were, the highest first; only what changed after change `since`."""
        with self._changed:
            return self._catalog.states(name, since)

    def stays(self, name: str) -> bool:
        """Whether one of the model's versions is available and is to stay."""
        with self._changed:
            return self._catalog.stays(name)

    @property
    def changes(self) -> int:
        """Counts state changes."""
        with self._changed:
            return self._catalog.changes

    def wait(self, until: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait for a change of states after which `until` is true; it may call the methods above."""
        with self._changed:
            return self._changed.wait_for(until, timeout)

    # -- the thread

    def _act(self) -> None:
        """What fails here is logged and costs at most the version that it is about: all others need this thread."""
        while not self._closing:
            action: Action | None = None
            try:
                with self._changed:
                    while (action := self._catalog.next_action()) is None and not self._closing:
                        self._changed.wait()
                    if action is None:
                        return
                    if isinstance(action, Unload):
                        servable = self._serving[action.id.name].pop(action.id.version)
                    self._changed.notify_all()
                if isinstance(action, Load):
                    _run(self._loads, self._load, action)
                else:
                    _run(self._unloads, self._unload, servable)
            except Exception as error:
                log.exception("the server could not act on %s", action)
                self._end(action, _told(error))

    def _end(self, action: Action | None, why: str) -> None:
        """A load has failed, or an unload is done, as well as it could be."""
        with self._changed:
            try:
                if isinstance(action, Load):
                    self._catalog.failed(action.id, Code.INTERNAL, why)
                elif action is not None:
                    self._catalog.unloaded(action.id)
                else:
                    self._changed.wait(_RETRY)  # or this would be tried again without end
            except Exception:
                log.exception("the state of %s is lost", action)
            self._changed.notify_all()

    def _load(self, action: Load) -> None:
        """No error leaves this: nobody would see it. The version has an end in any case."""
        try:
            self._try(action.id, lambda: self._reserve(action.id, action.path))
            with self._changed:
                self._catalog.reserved(action.id)
                self._changed.notify_all()
            model = self._try(action.id, lambda: self._loader.load(action.id.name, action.id.version, action.path))
            self._serve(action.id, model)
            log.info("Successfully loaded servable version {name: %s version: %s}", action.id.name, action.id.version)
        except StatusError as error:
            with self._changed:
                self._catalog.failed(action.id, error.code, error.message)
                self._changed.notify_all()
        except Exception as error:
            log.exception("version %s could not be loaded", action.id)
            self._end(action, _told(error))

    def _serve(self, id: Id, model: Model) -> None:
        try:
            servable = Servable(id, model)
            with self._changed:
                self._catalog.loaded(id)
                self._serving.setdefault(id.name, {})[id.version] = servable
                self._changed.notify_all()
        except Exception:
            _free(id, model)
            raise

    def _try(self, id: Id, step: Callable[[], T]) -> T:
        """A step of a load, repeated as often as it may be. Raises StatusError."""
        tried = 0
        while True:
            try:
                return step()
            except StatusError as error:
                log.error("Loading servable: {name: %s version: %s} failed: %s", id.name, id.version, error)
                if tried >= self._retries.most or not self._pause(id):
                    raise
            except Exception as error:
                raise StatusError(Code.INTERNAL, _told(error)) from error
            tried += 1

    def _pause(self, id: Id) -> bool:
        """Wait before the next try; False if the version isn't wanted any more."""
        with self._changed:
            given_up = self._changed.wait_for(lambda: self._closing or not self._catalog.aspired(id),
                                              max(0.0, self._retries.pause))
            return not given_up

    def _unload(self, servable: Servable) -> None:
        """No error leaves this, as with `_load`."""
        servable.wait_idle()
        _free(servable.id, servable.model)
        self._end(Unload(servable.id), "")
        log.info("Successfully unloaded servable version %s", servable.id)

    def close(self, grace: float = 2.0) -> None:
        """Stop acting and free all models; those that a request still holds after `grace` seconds are left alone."""
        deadline = time.monotonic() + grace
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            servables = [s for versions in self._serving.values() for s in versions.values()]
            self._serving.clear()
        for servable in servables:
            if servable.wait_idle(max(0.0, deadline - time.monotonic())):
                _free(servable.id, servable.model)


def _free(id: Id, model: Model) -> None:
    try:
        model.close()
    except Exception:  # of no consequence for other models
        log.exception("version %s could not be freed", id)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _pool(threads: int, name: str) -> ThreadPoolExecutor | None:
    return ThreadPoolExecutor(threads, thread_name_prefix=name) if threads > 0 else None


def _run(pool: ThreadPoolExecutor | None, function: Callable[..., None], *arguments: object) -> None:
    if pool is None:
        function(*arguments)
    else:
        pool.submit(function, *arguments)


def reached(states: list[VersionStatus]) -> bool | None:
    """Whether a model is available: True if one version is, False if all ended, else None (not yet known)."""
    if any(s.state is VersionState.AVAILABLE for s in states):
        return True
    if states and all(s.state is VersionState.END for s in states):
        return False
    return None

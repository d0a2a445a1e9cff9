"""Which versions every model should have, as the base paths say: looked at over and over. Their only reader.

A file counts like a directory.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from deploy.modelserver.lifecycle import Lifecycle
from deploy.types import Specific, VersionPolicy
from deploy.wire.model_config import by_version, select

_FILE = re.compile(r"\Afile://[^/]*")
log = logging.getLogger("modelserver")


@dataclass(frozen=True, slots=True)
class Monitored:
    """A model whose versions are looked for."""

    name: str
    base_path: str
    policy: VersionPolicy


class BasePathMissing(Exception):
    """A base path isn't there: nobody's versions are known then."""


def local_path(base_path: str) -> str:
    """The path that a file: URI stands for, whatever its host is; other base paths as they are."""
    return _FILE.sub("", base_path, count=1) or "/"


def look(model: Monitored) -> dict[int, str]:
    """The model's wanted versions (number -> directory). Raises BasePathMissing."""
    path = local_path(model.base_path)
    try:
        on_disk = by_version(os.listdir(path))  # noqa: PTH208 (no objects per name)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise BasePathMissing(f"Could not find base path {model.base_path} for servable {model.name} with error "
                              f"{getattr(error, 'strerror', error)}") from error
    base = path.rstrip("/")
    return {v: f"{base}/{on_disk[v]}" for v in select(model.policy, on_disk)}


def notes(model: Monitored, versions: Mapping[int, str]) -> list[str]:
    """What whoever looks at the log should know of a model's wanted versions."""
    sentences = []
    if not versions:
        sentences.append(f"No versions of servable {model.name} found under base path {model.base_path}. Did you "
                         "forget to name your leaf directory as a number (eg. '/1/')?")
    if isinstance(model.policy, Specific):
        sentences += [f"Version {version} of servable {model.name}, which was requested to be served as a 'specific' "
                      "version in the servable's version policy, was not found in the file system"
                      for version in model.policy.versions if version not in versions]
    return sentences


def look_at_all(models: Iterable[Monitored]) -> Mapping[str, dict[int, str]]:
    """Every model's wanted versions. Raises BasePathMissing if any base path is missing."""
    return {m.name: look(m) for m in models}


Look = Callable[[Iterable[Monitored]], Mapping[str, dict[int, str]]]


class Poller:
    """Looks at the base paths, at once and then every `seconds`, and tells the lifecycle.

    seconds: 0: only once; below 0: never.
    """

    def __init__(self, lifecycle: Lifecycle, seconds: float, look: Look = look_at_all) -> None:
        self._lifecycle, self._seconds, self._look = lifecycle, seconds, look
        self._models: dict[str, Monitored] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False

    @property
    def names(self) -> set[str]:
        with self._lock:
            return set(self._models)

    def update(self, models: dict[str, Monitored]) -> None:
        """Monitor these models from now on; those that are no longer there are unloaded."""
        with self._lock:
            for name in self._models.keys() - models.keys():
                self._lifecycle.aspire(name, {})
            self._models = models
        self._wake.set()

    def start(self) -> None:
        if self._seconds >= 0:
            threading.Thread(target=self._poll, name="poller", daemon=True).start()

    def poll_once(self) -> None:
        """Look now. A base path that is missing hides all models' versions."""
        with self._lock:
            try:
                wanted = self._look(self._models.values())
            except BasePathMissing as error:
                log.error("FileSystemStoragePathSource encountered a filesystem access error: %s", error)
                return
            for name, versions in wanted.items():
                for note in notes(self._models[name], versions):
                    log.warning("%s", note)
                self._lifecycle.aspire(name, versions)

    def _poll(self) -> None:
        while not self._closing:
            self._wake.clear()
            try:
                self.poll_once()
            except Exception:  # a poller that ends would leave the server deaf to new versions
                log.exception("looking for versions failed")
            if not self._seconds:
                return
            self._wake.wait(self._seconds)

    def close(self) -> None:
        self._closing = True
        self._wake.set()

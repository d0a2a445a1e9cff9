"""The server apart from its protocols: which models are configured, reloads, labels, and the loaded versions.

The order of steps in a reload is the real server's, since what a refused one leaves behind can be seen: labels move
before the platform is checked, and the refused configuration is the one that the next is compared with.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType

from deploy.modelserver import config as configs
from deploy.modelserver.lifecycle import Lifecycle, Servable, reached
from deploy.modelserver.source import BasePathMissing, Monitored, look_at_all, notes
from deploy.modelserver.status import Code, Fatal, StatusError, failed_precondition, invalid
from deploy.types import VersionState, VersionStatus
from deploy.wire import config_pb2, serving_pb2

log = logging.getLogger("modelserver")

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
                found = self._look(self._models.values())
            except BasePathMissing as error:
                log.error("FileSystemStoragePathSource encountered a filesystem access error: %s", error)
                return
            for name, versions in found.items():
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


class Core:
    """Configured models, labels, and loaded versions. All methods may be called from any thread."""

    def __init__(self, lifecycle: Lifecycle, poller: Poller, *, any_labels: bool = False,
                 initial_threads: int = 8) -> None:
        self.lifecycle, self._poller = lifecycle, poller
        self._any_labels, self._initial_threads = any_labels, initial_threads
        self._lock = threading.Lock()  # one reload at a time
        self._config = config_pb2.ModelServerConfig()
        self._labels: dict[str, dict[str, int]] = {}
        self._started = False

    # -- configuration

    def reload(self, new: config_pb2.ModelServerConfig) -> None:
        """Serve what `new` says; returns when new models are available. Raises StatusError, Fatal.

        Waits for ever if a base path is missing, or a new model has no version; and every later reload behind it.
        """
        with self._lock:
            if self._config.WhichOneof("config") and not new.HasField("model_config_list"):
                raise failed_precondition("Cannot transition to requested config. It is only legal to transition from "
                                          "one ModelConfigList to another.")
            if not new.WhichOneof("config"):
                log.info("Taking no action for empty config.")
                return
            if new.HasField("custom_model_config"):
                raise Fatal("ModelServer does not yet support custom model config.")
            configs.check_list(new.model_config_list)
            configs.check_platforms_unchanged(self._config.model_config_list, new.model_config_list)
            self._config = new
            self._labels = self._checked_labels(new.model_config_list)
            configs.check_platforms(new.model_config_list)
            self._apply(configs.monitored(new.model_config_list))
            configs.check_logging(new.model_config_list)

    def _checked_labels(self, models: config_pb2.ModelConfigList) -> dict[str, dict[str, int]]:
        labels: dict[str, dict[str, int]] = {}
        for model in models.config:
            available = {s.version for s in self.lifecycle.states(model.name) if s.serving}
            for label, version in sorted(model.version_labels.items()):
                moved = self._labels.get(model.name, {}).get(label, version) != version
                if version not in available and (moved or not self._any_labels):
                    raise failed_precondition(f"Request to assign label to version {version} of model {model.name}, "
                                              "which is not currently available for inference")
                labels.setdefault(model.name, {})[label] = version
        return labels

    def _apply(self, models: dict[str, Monitored]) -> None:
        added = models.keys() - self._poller.names
        mark = self.lifecycle.changes if self._started else -1
        self._poller.update(models)
        if self._started:
            self._await(added, mark, "model")
            return
        with self.lifecycle.many_load_threads(self._initial_threads):
            self._poller.start()
            self._started = True
            self._await(added, mark, "servable")

    def _await(self, names: Iterable[str], since: int, noun: str) -> None:
        """Wait until every model has an available version, or only failed ones: then StatusError.

        A model that was dropped and is back before it was unloaded just stays: it doesn't change any more.
        """

        def seen() -> dict[str, list[VersionStatus]]:
            return {name: self.lifecycle.states(name, since) for name in names if not self.lifecycle.stays(name)}

        self.lifecycle.wait(lambda: all(reached(states) is not None for states in seen().values()))
        failed = {name: states for name, states in sorted(seen().items()) if not reached(states)}
        if failed:
            listed = "".join(f"{{{_describe(name, s)}}}, " for name, states in failed.items() for s in states
                             if s.state is VersionState.END)
            raise StatusError(Code.UNKNOWN, f"{len(failed)} {noun}(s) did not become available: {{{listed}}}")

    # -- requests

    def servable(self, spec: serving_pb2.ModelSpec) -> Servable:
        """The loaded version that a request is for; it stays loaded until `release`. Raises StatusError."""
        while True:
            version = self._version(spec)
            try:
                return self.lifecycle.take(spec.name, version)
            except StatusError:
                if self._version(spec) == version:  # else its label has moved just now
                    raise

    def _version(self, spec: serving_pb2.ModelSpec) -> int | None:
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        if choice == "version":
            return spec.version.value
        if choice == "version_label":
            try:
                return self._labels[spec.name][spec.version_label]
            except KeyError:
                raise invalid(f"Unrecognized servable version label: {spec.version_label}") from None
        return None

    def close(self) -> None:
        """Stop polling, and free the models."""
        self._poller.close()
        self.lifecycle.close()


class LazyServable:
    """A servable of a `with`, looked up by the first call: for requests that may be wrong in other ways before."""

    __slots__ = ("_core", "_held", "_spec")

    def __init__(self, core: Core, spec: serving_pb2.ModelSpec) -> None:
        self._core, self._spec = core, spec
        self._held: Servable | None = None

    def __call__(self) -> Servable:
        """Raises StatusError."""
        if self._held is None:
            self._held = self._core.servable(self._spec)
        return self._held

    def __enter__(self) -> LazyServable:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._held is not None:
            self._held.release()


def _describe(name: str, status: VersionStatus) -> str:
    error = f" due to error: {Code(status.error_code).name}: {status.error}" if status.error_code else ""
    return f"{{name: {name} version: {status.version}}}{error}"

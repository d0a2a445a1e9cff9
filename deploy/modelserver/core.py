"""The server apart from its protocols: which models are configured, reloads, labels, loaded versions and
what is known of them.

The order of steps in a reload is the real server's, since what a refused one leaves behind can be seen: labels move
before the platform is checked, and the refused configuration is the one that the next is compared with.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from types import TracebackType

from deploy.modelserver import config as configs
from deploy.modelserver.lifecycle import Lifecycle, reached
from deploy.modelserver.servable import Servable
from deploy.modelserver.source import Monitored, Poller
from deploy.modelserver.status import Code, Fatal, StatusError, failed_precondition, invalid, not_found
from deploy.types import VersionState, VersionStatus
from deploy.wire import config_pb2, serving_pb2
from deploy.wire import serving_pb2 as pb

log = logging.getLogger("modelserver")
SIGNATURE_DEF = "signature_def"
_MAP_URL = "type.googleapis.com/tensorflow.serving.SignatureDefMap"


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


def _describe(name: str, status: VersionStatus) -> str:
    error = f" due to error: {Code(status.error_code).name}: {status.error}" if status.error_code else ""
    return f"{{name: {name} version: {status.version}}}{error}"


def model_status(core: Core, request: pb.GetModelStatusRequest) -> pb.GetModelStatusResponse:
    """States of one version or of all that ever were; a label isn't looked at. Raises StatusError."""
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    spec = request.model_spec
    states = core.lifecycle.states(spec.name)
    if spec.WhichOneof("version_choice") == "version":
        states = [s for s in states if s.version == spec.version.value]
        if not states:
            raise not_found(f"Could not find version {spec.version.value} of model {spec.name}")
    elif not states:
        raise not_found(f"Could not find any versions of model {spec.name}")
    reply = pb.GetModelStatusResponse()
    for state in states:
        shown = reply.model_version_status.add(version=state.version, state=int(state.state))
        shown.status.error_code = state.error_code  # type: ignore[assignment]
        shown.status.error_message = state.error
        shown.status.SetInParent()
    return reply


def signature_map(core: Core, request: pb.GetModelMetadataRequest) -> tuple[pb.ModelSpec, pb.SignatureDefMap]:
    """The version that answered, and its signatures. Raises StatusError."""
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    if not request.metadata_field:
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != SIGNATURE_DEF:
            raise invalid(f"Metadata field {field} is not supported")
    with core.servable(request.model_spec) as servable:
        spec = pb.ModelSpec(name=servable.id.name)
        spec.version.value = servable.id.version
        signatures = pb.SignatureDefMap()
        for name, signature in servable.model.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        return spec, signatures


def model_metadata(core: Core, request: pb.GetModelMetadataRequest) -> pb.GetModelMetadataResponse:
    """What version answers and its signatures, packed as the real server does. Raises StatusError."""
    spec, signatures = signature_map(core, request)
    reply = pb.GetModelMetadataResponse(model_spec=spec)
    packed = reply.metadata[SIGNATURE_DEF]
    packed.type_url, packed.value = _MAP_URL, signatures.SerializeToString()
    return reply


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

    def __exit__(self, exc_type: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._held is not None:
            self._held.release()

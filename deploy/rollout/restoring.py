"""A server brought back to what its config file names, without a restart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from deploy.client.failures import busy
from deploy.client.interfaces import Control, ReloadControl
from deploy.errors import Rejected, RolloutError
from deploy.readiness import unserved
from deploy.rollout import configs
from deploy.rollout.configs import ConfigFile
from deploy.rollout.live_server import patiently
from deploy.types import ModelRef, Serving
from deploy.waiting import Deadline, poll
from deploy.wire import serving_pb2 as pb

Loaded = Callable[[str], frozenset[int]]  # the versions of a model that are served now


def restore(control: ReloadControl, file: ConfigFile, deadline: Deadline, *, reload_timeout: float = 30.0,
            progress: Callable[[str], None] = lambda _: None) -> None:
    """Bring the server to what the file names; returns when all of it is served, on every model.

    Whoever pushes a configuration by hand changes what is served. Whoever pushes one that adds a model with a platform
    that the server doesn't have leaves it poisoned: the labels have moved, that platform is remembered, and the
    corrected configuration is refused, until one without that model was accepted.
    Raises RolloutError if it can't be done, ClientError.
    """
    wanted = file.read()

    def accepted(config: pb.ModelServerConfig) -> bool:
        try:
            patiently(lambda: control.reload(config, timeout=max(0.1, deadline.clip(reload_timeout))), deadline)
        except Rejected as e:
            if e.code == "UNIMPLEMENTED" or busy(e):
                raise
            return False
        return True

    loaded = partial(_loaded, control, deadline)
    first = _with_loaded_labels(wanted, loaded)
    if not accepted(first) and not (accepted(_without_absent(first, loaded)) and accepted(first)):
        raise RolloutError("the server refuses every configuration", hint="restart it: tfs down, tfs up",
                           id="reload-refused")
    progress("waiting for all versions")
    _await(wanted, loaded, deadline)
    if not accepted(wanted):
        raise RolloutError("the server refuses what its config file names", hint="restart it: tfs down, tfs up",
                           id="reload-refused")


def _without_absent(config: pb.ModelServerConfig, loaded: Loaded) -> pb.ModelServerConfig:
    """A copy without the models that aren't served anyway: one of them may have been pushed with a wrong platform."""
    partial_config = pb.ModelServerConfig()
    partial_config.model_config_list.SetInParent()
    partial_config.model_config_list.config.extend(e for e in config.model_config_list.config if loaded(e.name))
    return partial_config


def _with_loaded_labels(config: pb.ModelServerConfig, loaded: Loaded) -> pb.ModelServerConfig:
    """A copy without the labels that can't be set yet."""
    partial_config = pb.ModelServerConfig()
    partial_config.CopyFrom(config)
    for entry in partial_config.model_config_list.config:
        there = loaded(entry.name)
        for label in [k for k, v in entry.version_labels.items() if v not in there]:
            del entry.version_labels[label]
    return partial_config


def _loaded(control: Control, deadline: Deadline, model: str) -> frozenset[int]:
    try:
        return frozenset(s.version for s in patiently(lambda: control.status(ModelRef(model)), deadline) if s.serving)
    except Rejected as e:
        if unserved(e):
            return frozenset()
        raise


def _await(wanted: pb.ModelServerConfig, loaded: Loaded, deadline: Deadline) -> None:
    def missing() -> Iterator[str]:
        for entry in wanted.model_config_list.config:
            if configs.pinned(entry):
                serving: Serving = configs.serving_of(entry)
                live = loaded(entry.name)
                if live != serving.versions:
                    yield f"model {entry.name!r} serves {sorted(live)}, the config file says {serving}"

    if not poll(lambda: None if next(missing(), None) else True, deadline):
        raise RolloutError(f"after {deadline.waited:.0f} s: {'; '.join(missing())}", hint="see tfs logs")

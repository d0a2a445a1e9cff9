"""`watch` and `repair`: what is served comes back to what is known to be good, whoever changed it, without a restart.

A server that somebody has reconfigured, or that started again from a file which tfs can't write, is told again what the
ledger says. What was never shown to be good is never brought: an edited spec waits for `up`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

from deploy import backends, client
from deploy.backends import Progress, Server, silent
from deploy.client import Client
from deploy.client.failures import answers_no
from deploy.client.interfaces import Control, ReloadControl
from deploy.errors import DeployError, Rejected, RolloutError
from deploy.leases import check_held
from deploy.locks import whoami
from deploy.readiness import unserved
from deploy.render import models_config
from deploy.rollout import configs
from deploy.rollout.actions import COMING
from deploy.rollout.configs import ConfigFile
from deploy.rollout.policy import PERMANENTLY_FAILED
from deploy.rollout.restoring import restore
from deploy.serving.snapshot import open_release, running_server
from deploy.serving.taking_over import check_named
from deploy.spec import Spec
from deploy.state import Ledger, changing, ledger_of
from deploy.state.release import proven
from deploy.types import ModelRef, ServedModel, Serving, Specific, VersionStatus
from deploy.waiting import Deadline, poll
from deploy.wire import serving_pb2 as pb


@dataclass(frozen=True, slots=True)
class Watched:
    """What one look did. well: nothing was to do. mended: `drift` was brought back. release: one is open, and decides
    what is served."""

    name: str
    outcome: Literal["well", "mended", "release"]
    drift: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "outcome": self.outcome, "drift": list(self.drift)}

    def text(self) -> str:
        """For people."""
        if self.outcome == "well":
            return f"{self.name} serves what is known to be good"
        if self.outcome == "mended":
            return f"{self.name} serves what is known to be good again: {'; '.join(self.drift)}"
        return f"{self.name} is left alone: {self.drift[0]}"


def watch(spec: Spec, *, progress: Progress | None = None) -> Watched:
    """Look once, and bring the server back to what is known to be good if it serves, or starts from, anything else.

    Raises LockHeld if it is being changed, ServerError if it doesn't run, RolloutError if it can't be done, and
    ClientError.
    """
    with changing(spec, "watch"):
        ledger = ledger_of(spec)
        lines = ledger.read()
        unfinished = open_release(lines)
        if unfinished is not None:
            return Watched(spec.name, "release", (
                f"{unfinished.kind} {unfinished.id} of {unfinished.model} to version {unfinished.version} is open (tfs "
                f"rollout {unfinished.model} --continue, or --abort)",))
        drift = mend(spec, running_server(spec), ledger, progress=progress or silent)
        return Watched(spec.name, "mended" if drift else "well", drift)


def mend(spec: Spec, server: Server, ledger: Ledger, *, always: bool = False, progress: Progress) -> tuple[str, ...]:
    """What was wrong, in sentences; it isn't any more. always: reload even if nothing shows a reason, as for a server
    that refuses correct configurations. Whoever calls holds the lock. Raises as `watch`."""
    part, file = spec.rollout, ConfigFile(backends.config(spec, server))
    now = file.read() if file.exists else pb.ModelServerConfig()
    wanted = desired(now, _proven(spec, ledger), backends.backend_of(server).layout(spec).base_paths)
    drift = (*file_drift(now, wanted), *_live_drift(spec, server, wanted))
    if not drift and not always:
        return ()
    for sentence in drift:
        progress(sentence)
    _check_paths(server, wanted)
    _each(spec, server, lambda _, one: check_named(spec, one, wanted))
    check_held()
    file.write(wanted)
    _each(spec, server, lambda _, one: restore(_rpc(one), file, Deadline(part.load_timeout),
                                               reload_timeout=part.reload_timeout, progress=progress))
    left = _live_drift(spec, server, wanted)
    if left:
        raise RolloutError(f"{spec.name} was told what is known to be good, and still: {left[0]}", id="still-drifting",
                           hint="somebody may be changing it at the same time, or its config file may be polled")
    if drift:
        ledger.append("mended", drift=list(drift), by=whoami())
    return drift


def _proven(spec: Spec, ledger: Ledger) -> dict[str, ServedModel]:
    """The spec's models as they are known to be good; those that follow a policy are the server's own affair."""
    lines, models = ledger.read(), {}
    for model in spec.models:
        serving = proven(lines, model.name)
        if serving is not None and isinstance(model.versions, Specific):
            models[model.name] = ServedModel(model.name, model.base_path, Specific(tuple(serving.versions)),
                                             serving.labels)
    return models


def desired(now: pb.ModelServerConfig, models: Mapping[str, ServedModel], base_paths: Mapping[str, str]
            ) -> pb.ModelServerConfig:
    """The config file with what is known to be good; entries of others stay. base_paths: for models that it lacks."""
    config = pb.ModelServerConfig()
    config.CopyFrom(now)
    config.model_config_list.SetInParent()
    there = {entry.name for entry in now.model_config_list.config}
    missing = [model for name, model in models.items() if name not in there]
    config.model_config_list.MergeFrom(models_config(missing, base_paths).model_config_list)
    for name, model in models.items():
        assert isinstance(model.versions, Specific)
        config = configs.replaced(config, name, Serving(frozenset(model.versions.versions), model.labels))
    return config


def file_drift(now: pb.ModelServerConfig, wanted: pb.ModelServerConfig) -> Iterator[str]:
    """Where the config file isn't what it should be, in sentences."""
    there = {entry.name: entry for entry in now.model_config_list.config}
    for entry in wanted.model_config_list.config:
        before = there.get(entry.name)
        if before is None:
            yield f"the config file didn't name {entry.name}"
        elif before != entry:
            named = str(configs.serving_of(before)) if configs.pinned(before) else "what a policy chooses"
            yield f"the config file named {named} of {entry.name}, not {configs.serving_of(entry)}"


def _live_drift(spec: Spec, server: Server, wanted: pb.ModelServerConfig) -> tuple[str, ...]:
    """Where a replica serves something else than is wanted, in sentences."""
    sentences: list[str] = []
    several = backends.backend_of(server).capabilities.replicas

    def look(replica: str, one: Client) -> None:
        for entry in filter(configs.pinned, wanted.model_config_list.config):
            serving = configs.serving_of(entry)
            live = _live(spec, _rpc(one), entry.name, serving)
            if live != serving:
                sentences.append(f"{entry.name} was served as {live}, not {serving}{f' ({replica})' * several}")

    _each(spec, server, look)
    return tuple(sentences)


def _each(spec: Spec, server: Server, ask: Callable[[str, Client], object]) -> None:
    """Ask every replica, but for those that go meanwhile. Raises DeployError."""
    for replica in server.replicas():
        with closing(client.connect(replica.endpoint, timeout=spec.smoke.timeout)) as connected:
            try:
                ask(replica.name, connected)
            except DeployError:
                if replica in server.replicas():
                    raise


def _rpc(connected: Client) -> ReloadControl:
    assert connected.rpc is not None
    return connected.rpc


def _live(spec: Spec, control: ReloadControl, model: str, wanted: Serving) -> Serving:
    """What is served, once the server has loaded what is wanted and loading. Raises RolloutError for a wanted version
    that has failed."""
    statuses: dict[int, VersionStatus] = {}

    def settled() -> bool | None:
        statuses.clear()
        statuses.update(_statuses(control, model))
        return None if any(v in wanted.versions and s.state in COMING for v, s in statuses.items()) else True

    poll(settled, Deadline(spec.rollout.load_timeout))
    failed = next((s for v, s in sorted(statuses.items()) if v in wanted.versions and s.failed), None)
    if failed is not None:
        raise RolloutError(f"{model}/{failed.version}, which is known to be good, can't be loaded: {failed.error}",
                           hint=PERMANENTLY_FAILED, id="permanently-failed")
    names = {*wanted.labels, spec.rollout.label, *filter(None, [spec.rollout.canary_label])}
    labels = {name: version for name in sorted(names) if (version := _resolve(control, model, name)) is not None}
    loaded = frozenset(v for v, s in statuses.items() if s.serving)
    return Serving(loaded, {name: version for name, version in labels.items() if version in loaded})


def _statuses(control: Control, model: str) -> dict[int, VersionStatus]:
    try:
        return {s.version: s for s in control.status(ModelRef(model))}
    except Rejected as e:
        if unserved(e):
            return {}
        raise


def _resolve(control: Control, model: str, label: str) -> int | None:
    try:
        return control.metadata(ModelRef(model, label=label)).version
    except Rejected as e:
        if answers_no(e):
            return None
        raise


def _check_paths(server: Server, wanted: pb.ModelServerConfig) -> None:
    missing = server.missing([entry.base_path for entry in wanted.model_config_list.config])
    if missing:
        raise RolloutError(f"the server doesn't find {missing[0]}", details={"missing": missing},
                           hint="a reload that names a missing path hangs, and all later ones with it: put it back",
                           id="base-path-missing")

"""Four answers to "what is served of this model?": the spec, the ledger, the config file, the server. Do they agree?

Pure: values in, sentences out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from deploy.backends import ConfigStore
from deploy.errors import ServerError, SpecError
from deploy.render import models_config
from deploy.render.configs import MODELS
from deploy.state import Release
from deploy.types import All, ServedModel, Serving, Specific
from deploy.wire import config_pb2
from deploy.wire.model_config import policy_of, set_served
from deploy.wire.text import from_text

Kind = Literal["file", "rpc", "poller", "disk", "release"]


class Drift(NamedTuple):
    """One disagreement. kind: file (edited by hand), rpc (pushed by others), poller (about to undo what is live), disk
    (a version is gone), release (one is open: so what is served isn't final)."""

    kind: Kind
    model: str
    message: str


@dataclass(frozen=True, slots=True)
class Views:
    """One model, seen from everywhere.

    spec: what the spec means with what is on disk now. ledger: what is known good since, None if nothing.
    file: what the config file means; None if it doesn't name the model or can't be read. live: what the server serves.
    on_disk: None where nobody can see what the server has.
    edited: why the file isn't what was written, "" if it is. unloaded: versions that the server let go, without error.
    release: the one that is open. polls: whether the server reads the file again and again. forgets: whether it starts
    from another one.
    """

    model: str
    spec: Serving
    ledger: Serving | None
    file: Serving | None
    live: Serving | None
    on_disk: frozenset[int] | None
    edited: str = ""
    unloaded: frozenset[int] = frozenset()
    release: Release | None = None
    polls: bool = False
    forgets: bool = False

    @property
    def wanted(self) -> Serving:
        return self.spec if self.ledger is None else self.ledger

    def to_json(self) -> dict[str, object]:
        return {"spec": self.spec.to_json(), "ledger": self.ledger and self.ledger.to_json(),
                "file": self.file and self.file.to_json(), "live": self.live and self.live.to_json()}


def drifts(v: Views) -> Iterator[Drift]:
    """All disagreements about a model."""
    yield from _gone(v)
    if v.release is not None:
        r = v.release
        state = f"waits before {r.paused}" if r.paused else "isn't finished"
        yield Drift("release", v.model, f"{r.kind} {r.id} of {v.model} to version {r.version} {state}; go on: "
                                        f"tfs rollout {v.model} --continue; or back: tfs rollout {v.model} --abort")
        return
    if v.edited:
        yield Drift("file", v.model, f"the config file was edited by hand: {v.edited}; change the spec instead, then "
                                     "tfs down and tfs up")
    if v.live is not None and v.file is not None and _pushed(v, v.live, v.file):
        yield _push(v, v.live, v.file)


def _gone(v: Views) -> Iterator[Drift]:
    live = v.live.versions if v.live is not None else frozenset()
    if v.on_disk is None:
        return
    for version in sorted((live | v.wanted.versions) - v.on_disk):
        served = "is served, but " if version in live else ""
        yield Drift("disk", v.model, f"{v.model}/{version} {served}isn't on disk any more: no restart could serve it; "
                                     "publish it again, or roll out another version")


def _pushed(v: Views, live: Serving, file: Serving) -> bool:
    """A version that isn't there yet, or failed, is no push."""
    moved = any(live.labels.get(label) != version for label, version in file.labels.items() if version in live.versions)
    return bool(live.versions - file.versions or file.versions & v.unloaded - live.versions
                or moved or live.labels.keys() - file.labels.keys())


def _push(v: Views, live: Serving, file: Serving) -> Drift:
    views = f"{v.model} is served as {live}, and the config file says {file}"
    if v.polls:
        return Drift("poller", v.model, f"{views}: the server polls that file and is about to undo what was pushed; "
                                        "take model_config_file_poll_wait_seconds out of server/flags")
    if v.forgets:
        return Drift("rpc", v.model, f"{views}: it was started again from its own config file, or somebody pushed "
                                     "another configuration by RPC; tfs watch brings back what is known to be good")
    return Drift("rpc", v.model, f"{views}: somebody pushed another configuration by RPC, and a restart would undo it; "
                                 "use tfs rollout, which writes the file as well")


def edits(config: config_pb2.ModelServerConfig, models: Iterable[ServedModel],
          base_paths: Callable[[ServedModel], Collection[str]]) -> Mapping[str, str]:
    """By model, how its entry differs from what would be written for it now; models without an edit aren't there.

    base_paths: where a server may see a model's versions.
    """
    entries, differences = {e.name: e for e in config.model_config_list.config}, dict[str, str]()
    for model in models:
        entry = entries.pop(model.name, None)
        if entry is None:
            differences[model.name] = f"it has no model {model.name!r}"
            continue
        expected = models_config([model], {model.name: entry.base_path}).model_config_list.config[0]
        same = config_pb2.ModelConfig()
        same.CopyFrom(entry)
        set_served(same, policy_of(entry), entry.version_labels)  # what is left out and what is default is the same
        if entry.base_path.rstrip("/") not in base_paths(model):
            differences[model.name] = f"model {model.name!r} has the base path {entry.base_path}"
        elif same.SerializeToString(deterministic=True) != expected.SerializeToString(deterministic=True):
            differences[model.name] = f"model {model.name!r} has {_policy(entry)}, and tfs wrote {_policy(expected)}"
    for name in entries:
        differences[name] = f"it has a model {name!r}, which the spec doesn't have"
    return differences


def read_config(store: ConfigStore) -> config_pb2.ModelServerConfig | None:
    """The server's models.config; None if it isn't there. Raises SpecError for one that can't be read or parsed."""
    try:
        text = store.read(MODELS)
    except ServerError as e:
        raise SpecError(e.message, hint=e.hint, id=e.id if e.id != ServerError.id else "config-unreadable") from None
    return None if text is None else from_text(text, config_pb2.ModelServerConfig, store.path(MODELS))


def _policy(entry: config_pb2.ModelConfig) -> str:
    policy = policy_of(entry)
    versions = f"versions {', '.join(map(str, policy.versions)) or 'none'}" if isinstance(policy, Specific) else \
        "all versions" if isinstance(policy, All) else f"the latest {policy.count}"
    labels = ", ".join(f"{k} -> {v}" for k, v in sorted(entry.version_labels.items()))
    platform = "" if entry.model_platform == "tensorflow" else f", platform {entry.model_platform or 'missing'}"
    return f"{versions}{f' ({labels})' if labels else ''}{platform}"


def others(drift: Iterable[Drift], *, unshared: bool) -> Iterator[str]:
    """What to know where something else has changed a server. unshared: several may operate it, and see nothing of each
    other."""
    if unshared and any(d.kind != "release" for d in drift):
        yield ("if another operator's tfs did that: what it does is seen here, and kept apart from what is done here, "
               "if all specs name one place as rollout/lock")

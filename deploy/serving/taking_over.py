"""A server of somebody else is taken over: what it is to be told when anything changes, and what that would unload.

A reload names every model. One that is served and that nobody has named is gone with the first release; so the config
file is read where it can be, and the server's metrics are asked for the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from deploy import backends, client
from deploy.backends import ConfigStore, Progress, Server
from deploy.client import Client
from deploy.errors import ServerError, SpecError
from deploy.render import models_config
from deploy.render.configs import MODELS
from deploy.serving import adoption
from deploy.serving.drift import read_config
from deploy.serving.resolving import ResolvedModel, note_start
from deploy.spec import Spec
from deploy.state.lines import Line
from deploy.wire import config_pb2
from deploy.wire.text import to_text

_UNSEEN = ("the server has no config file that tfs can read, and shows no metrics: a model that the spec doesn't have "
           "can't be seen, and the first release unloads it")


def take_over(spec: Spec, server: Server, known_good: Spec, models: Sequence[ResolvedModel], lines: Sequence[Line],
              *, progress: Progress) -> None:
    """Keep what a server, which is ready, is to be told: all of it the first time, then what the spec has got since.

    Raises SpecError if that would drop a model, ServerError for a config file that isn't there, ClientError.
    """
    store, config = backends.config(spec), read_config(backends.config(spec))
    if config is None and spec.server.remote is not None and spec.server.remote.config_file is not None:
        raise missing_file(spec.server.remote.config_file)
    config, wanted = config or config_pb2.ModelServerConfig(), config_pb2.ModelServerConfig()
    wanted.CopyFrom(config)
    there = {entry.name for entry in config.model_config_list.config}
    added = [model for model in known_good.models if model.name not in there]
    bases = backends.backend_of(server).layout(spec).base_paths
    wanted.model_config_list.MergeFrom(models_config(added, bases).model_config_list)
    with closing(client.connect(server.endpoint)) as connected:
        for note in check_named(spec, connected, wanted):
            progress(f"note: {note}")
    if added:
        store.write({MODELS: _comments(store) + to_text(wanted)})
    begun = {line["model"] for line in lines if line["event"] in ("started", "known_good")}
    note_start(spec, [model for model in models if not model.unknown and model.name not in begun], lines)


def check_named(spec: Spec, connected: Client, config: config_pb2.ModelServerConfig,
                read: adoption.ReadMetrics | None = None) -> list[str]:
    """What can't be known of models that a server serves and this config doesn't name, in sentences. read: its metrics,
    if they needn't be asked for by themselves.

    Raises SpecError for one that is served, unless server/remote/unload names it; ClientError.
    """
    part = spec.server.remote
    if part is None:
        return []
    named = {entry.name: entry.base_path.rstrip("/") for entry in config.model_config_list.config}
    forgotten = [m.name for m in spec.models if m.name not in named and adoption.versions_served(connected, m.name)]
    if forgotten:
        raise SpecError(f"{forgotten[0]} is served, and isn't among what the server is told when anything changes: it "
                        "would be unloaded", hint="take it over: tfs up", id="unnamed-model")
    unnamed = adoption.unnamed(connected, named, read)
    for name, base in unnamed.served.items():
        if name not in part.unload:
            raise SpecError(f"the server serves {name} as well, which {spec.path.name} doesn't have: the next change "
                            "would unload it", path="models", id="unnamed-model",
                            hint=f"add it{f' (its base path there is {base})' if base else ''}, then tfs up; or, if it "
                            f"may go, say so: server/remote/unload: [{name}]")
    notes = list(unnamed.notes)
    return notes if unnamed.known or part.config_file is not None else [*notes, _UNSEEN]


def missing_file(place: str) -> ServerError:
    """A config file that nobody finds."""
    return ServerError(f"the server's config file {place} isn't there", id="config-unreadable",
                       hint="name the file that its --model_config_file names, as it is seen from here")


def _comments(store: ConfigStore) -> str:
    return "".join(line for line in (store.read(MODELS) or "").splitlines(keepends=True) if line.startswith("#"))

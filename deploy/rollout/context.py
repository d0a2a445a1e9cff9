"""What a release works with: the server of a spec, found and connected, with its config file and ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from deploy import backends, client, serving
from deploy.backends import Server
from deploy.client import Client
from deploy.errors import ServerError, SpecError
from deploy.rollout import configs
from deploy.rollout.configs import ConfigFile
from deploy.rollout.live_server import LiveServer, Timeouts
from deploy.spec import Spec
from deploy.state import Ledger, Serving, started_from
from deploy.state.releases import entry
from deploy.types import ServedModel


@dataclass(frozen=True, slots=True)
class RolloutContext:
    """Everything that a release of one model works with. model: as the spec's file says."""

    spec: Spec
    model: ServedModel
    server: Server
    client: Client
    live_server: LiveServer
    ledger: Ledger

    @property
    def entry(self) -> dict[str, object]:
        return entry(self.model)

    @property
    def known_good(self) -> Serving | None:
        """What a restart would serve by the ledger."""
        return started_from(self.ledger.read(), self.model)

    def named(self) -> Serving:
        """What the config file names."""
        return configs.serving_of(configs.find(self.live_server.file.read(), self.model.name))

    def live(self) -> Serving:
        """What is served of the model now."""
        part, known_good = self.spec.rollout, self.known_good
        names = {part.label, *filter(None, [part.canary_label]), *self.model.labels, *self.named().labels,
                 *(known_good.labels if known_good else ())}
        loaded = {v for v, s in self.live_server.statuses().items() if s.serving}
        return Serving(frozenset(loaded), {k: v for k, v in self.live_server.labels(names).items() if v in loaded})


def model_of(spec: Spec, name: str) -> ServedModel:
    """Raises SpecError if the spec has no such model."""
    for model in spec.models:
        if model.name == name:
            return model
    raise SpecError(f"there is no model {name!r} in {spec.path.name}",
                    hint=f"it has {', '.join(m.name for m in spec.models)}")


def running(spec: Spec) -> bool:
    """Whether the spec's server runs."""
    server = serving.find(spec)
    return server is not None and server.alive()


@contextmanager
def rollout_context(spec: Spec, name: str) -> Iterator[RolloutContext]:
    """Raises SpecError for an unknown model, ServerError if the server doesn't run."""
    model, server = model_of(spec, name), serving.find(spec)
    if server is None or not server.alive():
        raise ServerError(f"{spec.name} isn't running", hint="start it: tfs up")
    part = spec.rollout

    def memory() -> int | None:
        memory = server.memory()
        return memory.used if memory else None

    def gone() -> bool:
        restarts = backends.backend_of(server).capabilities.restarts and spec.server.restart != "no"
        return not restarts and not server.alive()

    with closing(client.connect(server.endpoint, timeout=spec.smoke.timeout)) as connected:
        assert connected.rpc is not None
        live_server = LiveServer(
            name, connected.rpc, ConfigFile(backends.config(spec, server)),
            others=[connected.rest] if connected.rest else [], memory=memory, gone=gone, instance=server.instance,
            timeouts=Timeouts(reload=part.reload_timeout, load=part.load_timeout, patience=part.patience))
        yield RolloutContext(spec, model, server, connected, live_server, Ledger(spec.state_dir))

"""Are all servers ready? Asked of each at the same time, with the same rule as for one (see serving.ready)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deploy.errors import DeployError, NotReady
from deploy.fleet.parallel import ServerResult, everywhere
from deploy.serving.ready import Prober, ReadyAnswer
from deploy.spec import Spec


@dataclass(frozen=True, slots=True)
class FleetReady:
    """What each server's answer is. interrupted: Ctrl-C came first, at least for one."""

    results: tuple[ServerResult[ReadyAnswer], ...]

    @property
    def ready(self) -> bool:
        return all(result.value is not None and result.value.ready for result in self.results)

    @property
    def interrupted(self) -> bool:
        return any(result.interrupted for result in self.results)

    def to_json(self) -> dict[str, Any]:
        return {"ready": self.ready, "servers": {result.server: _data(result) for result in self.results}}


def _data(result: ServerResult[ReadyAnswer]) -> dict[str, Any]:
    if result.value is not None:
        return result.value.to_json()
    error = result.error if isinstance(result.error, DeployError) else NotReady(f"it couldn't be asked: {result.error}")
    return {"ready": False, **error.to_json()}


class FleetProber:
    """Asks all servers again and again; see serving.ready.Prober. timeout: seconds for one question."""

    def __init__(self, servers: Sequence[Spec], *, timeout: float = 5.0) -> None:
        self._servers = tuple(servers)
        self._probers = {spec.name: Prober(spec, timeout=timeout) for spec in servers}

    def ask(self) -> FleetReady:
        """Look once, at all of them."""
        return FleetReady(everywhere(self._servers, lambda spec, _: self._probers[spec.name].ask()))

"""A live server back to what its file names, whatever others have pushed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from deploy import client, testing
from deploy.backends.backend import LocalConfig
from deploy.client.rpc import RpcClient
from deploy.errors import ClientError, Rejected, RolloutError
from deploy.modelserver.loader import Model
from deploy.render.configs import MODELS, models_config
from deploy.rollout import ConfigFile, LiveServer, restore
from deploy.testing import echo
from deploy.types import ServedModel, Specific
from deploy.waiting import Deadline
from deploy.wire import serving_pb2 as pb
from deploy.wire.text import to_text
from tests.support.rollout import MODEL, OLD, Busy, Hurried, adds, bench


def test_what_others_pushed_is_undone(tmp_path: Path) -> None:
    with bench(tmp_path) as there:
        config = there.file.read()
        config.model_config_list.config[0].model_version_policy.specific.versions[:] = [2]
        config.model_config_list.config[0].version_labels.clear()
        there.asked.reload(config)
        assert there.asked.rpc is not None
        restore(there.asked.rpc, there.file, Deadline(5))
        assert there.live == OLD


def test_a_wrong_platform_is_repaired(tmp_path: Path) -> None:
    """Fact: the corrected configuration is refused until one without that model was accepted."""
    models = {name: {1: adds(1), 2: adds(2)} for name in ("a", "b")}
    served = [ServedModel(name, f"memory://{name}", Specific((1,)), {"stable": 1}) for name in models]
    file = ConfigFile(LocalConfig(tmp_path))
    (tmp_path / MODELS).write_text(to_text(models_config(served, {m.name: m.base_path for m in served})))
    with testing.serve(models, versions=Specific((1,)), labels={name: {"stable": 1} for name in models}) as server, \
            client.connect(server.endpoint) as asked:
        wood = models_config(served, {m.name: m.base_path for m in served})
        wood.model_config_list.config[1].model_platform = "wood"
        asked.reload(models_config(served[:1], {"a": "memory://a"}))
        for config in (wood, file.read()):
            with pytest.raises(Rejected):
                asked.reload(config)
        assert asked.rpc is not None
        restore(asked.rpc, file, Deadline(5))
        for name in models:
            assert asked.resolve(f"{name}@stable").version == 1


class Noting:
    """Notes where `stable` leads in each configuration that is pushed."""

    def __init__(self, rpc: RpcClient) -> None:
        self.status, self._rpc, self.seen = rpc.status, rpc, list[int | None]()

    def reload(self, config: pb.ModelServerConfig, *, timeout: float | None = None) -> None:
        self.seen.append(dict(config.model_config_list.config[0].version_labels).get("stable"))
        self._rpc.reload(config, timeout=timeout)


def test_a_busy_server_keeps_its_labels(tmp_path: Path) -> None:
    with bench(tmp_path) as there:
        assert there.asked.rpc is not None
        noting = Noting(there.asked.rpc)
        restore(Busy(noting), there.file, Deadline(300, Hurried()))  # type: ignore[arg-type]
        assert set(noting.seen) == {1} and there.live == OLD


class Refusing:
    """Takes nothing."""

    def status(self, *_: object, **__: object) -> list[object]:
        return []

    def reload(self, *_: object, **__: object) -> None:
        raise Rejected("no", code="FAILED_PRECONDITION")


def test_a_server_that_takes_nothing(tmp_path: Path) -> None:
    with bench(tmp_path) as there, pytest.raises(RolloutError, match="refuses every configuration") as e:
        restore(Refusing(), there.file, Deadline(5))  # type: ignore[arg-type]
    assert "tfs down, tfs up" in e.value.hint and not isinstance(e.value, ClientError) and MODEL


def test_nothing_is_served_of_a_model_that_the_server_doesnt_know(tmp_path: Path) -> None:
    with testing.serve({MODEL: {1: None}}) as made, client.connect(made.endpoint) as asked:
        assert asked.rpc is not None
        live = LiveServer("other", asked.rpc, ConfigFile(LocalConfig(tmp_path)))
        assert live.statuses() == {}


def test_served_means_that_every_version_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server itself is content with one version of a model; a test that begins then would see more come."""
    load, others = echo._Memory.load, threading.Event()

    def late(self: echo._Memory, name: str, version: int, path: str) -> Model:
        if version == 1:
            others.wait(0.3)  # nobody sets it: longer than the others take
        return load(self, name, version, path)

    monkeypatch.setattr(echo._Memory, "load", late)
    with testing.serve({MODEL: {1: None, 4: None, 5: None}}) as made:
        assert {s.version for s in made.statuses(MODEL) if s.serving} == {1, 4, 5}

"""Spec, ledger, config file and server disagree: who did what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy import serving
from deploy.errors import StartFailed
from deploy.readiness import in_transit
from deploy.render import models_config
from deploy.serving import observe as looking
from deploy.serving import planning
from deploy.serving import start_record as memory
from deploy.serving.drift import Views, drifts, edits
from deploy.serving.preflight import misspelled
from deploy.serving.start_record import changes, remember_failure, remember_start
from deploy.spec import ServerPart, Spec
from deploy.state import Ledger, Release
from deploy.types import Endpoint, ServedModel, Serving, Specific
from deploy.wire.text import to_text
from tests.support.serving import FakeControl, FakeServer, available, spec_at

ONE, TWO = Serving(frozenset({1}), {"stable": 1}), Serving(frozenset({2}), {"stable": 2})
BOTH = Serving(frozenset({1, 2}), {"stable": 1})
DISK = frozenset({1, 2})
OPEN = Release("r1", "m", "rollout", 2, ONE, TWO, {}, "2026-01-01T00:00:00+00:00")


def views(spec: Serving = ONE, ledger: Serving | None = None, file: Serving | None = ONE, live: Serving | None = ONE,
          on_disk: frozenset[int] = DISK, **more: Any) -> Views:
    return Views("m", spec, ledger, file, live, on_disk, **more)


@pytest.mark.parametrize(("seen", "kinds"), [
    (views(), []),
    (views(ledger=TWO, file=TWO, live=TWO), []),  # rolled out: the spec isn't asked any more
    (views(live=None), []),
    (views(file=None), []),
    (views(edited="it names version 3"), ["file"]),
    (views(live=TWO), ["rpc"]),
    (views(live=BOTH), ["rpc"]),
    (views(live=Serving(frozenset({1}), {"stable": 1, "canary": 1})), ["rpc"]),
    (views(live=Serving(frozenset({1, 2}), {"stable": 2}), file=Serving(frozenset({1, 2}), {"stable": 1})), ["rpc"]),
    (views(live=TWO, polls=True), ["poller"]),
    (views(live=Serving()), []),  # loading, or failed: a problem, but nobody pushed anything
    (views(live=Serving(), unloaded=frozenset({1})), ["rpc"]),
    (views(on_disk=frozenset()), ["disk"]),
    (views(on_disk=frozenset({2})), ["disk"]),
    (views(live=BOTH, release=OPEN), ["release"]),
])
def test_each_drift_has_its_name(seen: Views, kinds: list[str]) -> None:
    assert [d.kind for d in drifts(seen)] == kinds


@pytest.mark.parametrize(("live", "fine"), [
    (ONE, True), (TWO, True), (BOTH, True), (Serving(frozenset({1, 2}), {"stable": 2}), True),
    (Serving(frozenset({1, 2}), {"stable": 1, "canary": 2}), True),
    (Serving(), False), (Serving(frozenset({1, 3}), {"stable": 1}), False), (Serving(frozenset({1, 2})), False),
])
def test_steps_of_an_open_release_are_no_problem(live: Serving, fine: bool) -> None:
    assert in_transit(OPEN, live) is fine and not in_transit(None, live)


def test_edits_of_the_file_are_named() -> None:
    def base_paths(model: ServedModel) -> tuple[str, ...]:
        return model.base_path, f"/models/{model.name}"

    wrote = [ServedModel("m", "/r/m", Specific((1,)), {"stable": 1}), ServedModel("n", "/r/n", Specific((1,)))]
    config = models_config(wrote, {"m": "/models/m", "n": "/r/n"})
    assert edits(config, wrote, base_paths) == {}
    config.model_config_list.config[0].version_labels["stable"] = 2
    config.model_config_list.config[1].name = "o"
    found = edits(config, wrote, base_paths)
    assert found["m"] == ("model 'm' has versions 1 (stable -> 2), and tfs wrote versions 1 (stable -> 1)")
    assert found["n"] == "it has no model 'n'" and "which the spec doesn't have" in found["o"]
    config.model_config_list.config[0].base_path = "/elsewhere"
    assert edits(config, wrote, base_paths)["m"] == "model 'm' has the base path /elsewhere"


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    for version in ("1", "2"):
        (tmp_path / "models/m" / version).mkdir(parents=True)
    return spec_at(tmp_path, "models: [{name: m, versions: [1], labels: {stable: 1}}]", grpc_port=8500, rest_port=8501)


class Described(FakeServer):
    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "running": self.alive(), "returncode": self.code, "kind": self.kind}


def look(spec: Spec, monkeypatch: pytest.MonkeyPatch, *versions: int, stable: int = 1, argv: tuple[str, ...] = ()
         ) -> dict[str, Any]:
    found = Described(endpoint=Endpoint(), argv=("server", *argv),
                      labels={planning.CONFIG_LABEL: planning.digest(spec)})
    monkeypatch.setattr(looking.backends, "find", lambda spec: found)
    control = FakeControl({"m": [available(*versions)]}, {"m@stable": stable})
    return serving.status(spec, connect=lambda _: {"gRPC": control}).to_json()


def written(spec: Spec, serving: Serving) -> None:
    model = ServedModel("m", "/models/m", Specific(tuple(serving.versions)), dict(serving.labels))
    (spec.state_dir / "config").mkdir(parents=True)
    (spec.state_dir / "config/models.config").write_text(to_text(models_config([model], {"m": "/models/m"})))


def test_status_tells_all_four_views(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    written(spec, ONE)
    told = look(spec, monkeypatch, 1)
    assert told["ready"] and told["drift"] == []
    (model,) = told["models"]
    assert model["spec"] == model["file"] == model["live"] == {"versions": [1], "labels": {"stable": 1}}
    assert model["ledger"] is None


def test_a_push_by_others_and_the_poller_that_undoes_it(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    written(spec, ONE)
    assert [d["kind"] for d in look(spec, monkeypatch, 2, stable=2)["drift"]] == ["rpc"]
    polled = look(spec, monkeypatch, 2, stable=2, argv=("--model_config_file_poll_wait_seconds=5",))
    assert [d["kind"] for d in polled["drift"]] == ["poller"] and not polled["ready"]


def test_an_edited_and_a_broken_file(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    written(spec, TWO)
    drift = look(spec, monkeypatch, 1)["drift"]
    assert drift[0]["kind"] == "file" and "versions 2 (stable -> 2), and tfs wrote versions 1" in drift[0]["message"]
    (spec.state_dir / "config/models.config").write_text("model_config_list {")
    assert "can't be read" in look(spec, monkeypatch, 1)["drift"][0]["message"]


def test_an_open_release_is_told_and_is_no_problem(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    written(spec, ONE)
    Ledger(spec.state_dir).append("begin", release="r1", model="m", kind="rollout", version=2, by={},
                                  before=ONE.to_json(), goal=TWO.to_json())
    told = look(spec, monkeypatch, 1, 2)
    assert told["ready"] and [d["kind"] for d in told["drift"]] == ["release"]


def test_what_changed_since_the_start_is_named(spec: Spec) -> None:
    remember_start(spec)
    digest = planning.digest(spec)
    assert changes(spec, digest) == []
    server: ServerPart = memory_replace(spec.server, image="other:1", flags={"num_load_threads": 2})
    changed = changes(memory_replace(spec, server=server), digest)
    assert changed == ['server/flags/num_load_threads is 2 in the spec, and was the default at the start',
                       'server/image is "other:1" in the spec, and was the default at the start; '
                       'was it started with --image?']
    assert changes(spec, "sha256:another") == ["it was started with another configuration"]


def memory_replace(struct: Any, **changed: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(struct, **changed)


def test_a_failed_start_is_remembered_until_one_succeeds(spec: Spec) -> None:
    assert memory.failure(spec) is None
    remember_failure(spec, StartFailed("it ended", argv=["server"], logs="Permission denied", returncode=255))
    told = memory.failure(spec)
    assert told is not None and told["details"]["logs"] == "Permission denied"
    remember_start(spec)
    assert memory.failure(spec) is None


@pytest.mark.parametrize(("flag", "meant"), [
    ("enable_bathing", "is --enable_batching meant?"), ("rest-api-port", "is --rest_api_port meant?"),
    ("xyzzy", "goes on without it"),
])
def test_misspelled_flags(flag: str, meant: str) -> None:
    (sentence,) = misspelled([flag, "enable_batching", "tfs_loader"])
    assert sentence.startswith(f"server/flags/{flag}: ") and sentence.endswith(meant)



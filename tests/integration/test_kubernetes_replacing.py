"""Pods are replaced for another image or other flags: tested beside the old ones first, under load, and undone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy import rollout, serving
from deploy.errors import DeployError, LockHeld, RolloutError, ServerError
from deploy.repository import Repository
from deploy.rollout.replacing_driver import ReplacementDriver
from deploy.spec import KubernetesPart, ModelsPart, ServicePart, Spec
from deploy.spec.server import Resources
from deploy.state import Ledger
from deploy.state.replacement import replacements
from tests.support.peers.kubernetes import VERSION, Namespace, namespace
from tests.support.peers.pods import part_of, under_load
from tests.support.servers import engine_or_skip, server_image_or_skip
from tests.support.serving import spec_at

pytestmark = [pytest.mark.kubernetes, pytest.mark.docker, pytest.mark.tensorflow]
TEXT = """
name: half-plus
models:
  - {name: half, versions: [1], labels: {stable: 1}}
rollout: {soak: 0.2, hold: 0.2, interval: 0.1, patience: 20}
"""
FLAG = {"rest_api_timeout_in_ms": 12345}


@pytest.fixture
def place() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


@pytest.fixture
def kind() -> str:
    return "deployment"


@pytest.fixture
def spec(place: Namespace, kind: str, models: Path, tmp_path: Path) -> Iterator[Spec]:
    """Two pods that serve half/1."""
    Repository(tmp_path / "models").publish(models / "half_plus_two", "half")
    ports = random.sample(range(30100, 32700), 2)
    part = KubernetesPart(version=VERSION, namespace=place.name, replicas=2, pull_policy="Never", kind=kind,
                          models=ModelsPart(host_path=str(tmp_path / "models")),
                          service=ServicePart(type="NodePort", grpc_node_port=ports[0], rest_node_port=ports[1]))
    made = spec_at(tmp_path, TEXT, backend="kubernetes", image=server_image_or_skip(engine_or_skip()), drain=3.0,
                   start_timeout=60.0, kubernetes=part)
    serving.up(made)
    yield made
    with suppress(DeployError):
        serving.down(with_server(made, drain=0.0))


def with_server(spec: Spec, **changes: Any) -> Spec:
    return msgspec.structs.replace(spec, server=msgspec.structs.replace(spec.server, **changes))


def with_part(spec: Spec, **changes: Any) -> Spec:
    return with_server(spec, kubernetes=msgspec.structs.replace(part_of(spec), **changes))


def pods(place: Namespace) -> dict[str, str]:
    """By name: which one it is, since a StatefulSet's keep their names."""
    return {p["metadata"]["name"]: p["metadata"]["uid"] for p in place.pods()
            if not p["metadata"].get("deletionTimestamp")}


def with_flag(place: Namespace) -> list[bool]:
    return ["--rest_api_timeout_in_ms=12345" in p["spec"]["containers"][0]["args"] for p in place.pods()
            if not p["metadata"].get("deletionTimestamp")]


def test_what_changes_no_pod_is_applied_by_up(spec: Spec, place: Namespace) -> None:
    before, told = pods(place), list[str]()
    more = with_part(spec, replicas=3)
    assert rollout.plan_replacement(more).replacing == ()
    up = serving.up(more, progress=told.append)
    assert up.already and before.items() < pods(place).items() and len(pods(place)) == 3
    assert any("spec.replicas: 2 -> 3" in line for line in told), told
    assert serving.status(more).ready
    assert rollout.replace_replicas(more).outcome == "none"


def test_other_flags_come_by_new_pods_while_clients_ask(spec: Spec, place: Namespace) -> None:
    before, changed, told = pods(place), with_server(spec, flags=FLAG), list[str]()
    with pytest.raises(ServerError, match=r"args: .*with --rest_api_timeout_in_ms=12345") as refused:
        serving.up(changed)
    assert refused.value.id == "other-configuration" and "--replace-pods" in refused.value.hint
    with under_load(spec) as load:
        done = rollout.replace_replicas(changed, note="a shorter timeout", progress=told.append)
    assert done.outcome == "done" and with_flag(place) == [True, True] and not before.keys() & pods(place).keys(), told
    assert not load.failed and load.answers.total() > 20, load.failed
    assert any(" beside " in line and "up to 0 apart" in line for line in told), told
    assert serving.up(changed).already and serving.status(changed).ready
    (entry,) = replacements(Ledger(spec.state_dir).read())
    assert (entry.outcome, entry.note) == ("done", "a shorter timeout") and "12345" in entry.replacing[0]
    assert rollout.replace_replicas(changed).outcome == "none"


@pytest.mark.parametrize(("changes", "why"), [({"image": "tfs-deploy/none:1"}, "tfs-deploy/none:1"),
                                              ({"resources": Resources(memory="24m")}, "OOMKilled|exit code")])
def test_what_does_not_start_touches_no_old_pod(spec: Spec, place: Namespace, changes: dict[str, Any], why: str
                                                ) -> None:
    before = pods(place)
    with pytest.raises(RolloutError, match=why) as undone:
        rollout.replace_replicas(with_server(spec, **changes))
    assert undone.value.id == "replacement-undone"
    assert pods(place) == before and serving.status(spec).ready and serving.up(spec).already
    (entry,) = replacements(Ledger(spec.state_dir).read())
    assert entry.outcome == "undone" and entry.reason


class KilledError(BaseException):
    """As kill -9: nothing is done after it."""


@pytest.mark.parametrize("kind", ["deployment", "statefulset"])
def test_killed_at_each_step_it_is_gone_on_with_or_undone(spec: Spec, place: Namespace,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    """By turns: it is run again after each step until it is done; or undone by another operator after some steps."""
    take, left = ReplacementDriver._take, [0]

    def mortal(self: ReplacementDriver, *args: Any) -> None:
        if not left[0]:
            raise KilledError
        left[0] -= 1
        take(self, *args)

    monkeypatch.setattr(ReplacementDriver, "_take", mortal)
    changed = with_server(spec, flags=FLAG)
    for steps in (1, 3):
        left[0] = steps
        with pytest.raises(KilledError):
            rollout.replace_replicas(changed)
        with pytest.raises(LockHeld, match="isn't finished"):
            serving.up(spec)
        with pytest.raises(LockHeld, match="isn't finished"):
            rollout.replace_replicas(with_server(spec, flags={"rest_api_num_threads": 3}))
    left[0] = 100
    assert rollout.abort_replacement(changed, "another day").outcome == "undone"
    assert with_flag(place) == [False, False] and serving.up(spec).already
    for steps in (4, 100):
        left[0] = steps
        with suppress(KilledError):
            assert rollout.replace_replicas(changed).outcome == "done"
    assert with_flag(place) == [True, True] and serving.up(changed).already

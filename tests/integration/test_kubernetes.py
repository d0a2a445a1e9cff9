"""A server of several pods in a real cluster: up, releases while clients ask, pods that go in the middle, down."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from deploy import rollout, serving, smoke
from deploy.errors import DeployError, ServerError
from deploy.render.kubernetes import labels, manifests, role
from deploy.render.kubernetes.roles import RoleVerb
from deploy.repository import Repository
from deploy.serving.doctor.diagnosis import diagnose
from deploy.serving.ready import ready
from deploy.spec import KubernetesPart, ModelsPart, Monitoring, ServicePart, Spec
from tests.support.peers.kubernetes import VERSION, Namespace, kill_container, namespace
from tests.support.peers.pods import ONE, TWO, each, named, part_of, under_load
from tests.support.servers import engine_or_skip, server_image_or_skip, until
from tests.support.serving import spec_at

pytestmark = [pytest.mark.kubernetes, pytest.mark.docker, pytest.mark.tensorflow]
TEXT = """
name: half-plus
models:
  - {name: half, versions: [1], labels: {stable: 1}}
rollout: {soak: 0.2, hold: 0.2, interval: 0.1, patience: 20}
"""


@pytest.fixture
def place() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


@pytest.fixture
def unstarted(place: Namespace, models: Path, tmp_path: Path) -> Spec:
    """half/1 is to be served by three pods; 2 has another offset, 3 can't be loaded."""
    repository = Repository(tmp_path / "models")
    for name in ("half_plus_two", "half_plus_three"):
        repository.publish(models / name, "half")
    ports = random.sample(range(30100, 32700), 2)
    part = KubernetesPart(version=VERSION, namespace=place.name, replicas=3, pull_policy="Never",
                          models=ModelsPart(host_path=str(tmp_path / "models")),
                          service=ServicePart(type="NodePort", grpc_node_port=ports[0], rest_node_port=ports[1]))
    return spec_at(tmp_path, TEXT, backend="kubernetes", image=server_image_or_skip(engine_or_skip()), drain=3.0,
                   start_timeout=90.0, kubernetes=part, monitoring=Monitoring())


@pytest.fixture
def spec(unstarted: Spec) -> Iterator[Spec]:
    serving.up(unstarted)
    yield unstarted
    with suppress(DeployError):
        serving.down(msgspec.structs.replace(unstarted, server=msgspec.structs.replace(unstarted.server, drain=0.0)))


def pods(place: Namespace) -> dict[str, int]:
    """By name: how often its server was started again."""
    return {p["metadata"]["name"]: p["status"]["containerStatuses"][0]["restartCount"] for p in place.pods()
            if not p["metadata"].get("deletionTimestamp")}


def test_up_asks_each_pod_and_down_leaves_nothing_of_ours(unstarted: Spec, place: Namespace) -> None:
    stranger = place.create("configmaps", {"metadata": {"name": "strangers"}, "data": {"a": "b"}})
    spec, told = unstarted, list[str]()
    up = serving.up(spec, progress=told.append)
    assert up.backend == "kubernetes" and any("of 3 pods run" in line for line in told), told
    status = serving.status(spec)
    assert status.ready, status.problems
    assert len(status.facts["pods"]) == 3 and {p["state"] for p in status.facts["pods"]} == {"ready"}
    assert each(spec) == [ONE] * 3 and ready(spec).ready and serving.up(spec).already
    for replica in up.server.replicas():
        smoke.smoke_test(replica.endpoint, spec.models, smoke.source_of(spec)).raise_if_failed()
    assert len({line.partition(" | ")[0] for line in serving.logs(spec, 20).splitlines()}) == 3
    assert diagnose(spec).well, diagnose(spec).causes
    assert serving.down(spec) and not serving.down(spec)
    left = [p for p in place.pods() if not p["metadata"].get("deletionTimestamp")]
    maps = place.cluster.list(("v1", "ConfigMap"))
    assert not left and stranger["metadata"]["name"] in {m["metadata"]["name"] for m in maps}
    assert "half-plus-config" not in {m["metadata"]["name"] for m in maps}


def test_ten_releases_while_clients_ask_and_a_pod_goes_in_the_middle(spec: Spec, place: Namespace) -> None:
    began, before, gone = time.monotonic(), pods(place), ""
    with under_load(spec) as load:
        for number in range(5):
            rollout.roll_out(spec, "half", 2)
            assert each(spec) == [TWO] * len(each(spec)) and named(spec) == TWO
            if number == 2:
                killed = next(iter(before))
                timer = threading.Timer(1.0, place.delete, [f"pods/{killed}"])
                timer.start()
                gone = time.strftime("%X")
            rollout.roll_back(spec, "half")
            assert named(spec) == ONE
        until(lambda: time.monotonic() - began > 30, "thirty seconds are over", seconds=60)
    assert not load.failed, "\n".join([f"the pod went at {gone}", *load.failed])
    assert load.answers[3.0] > 50 and load.answers[4.0] > 50, load.answers
    after = pods(place)
    assert len(before.keys() & after.keys()) == 2 and not any(after.values()), "nothing else was restarted"
    until(lambda: ready(spec).ready, "all pods are ready", seconds=60, evidence=lambda: ready(spec))
    assert each(spec) == [ONE] * 3


def with_part(spec: Spec, **changes: object) -> Spec:
    part = msgspec.structs.replace(part_of(spec), **changes)
    return msgspec.structs.replace(spec, server=msgspec.structs.replace(spec.server, kubernetes=part))


def test_each_command_runs_with_the_rights_of_its_role_through_the_api_server(
        unstarted: Spec, place: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an operator elsewhere: pods are reached through the API server only."""
    spec = with_part(unstarted, reach="api", replicas=2)

    @contextmanager
    def may(verb: RoleVerb, without: str = "") -> Iterator[None]:
        rules = [r for r in role(spec, verb, manifests(spec))["rules"] if without not in r["resources"]]
        with monkeypatch.context() as patch:
            patch.setenv("KUBECONFIG", str(place.account(rules, tmp_path)))
            yield

    with may("up", without="services"), pytest.raises(ServerError, match="may not patch services") as e:
        serving.up(spec)
    assert e.value.id == "kubernetes-forbidden" and not place.cluster.list(("v1", "ConfigMap"), labels(spec))
    with may("up"):
        up = serving.up(spec)
    assert up.endpoint.host == "127.0.0.1"
    with may("status"):
        assert serving.status(spec).ready, serving.status(spec).problems
        assert ready(spec).ready
    with may("status", without="pods/portforward"):
        assert "doesn't answer" in ready(spec).why
    with may("doctor", without="pods/portforward"):
        assert any(c.rule == "forwarding" and "may not" in c.cause for c in diagnose(spec).causes), diagnose(spec)
    with may("logs"):
        assert serving.logs(spec, 5)
    with may("doctor"):
        assert diagnose(spec).well, diagnose(spec).causes
    with may("status"), pytest.raises(ServerError, match="may not get leases"):
        rollout.roll_out(spec, "half", 2)
    assert each(spec) == [ONE] * 2 and named(spec) == ONE
    with may("rollout"):
        if (release := rollout.history(spec)) and release[-1].open:
            rollout.abort(spec, "half")
        rollout.roll_out(spec, "half", 2)
    assert each(spec) == [TWO] * 2 and named(spec) == TWO
    with may("status"), pytest.raises(ServerError, match="may not"):
        serving.down(spec)
    assert len(each(spec)) == 2
    with may("down"):
        assert serving.down(spec)
    assert not place.cluster.list(("apps/v1", "Deployment")) and not place.cluster.list(("v1", "Service"))



def test_a_server_that_is_killed_in_the_middle_comes_back_and_is_brought_to_the_goal(spec: Spec, place: Namespace
                                                                                     ) -> None:
    told = list[str]()

    def tell(line: str) -> None:
        told.append(line)
        if line.startswith("gate: asking"):
            kill_container(place.pods()[0])

    done = rollout.roll_out(spec, "half", 2, progress=tell)
    assert done.ended.outcome == "done" and named(spec) == TWO, told
    until(lambda: ready(spec).ready, "all pods are ready", seconds=90, evidence=lambda: ready(spec))
    assert each(spec) == [TWO] * 3 and sorted(pods(place).values()) == [0, 0, 1]

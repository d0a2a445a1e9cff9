"""The command line in a pod of the cluster that it operates: an account with the least Role, no kubeconfig."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from deploy import client, serving
from deploy.render import models_config
from deploy.spec import Spec
from deploy.types import ServedModel, Serving, Specific
from tests.support.peers.kubernetes import Namespace, namespace
from tests.support.peers.pods import (
    TWO,
    each,
    half_spec,
    named,
    published,
    run_inside,
    run_job,
    running,
    tool_image,
    watch_job,
)
from tests.support.servers import until

pytestmark = [pytest.mark.kubernetes, pytest.mark.docker, pytest.mark.tensorflow]


@pytest.fixture
def place() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


def push_by_hand(spec: Spec, serving_too: int) -> None:
    """Somebody tells each pod to serve another version as well."""
    server = serving.find(spec)
    assert server is not None
    for replica in server.replicas():
        with closing(client.connect(replica.endpoint)) as connected:
            assert connected.rpc is not None
            other = ServedModel("half", "", Specific((serving_too, 2)), {"stable": 2})
            connected.rpc.reload(models_config([other], {"half": "/models/half"}), timeout=30.0)


def test_status_a_release_and_the_watch_job_in_the_cluster(place: Namespace, models: Path, tmp_path: Path) -> None:
    """The spec names a context, as operators elsewhere need it: there is no kubeconfig in a pod. Pods are asked at
    their own addresses there: a Role without port-forwarding does."""
    never = {"schedule": "0 0 1 1 *", "suspend": True}
    spec = half_spec(place, published(models, tmp_path), tmp_path / "there", context="test", tool=tool_image(),
                     watch=never)
    with running(spec):
        asked = run_inside(place, spec, "status", ["status"], ["ready"], without="pods/portforward")
        assert asked.code == 0, asked.log
        assert "half" in asked.log
        refused = run_inside(place, spec, "status", ["rollout", "half", "--to=2"])
        assert refused.code == 6, refused.log
        assert "may not get leases" in refused.log
        released = run_inside(place, spec, "rollout", ["rollout", "half", "--to=2"], ["history"],
                              without="pods/portforward")
        assert released.code == 0, released.log
        assert each(spec) == [TWO] * 2 and named(spec) == TWO
        push_by_hand(spec, 1)
        until(lambda: each(spec) == [Serving(frozenset({1, 2}), {"stable": 2})] * 2, "the other version is served")
        watched = run_job(place, watch_job(spec), "look-now")
        assert watched.code == 0, watched.log
        assert "serves what is known to be good again" in watched.log
        assert each(spec) == [TWO] * 2

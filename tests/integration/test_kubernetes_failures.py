"""A release of a StatefulSet's pods, whose tool, API server or pod goes in the middle: nothing is half-done, and
another run ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from deploy import rollout, serving
from deploy.errors import DeployError, RolloutError
from deploy.serving.ready import ready
from deploy.spec import Spec
from tests.support.peers.kubernetes import Line, Namespace, kill_container, namespace
from tests.support.peers.pods import ONE, TWO, each, half_spec, named, published, running
from tests.support.servers import until

pytestmark = [pytest.mark.kubernetes, pytest.mark.docker, pytest.mark.tensorflow]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pods")


@pytest.fixture(scope="module")
def spec(place: Namespace, models: Path, directory: Path) -> Iterator[Spec]:
    """half/1, by three pods of a StatefulSet."""
    with running(half_spec(place, published(models, directory), directory, kind="statefulset", replicas=3)) as made:
        yield made


def test_a_stateful_set_asks_each_pod(spec: Spec, place: Namespace) -> None:
    assert [pod["metadata"]["name"] for pod in place.pods()] == [f"half-plus-{n}" for n in range(3)]
    status = serving.status(spec)
    assert status.ready and [pod["name"] for pod in status.facts["pods"]] == [f"half-plus-{n}" for n in range(3)]
    assert each(spec) == [ONE] * 3 and not place.cluster.list(("apps/v1", "Deployment"))


def all_run(spec: Spec) -> bool:
    with suppress(DeployError):
        return len(each(spec)) == 3
    return False


def killed_at(line: int, spec: Spec, version: int) -> bool:
    """Whether the release had so many lines; its tool was killed after that one then."""
    ended = subprocess.run([sys.executable, "-m", "tests.support.dying", str(spec.path), "half", str(version),
                            str(line)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
    return ended.returncode != 0


def test_the_tool_killed_after_every_sixth_line_and_a_pod_with_it(spec: Spec, place: Namespace) -> None:
    """There and back: from 1 to 2, then from 2 to 1."""
    lines = range(1, 40, 6)
    for turn, line in enumerate(lines):
        version, goal = (1, ONE) if turn % 2 else (2, TWO)
        killed = killed_at(line, spec, version)
        for one in (named(spec), *each(spec)):
            assert one.versions <= {1, 2} and one.labels["stable"] in one.versions, (line, one)
        if turn == 1:
            kill_container(place.pods()[1])
        rollout.roll_out(spec, "half", version)
        if turn == 1:  # it may have started from the file of before, which kubelet brings seconds later
            until(lambda: all_run(spec), "the pod that was killed is back", seconds=60)
            rollout.watch(spec)
        assert each(spec) == [goal] * 3 and named(spec) == goal, line
        if not killed:
            break
    assert line > 12, "there are that many lines"
    if goal != ONE:
        rollout.roll_out(spec, "half", 1)


@pytest.mark.parametrize(("passed", "stable"), [("compare", 1), ("confirm", 2)])
def test_the_api_server_goes_in_the_middle(spec: Spec, place: Namespace, directory: Path, passed: str, stable: int
                                           ) -> None:
    """Before version 2 is called stable, and after: what a pod would start from stays what was proven."""
    wire = Line(place, directory)
    command = [sys.executable, "-m", "deploy", "rollout", "half", "--to=2", f"--spec={spec.path}", "--events",
               "--soak=2", "--hold=2"]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "KUBECONFIG": str(wire.kubeconfig)}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as tool:
        assert tool.stdout is not None and tool.stderr is not None
        for line in tool.stdout:
            if json.loads(line).get("check") == passed:
                wire.cut()
        said = tool.stderr.read()
        assert tool.wait(60) == 8, said
    assert said.count("the Kubernetes API server at https://127.0.0.1") == 1 and "doesn't answer" in said, said
    assert said.count("\n") == 1, said
    labels = {one.labels["stable"] for one in each(spec)}
    assert labels in ({1}, {stable}) and named(spec) == ONE, said  # where nobody had to be asked, it was undone
    with suppress(RolloutError):  # on the way back it was: that is ended first
        rollout.roll_out(spec, "half", 2)
    assert each(spec) == [named(spec)] * 3
    rollout.roll_out(spec, "half", 2)
    assert each(spec) == [TWO] * 3 and named(spec) == TWO
    rollout.roll_back(spec, "half")
    wire.close()


def test_down_takes_the_stateful_set_with_it(spec: Spec, place: Namespace) -> None:
    until(lambda: ready(spec).ready, "all pods are ready", seconds=60, evidence=lambda: ready(spec))
    assert serving.down(spec) and not place.cluster.list(("apps/v1", "StatefulSet"))
    assert not [p for p in place.pods() if not p["metadata"].get("deletionTimestamp")]

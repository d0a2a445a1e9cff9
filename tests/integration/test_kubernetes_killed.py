"""kill -9 of who replaces pods, and another operator's machine goes on with it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy import rollout, serving
from deploy.errors import DeployError
from deploy.spec import Spec, load_spec
from tests.support.peers.kubernetes import VERSION, Namespace, namespace
from tests.support.repository import savedmodel
from tests.support.servers import engine_or_skip, server_image_or_skip

pytestmark = [pytest.mark.kubernetes, pytest.mark.docker]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def place() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


def of_operator(directory: Path, place: Namespace, models: Path, kind: str, **flags: Any) -> Spec:
    """The same server, from the files of a machine of one's own: nothing is shared but the cluster."""
    directory.mkdir(exist_ok=True)
    (directory / "serving.yaml").write_bytes(msgspec.yaml.encode({
        "name": "half", "repository": str(models), "models": [{"name": "m", "versions": [1]}],
        "rollout": {"soak": 0, "hold": 0, "interval": 0.1, "patience": 10, "compare": False},
        "server": {"backend": "kubernetes", "start_timeout": 90.0, "drain": 0.0,
                   "flags": {"tfs_loader": "echo", **flags}, "image": server_image_or_skip(engine_or_skip()),
                   "kubernetes": {"version": VERSION, "namespace": place.name, "pull_policy": "Never", "kind": kind,
                                  "replicas": 2, "models": {"host_path": str(models)}}}}))
    return load_spec(directory / "serving.yaml")


@pytest.mark.parametrize("kind", ["deployment", "statefulset"])
def test_killed_between_steps_it_is_gone_on_with_by_another_operator(place: Namespace, tmp_path: Path, kind: str
                                                                     ) -> None:
    savedmodel(tmp_path / "models" / "m" / "1")
    serving.up(of_operator(tmp_path / "ann", place, tmp_path / "models", kind))
    ann, bob = (of_operator(tmp_path / name, place, tmp_path / "models", kind, rest_api_timeout_in_ms=12345)
                for name in ("ann", "bob"))
    try:
        for spec, lines in ((ann, 1), (bob, 2)):  # it is begun; one pod is tested and watched
            ended = subprocess.run([sys.executable, "-m", "tests.support.dying", str(spec.path), "m", "0", str(lines)],
                                   cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
            assert ended.returncode == -signal.SIGKILL, ended.stderr
        told = list[str]()
        assert rollout.replace_replicas(ann, progress=told.append).outcome == "done"
        assert any(line.startswith("going on with replacement p1, begun") for line in told), told
        pods = [p["spec"]["containers"][0]["args"] for p in place.pods() if not p["metadata"].get("deletionTimestamp")]
        assert ["--rest_api_timeout_in_ms=12345" in args for args in pods] == [True, True]
        for spec in (ann, bob):
            assert serving.up(spec).already and serving.status(spec).ready
    finally:
        with suppress(DeployError):
            serving.down(bob)

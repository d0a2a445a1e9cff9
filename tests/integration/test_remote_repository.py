"""A repository that is elsewhere: a real S3 service, a server that reads the mirror."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deploy import client, rollout, serving
from deploy.cli.outcome import run
from deploy.errors import RepositoryError, RolloutError
from deploy.repository import Repository
from deploy.spec import Spec, load_spec
from tests.support.peers.stores import ObjectServices

pytestmark = pytest.mark.tensorflow
TEXT = """
repository: {remote}
models:
  - {{name: half, versions: [1], labels: {{stable: 1}}}}
server: {{backend: embedded, start_timeout: 60, drain: 1}}
rollout: {{soak: 0.2, hold: 0.2, interval: 0.1}}
"""


@pytest.fixture
def remote(services: ObjectServices, monkeypatch: pytest.MonkeyPatch, models: Path) -> Repository:
    """half/1 and half/2 in a bucket."""
    monkeypatch.setenv("TFS_STORE_DEADLINE", "2")
    repository = Repository(f"{services.use('s3-moto', monkeypatch).root}/{uuid.uuid4().hex}")
    for name in ("half_plus_two", "half_plus_three"):
        repository.publish(models / name, "half")
    return repository


@pytest.fixture
def spec(remote: Repository, tmp_path: Path) -> Iterator[Spec]:
    path = tmp_path / "serving.yaml"
    path.write_text(TEXT.format(remote=remote.store))
    spec = load_spec(path)
    yield spec
    serving.down(spec)


def answer(spec: Spec) -> float:
    found = serving.find(spec)
    assert found is not None
    with client.connect(found.endpoint) as asked:
        return float(asked.predict("half@stable", {"x": np.array([2.0], np.float32)})["y"][0])


def tfs(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "deploy", *argv], check=False, text=True, capture_output=True,
                          timeout=120)


def test_from_the_bucket_to_a_release(spec: Spec, remote: Repository) -> None:
    steps: list[str] = []
    serving.up(spec, progress=steps.append)
    assert f"fetching half/1 from {remote.store}" in "\n".join(steps)
    assert Repository(spec.repository).versions("half") == [1] and answer(spec) == 3.0
    rollout.roll_out(spec, "half", 2)
    assert Repository(spec.repository).versions("half") == [1, 2] and answer(spec) == 4.0
    rollout.roll_back(spec, "half")
    assert answer(spec) == 3.0
    assert run(["smoke", "--spec", str(spec.path)]) == 0
    assert run(["status", "--spec", str(spec.path)]) == 0
    assert run(["ready", "--spec", str(spec.path)]) == 0


def test_a_damaged_version_goes_live_nowhere(spec: Spec, remote: Repository) -> None:
    serving.up(spec)
    remote.store.put("half/2/saved_model.pb", b"damaged")
    with pytest.raises(RepositoryError, match=r"half/2: saved_model.pb in s3://.* isn't what its manifest says"):
        rollout.roll_out(spec, "half", 2)
    assert answer(spec) == 3.0 and Repository(spec.repository).versions("half") == [1]


def test_a_version_that_nobody_published(spec: Spec, remote: Repository) -> None:
    serving.up(spec)
    with pytest.raises((RepositoryError, RolloutError), match="no half/9 in s3://.*there: 1, 2"):
        rollout.roll_out(spec, "half", 9)
    plan = rollout.plan_rollout(spec, "half", 2)
    assert plan.ok and Repository(spec.repository).versions("half") == [1, 2] and answer(spec) == 3.0


def test_what_is_here_starts_without_the_store(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    serving.up(spec)
    serving.down(spec)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    serving.up(spec)
    assert answer(spec) == 3.0
    with pytest.raises(RepositoryError, match=r"http://127.0.0.1:9 can't be reached.*tried \d+ times in"):
        rollout.roll_out(spec, "half", 2)
    assert answer(spec) == 3.0


def test_the_commands_speak_of_the_store(remote: Repository, tmp_path: Path, models: Path) -> None:
    address = str(remote.store)
    published = tfs("publish", str(models / "half_plus_two"), "--name", "half", "-r", address, "--json")
    assert json.loads(published.stdout)["path"] == f"{address}/half/3", published.stderr
    listed = json.loads(tfs("repository", "list", "-r", address, "--json").stdout)
    assert [entry["version"] for entry in listed] == [1, 2, 3]
    pulled = tfs("pull", "half", "--from", address, "-r", str(tmp_path / "here"))
    assert (pulled.returncode, pulled.stdout.split(",")[0]) == (0, f"half/3 is in {tmp_path / 'here'}"), pulled.stderr
    assert "already" in tfs("pull", "half/3", "--from", address, "-r", str(tmp_path / "here")).stdout
    missing = tfs("pull", "half/9", "--from", address)
    assert missing.returncode == 4 and "there is no half/9" in missing.stderr
    done = json.loads(tfs("mirror", "--from", address, "--to", str(tmp_path / "models"), "--model", "half:1,3",
                          "--json").stdout)
    assert [one["version"] for one in done["fetched"]] == [1, 3]


def test_a_sidecar_follows(remote: Repository, tmp_path: Path, models: Path) -> None:
    argv = [sys.executable, "-m", "deploy", "mirror", "--from", str(remote.store), "--to", str(tmp_path / "models"),
            "--model", "half", "--follow", "--every", "0.1", "--json"]
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stdout is not None
        assert [one["version"] for one in json.loads(process.stdout.readline())["fetched"]] == [2]
        remote.publish(models / "half_plus_two", "half")
        assert [one["version"] for one in json.loads(process.stdout.readline())["fetched"]] == [3]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert Repository(tmp_path / "models").versions("half") == [2, 3]


def test_a_sidecar_keeps_what_it_is_asked_to(remote: Repository, tmp_path: Path, models: Path) -> None:
    argv = ("mirror", "--from", str(remote.store), "--to", str(tmp_path / "models"), "--model", "half", "--keep", "1")
    for number in (2, 3, 4):
        done = tfs(*argv)
        assert done.returncode == 0, done.stderr
        assert f"fetched half/{number}" in done.stdout
        remote.publish(models / "half_plus_two", "half")
    assert "removed half/2" in done.stdout
    assert Repository(tmp_path / "models").versions("half") == [3, 4]


def test_faulty_arguments() -> None:
    for argv, expected in ((("mirror", "--from", "s3://b/x"), "go together"),
                           (("pull", "half"), "say where it is"),
                           (("mirror", "--from", "models", "--to", "x", "--model", "a:latest=0"), "N from 1 to 1000"),
                           (("pull", "half", "--from", "gcs://b"), "write gs://")):
        done = tfs(*argv)
        assert done.returncode == 2 and expected in done.stderr

"""Five servers, 2 containers, 2 processes and one that somebody else started, under load by label over both protocols:
releases and rollbacks one after the other, kill -9 of the tool and of a server, and no failed request at the others."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import yaml

from deploy import Repository, client, fleet, serving
from deploy.errors import DeployError
from deploy.spec import Spec, load_spec
from deploy.state import ledger_of
from deploy.types import Endpoint
from deploy.waiting import Deadline, poll
from tests.support.remote import Elsewhere, elsewhere
from tests.support.repository import savedmodel
from tests.support.servers import engine_or_skip, server_image_or_skip

pytestmark = pytest.mark.docker

NAMES = ("c1", "c2", "p1", "p2", "r1")
RATE = 20.0  # requests a second of each server and protocol
SECONDS = 30.0
X = np.array([1.0, 2.0], np.float32)


@dataclass
class Load:
    """Two clients for each server, one for a protocol, that stay connected and ask by label at a steady rate."""

    endpoints: dict[str, Endpoint]
    asked: Counter[str] = field(default_factory=Counter)
    failed: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in NAMES})
    over: threading.Event = field(default_factory=threading.Event)

    def ask(self, name: str, *, rpc: bool) -> None:
        at = self.endpoints[name]
        one = Endpoint(at.host, at.grpc_port if rpc else None, None if rpc else at.rest_port)
        due = time.monotonic()
        with client.connect(one, timeout=10.0, attempts=1) as connected:
            while not self.over.is_set():
                try:
                    answer = connected.predict("m@stable", {"x": X})["y"]
                    assert np.array_equal(answer, X), answer
                    self.asked[name] += 1
                except (DeployError, AssertionError) as error:
                    self.failed[name].append(f"{time.strftime('%X')} {'gRPC' if rpc else 'REST'}: {error}")
                due = max(due + 1 / RATE, time.monotonic() - 1)
                self.over.wait(max(0.0, due - time.monotonic()))


@contextmanager
def under_load(spec: Spec) -> Iterator[Load]:
    load = Load({member.short_name: endpoint(member) for member in spec.members})
    threads = [threading.Thread(target=load.ask, args=(name,), kwargs={"rpc": rpc}) for name in NAMES
               for rpc in (True, False)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.over.set()
        for thread in threads:
            thread.join()


def endpoint(member: Spec) -> Endpoint:
    server = serving.find(member)
    assert server is not None
    return server.endpoint


def serving_yaml(directory: Path, there: Elsewhere, image: str) -> Path:
    program = directory / "model_server"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m deploy.modelserver "$@"\n')
    program.chmod(0o755)
    for number in (1, 2, 3):
        Repository(directory / "models").publish(savedmodel(directory / "build" / str(number) / "m"), "m")
    shutil.rmtree(there.models / "m")
    shutil.copytree(directory / "models" / "m" / "1", there.models / "m" / "1")  # as it was published
    container, process = {"backend": "container", "image": image}, {"backend": "process", "binary": str(program)}
    remote = {"grpc": f"127.0.0.1:{there.grpc}", "rest": f"http://127.0.0.1:{there.rest}",
              "config_file": str(there.file), "models": str(there.models), "stage": str(there.models)}
    spec = directory / "serving.yaml"
    spec.write_text(yaml.safe_dump({
        "name": f"load-{os.getpid()}", "models": [{"name": "m", "versions": [1], "labels": {"stable": 1}}],
        "server": {"grpc_port": 0, "rest_port": 0, "drain": 2, "flags": {"tfs_loader": "echo"}},
        "rollout": {"soak": 0.2, "hold": 0.2, "interval": 0.1, "patience": 20, "waves": [1, "60%", "100%"],
                    "max_unavailable": 2, "compare": {"latency": 100}},  # clients and servers share two cores here
        "servers": [{"name": "c1", "server": container}, {"name": "c2", "server": container},
                    {"name": "p1", "server": process}, {"name": "p2", "server": process},
                    {"name": "r1", "server": {"backend": "remote", "remote": remote}}]}))
    return spec


@pytest.fixture
def five(tmp_path: Path) -> Iterator[tuple[Spec, Elsewhere]]:
    """All run, with version 1."""
    image = server_image_or_skip(engine_or_skip())
    with elsewhere(tmp_path / "elsewhere") as there:
        spec = load_spec(serving_yaml(tmp_path, there, image))
        try:
            started = fleet.everywhere(spec.members, lambda one, _: serving.up(one))
            assert all(result.error is None for result in started), [r.error for r in started]
            yield spec, there
        finally:
            fleet.everywhere(spec.members, lambda one, _: serving.down(one))


def tfs(spec: Spec, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "deploy", *words, "--spec", str(spec.path)], capture_output=True,
                          text=True, check=False)


def live(spec: Spec) -> dict[str, tuple[list[int], dict[str, int]]]:
    """By server, its loaded versions and its labels; nothing for one that doesn't answer."""
    views = {result.server: result.value.models[0].views.live for result in fleet.everywhere(
        spec.members, lambda one, _: serving.status(one)) if result.value is not None}
    return {name: (sorted(view.versions), dict(view.labels)) for name, view in views.items() if view is not None}


def all_serve(version: int) -> dict[str, tuple[list[int], dict[str, int]]]:
    return {name: ([version], {"stable": version}) for name in NAMES}


def test_ten_releases_and_rollbacks_under_load(five: tuple[Spec, Elsewhere]) -> None:
    spec, _ = five
    began = time.monotonic()
    with under_load(spec) as load:
        for number in range(10):
            words = ("rollout", "m", "--to", "2") if number % 2 == 0 else ("rollback", "m")
            done = tfs(spec, *words)
            assert done.returncode == 0, (number, done.stderr[-2000:])
            assert live(spec) == all_serve(2 - number % 2)
        load.over.wait(max(0.0, SECONDS - (time.monotonic() - began)))
    assert load.failed == {name: [] for name in NAMES}
    assert min(load.asked[name] for name in NAMES) > 2 * RATE * SECONDS / 4, load.asked
    assert [release.outcome for release in fleet.history(spec)] == ["done"] * 10


def test_the_tool_and_a_server_are_killed_in_the_middle(five: tuple[Spec, Elsewhere]) -> None:
    """Of the second wave, c2 and p1: when the ledger says that p1 is being changed, both end at once."""
    spec, _ = five
    p1 = spec.members[2]
    with under_load(spec) as load:
        tool = subprocess.Popen([sys.executable, "-m", "deploy", "rollout", "m", "--to", "2", "--spec", str(spec.path)],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert poll(lambda: True if changing(spec, "p1") else None, Deadline(120)), "it never came to p1"
        server = serving.find(p1)
        assert server is not None
        os.kill(server.describe()["pid"], signal.SIGKILL)
        tool.kill()
        tool.wait()
        assert poll(lambda: None if serving.status(p1).running else True, Deadline(10))
        assert all(labels["stable"] in (1, 2) for _, labels in live(spec).values())
        load.endpoints["p1"] = serving.up(p1).endpoint
        done = tfs(spec, "rollout", "m", "--to", "2")
        assert done.returncode == 0, done.stderr[-2000:]
    assert live(spec) == all_serve(2)
    assert {name: failed for name, failed in load.failed.items() if name != "p1"} == {
        name: [] for name in NAMES if name != "p1"}
    assert load.failed["p1"], "it was away"
    assert tfs(spec, "rollback", "m").returncode == 0 and live(spec) == all_serve(1)


def changing(spec: Spec, name: str) -> bool:
    return any(line["event"] == "fleet_apply" and line["do"] == "change" and name in line["servers"]
               for line in ledger_of(spec).read())

"""half, served by pods of a real cluster: a spec for it in a file, what each pod serves, and commands that run in a pod
of the cluster themselves."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from deploy import client, serving
from deploy.backends import BACKENDS
from deploy.backends.kubernetes.cluster import Object
from deploy.errors import DeployError, ServerError
from deploy.render.kubernetes import manifests
from deploy.render.kubernetes.roles import RoleVerb, bound
from deploy.repository import Repository
from deploy.rollout.configs import ConfigFile, find, serving_of
from deploy.spec import KubernetesPart, Spec, load_spec
from deploy.types import Endpoint, Serving
from tests.support.peers.kubernetes import VERSION, Namespace
from tests.support.servers import FORCED, engine_or_skip, server_image_or_skip, until

ONE, TWO = Serving(frozenset({1}), {"stable": 1}), Serving(frozenset({2}), {"stable": 2})
_POD, _JOB = ("v1", "Pod"), ("batch/v1", "Job")


def tool_image() -> str:
    """The image of the command line. Skips the test without it."""
    image = os.environ.get("TFS_CLI_IMAGE", "tfs-deploy/tfs:ci")
    if not engine_or_skip().has_image(image):
        why = f"no image {image}: `make cli-image`, and name it in TFS_CLI_IMAGE"
        pytest.fail(why) if FORCED else pytest.skip(why)
    return image


def published(models: Path, directory: Path) -> Repository:
    """half: 1 adds two, 2 adds three."""
    repository = Repository(directory / "models")
    for name in ("half_plus_two", "half_plus_three"):
        repository.publish(models / name, "half")
    return repository


def half_spec(place: Namespace, repository: Repository, directory: Path, **part: Any) -> Spec:
    """half/1, by two pods, in directory/serving.yaml. part: more of server/kubernetes."""
    grpc, rest = random.sample(range(30100, 32700), 2)
    text = {
        "name": "half-plus", "repository": str(repository.root),
        "models": [{"name": "half", "versions": [1], "labels": {"stable": 1}}],
        "rollout": {"soak": 0.1, "hold": 0.1, "interval": 0.1, "patience": 4},
        "server": {"backend": "kubernetes", "image": server_image_or_skip(engine_or_skip()), "drain": 1.0,
                   "start_timeout": 90.0, "kubernetes": {
                       "version": VERSION, "namespace": place.name, "replicas": 2, "pull_policy": "Never",
                       "models": {"host_path": str(repository.root)},
                       "service": {"type": "NodePort", "grpc_node_port": grpc, "rest_node_port": rest}, **part}}}
    directory.mkdir(exist_ok=True)
    (directory / "serving.yaml").write_bytes(msgspec.yaml.encode(text))
    return load_spec(directory / "serving.yaml")


@contextmanager
def running(spec: Spec) -> Iterator[Spec]:
    """Its pods serve."""
    serving.up(spec)
    try:
        yield spec
    finally:
        with suppress(DeployError):
            serving.down(msgspec.structs.replace(spec, server=msgspec.structs.replace(spec.server, drain=0.0)))


def part_of(spec: Spec) -> KubernetesPart:
    assert spec.server.kubernetes is not None
    return spec.server.kubernetes


def each(spec: Spec) -> list[Serving]:
    """What each pod serves of half."""
    server = serving.find(spec)
    assert server is not None
    shown = []
    for replica in server.replicas():
        with client.connect(replica.endpoint) as connected:
            live = frozenset(s.version for s in connected.status("half") if s.serving)
            shown.append(Serving(live, {"stable": connected.metadata("half@stable").version}))
    return shown


def named(spec: Spec) -> Serving:
    """What the ConfigMap names of half."""
    return serving_of(find(ConfigFile(BACKENDS["kubernetes"].config(spec)).read(), "half"))


def service(spec: Spec) -> Endpoint:
    """The Services' ports of each node."""
    part = part_of(spec).service
    return Endpoint("127.0.0.1", part.grpc_node_port, part.rest_node_port)


@dataclass
class Load:
    """Clients that ask by label over both protocols through the Services, each request on a new connection."""

    endpoint: Endpoint
    answers: Counter[float] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def ask(self, protocol: str) -> None:
        grpc = protocol == "gRPC"
        one = Endpoint(self.endpoint.host, self.endpoint.grpc_port if grpc else None,
                       None if grpc else self.endpoint.rest_port)
        while not self.over.is_set():
            try:
                with client.connect(one, timeout=15.0, attempts=1) as connected:
                    value = connected.predict("half@stable", {"x": np.array([2.0], np.float32)})["y"][0]
                    self.answers[float(value)] += 1
            except DeployError as e:
                self.failed.append(f"{time.strftime('%X')} {protocol}: {e.message}")
            self.over.wait(0.05)


@contextmanager
def under_load(spec: Spec) -> Iterator[Load]:
    load = Load(service(spec))
    threads = [threading.Thread(target=load.ask, args=(protocol,)) for protocol in ("gRPC", "REST")]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.over.set()
        for thread in threads:
            thread.join()


@dataclass(frozen=True)
class Ended:
    """A command that ran in a pod."""

    code: int
    log: str


def watch_job(spec: Spec) -> Object:
    """The pod of the CronJob that the spec renders."""
    (cron,) = [o for o in manifests(spec) if o["kind"] == "CronJob"]
    template: Object = cron["spec"]["jobTemplate"]
    return template


def run_job(place: Namespace, template: Object, name: str) -> Ended:
    """As `kubectl create job --from=cronjob/...` does it."""
    path = place.cluster.path(_JOB)
    place.cluster.request("POST", path, "create a job", body={
        "apiVersion": _JOB[0], "kind": _JOB[1], "metadata": {"name": name, "labels": template["metadata"]["labels"]},
        "spec": template["spec"]})
    return _end(place, {"job-name": name})


def run_inside(place: Namespace, spec: Spec, verb: RoleVerb, *commands: Sequence[str], without: str = "") -> Ended:
    """`tfs` commands, one after the other, in a pod that may do what the Role of `verb` lets it.

    without: a resource that the Role lacks. The spec has to render a CronJob, whose pod this one is like.
    """
    name = f"{verb}-{random.randrange(1 << 30):x}"
    for one in bound(spec, verb, manifests(spec), name):
        if one["kind"] == "Role":
            one["rules"] = [r for r in one["rules"] if without not in r["resources"]]
        one["metadata"]["name"] = name
        if one["kind"] == "RoleBinding":
            one["roleRef"]["name"] = name
        place.cluster.apply(one)
    pod = watch_job(spec)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    script = " && ".join(" ".join(["tfs", *words, f"--spec=/etc/tfs-spec/{spec.path.name}"]) for words in commands)
    models = {"name": "models", "mountPath": str(spec.repository), "readOnly": True}
    body: Mapping[str, Any] = {
        "metadata": {"name": name, "labels": {"run": name}},
        "spec": {**pod, "serviceAccountName": name,
                 "containers": [{**container, "command": ["sh", "-c", script], "args": [],
                                 "volumeMounts": [*container["volumeMounts"], models]}],
                 "volumes": [*pod["volumes"], {"name": "models", "hostPath": {"path": str(spec.repository)}}]}}

    def created() -> Object | None:
        with suppress(ServerError):  # its account has no token yet
            return place.create("pods", body)
        return None

    until(created, "the pod is taken")
    return _end(place, {"run": name})


def _end(place: Namespace, labels: Mapping[str, str]) -> Ended:
    """Of the one container of the one pod with these labels."""
    def statuses() -> list[Object]:
        return [s["state"]["terminated"] for pod in place.cluster.list(_POD, labels)
                for s in pod["status"].get("containerStatuses") or () if "terminated" in s["state"]]

    until(statuses, "the command ends", seconds=120, evidence=lambda: place.cluster.list(_POD, labels))
    (pod,) = place.cluster.list(_POD, labels)
    path = f"{place.cluster.path(_POD, pod['metadata']['name'])}/log"
    return Ended(int(statuses()[0]["exitCode"]), place.cluster.text(path, "read its log", {}))

"""A Kubernetes cluster that runs already: the one of KUBECONFIG, or the one that .ci/kubernetes-cluster has started.

Its node has to be this machine, with the images of this machine's Docker engine. Without one the tests are skipped
with a line; with TFS_REQUIRE_KUBERNETES=1 that is an error.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from deploy.backends.kubernetes.cluster import Cluster, Object, connect
from deploy.errors import DeployError
from deploy.spec import KubernetesPart

FORCED = os.environ.get("TFS_REQUIRE_KUBERNETES") == "1"
VERSION = "1.20"  # what the tests' cluster is at least
_POD, _NAMESPACES = ("v1", "Pod"), "/api/v1/namespaces"
_RULES = "/apis/rbac.authorization.k8s.io/v1/namespaces"


def kubeconfig() -> Path:
    """The file of a cluster that answers. Skips the test without one."""
    started = Path(os.environ.get("K8S_RUN", "/tmp/k8s-run")) / "kubeconfig"
    named = os.environ.get("KUBECONFIG")
    file = Path(named) if named and Path(named).exists() else started
    why = f"no Kubernetes cluster: {file} isn't there; start one: .ci/kubernetes-cluster up"
    if file.exists():
        os.environ["KUBECONFIG"] = str(file)  # as a shell of the user's has it
        try:
            connect(KubernetesPart()).request("GET", "/version", "ask for its version")
        except DeployError as e:
            why = f"no Kubernetes cluster: {e.message}"
        else:
            return file
    if FORCED:
        pytest.fail(why)
    pytest.skip(why)


@dataclass(frozen=True)
class Namespace:
    """One of its own for a test. cluster: with the rights of an administrator."""

    name: str
    cluster: Cluster
    kubeconfig: Path

    def pods(self) -> list[Object]:
        return self.cluster.list(_POD)

    def create(self, path: str, body: Mapping[str, Any]) -> Object:
        """An object, below this namespace: `create("resourcequotas", {...})`."""
        return self.cluster.request("POST", f"{_NAMESPACES}/{self.name}/{path}", f"create {path}", body=dict(body))

    def delete(self, path: str, **options: object) -> None:
        self.cluster.request("DELETE", f"{_NAMESPACES}/{self.name}/{path}", f"delete {path}", body=dict(options))

    def account(self, rules: list[Mapping[str, Any]], directory: Path) -> Path:
        """A kubeconfig of a service account with a Role of these rules."""
        name = f"account-{uuid.uuid4().hex[:6]}"
        self.create("serviceaccounts", {"metadata": {"name": name}})
        self.cluster.request("POST", f"{_RULES}/{self.name}/roles", "create a role",
                             body={"metadata": {"name": name}, "rules": rules})
        self.cluster.request("POST", f"{_RULES}/{self.name}/rolebindings", "create a binding", body={
            "metadata": {"name": name}, "subjects": [{"kind": "ServiceAccount", "name": name}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}})
        token = self.create(f"serviceaccounts/{name}/token", {
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": 7200}})["status"]["token"]
        config = yaml.safe_load(self.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        file = directory / f"{name}.kubeconfig"
        file.write_text(json.dumps(config))
        return file


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A new one; removed at the end with all that is in it."""
    file, name = kubeconfig(), f"tfs-{uuid.uuid4().hex[:8]}"
    cluster = connect(KubernetesPart(namespace=name))
    cluster.request("POST", _NAMESPACES, "create a namespace", body={"metadata": {"name": name}})
    try:
        yield Namespace(name, cluster, file)
    finally:
        for pod in cluster.list(_POD):
            cluster.request("DELETE", cluster.path(_POD, pod["metadata"]["name"]), "delete a pod",
                            body={"gracePeriodSeconds": 0})
        cluster.request("DELETE", f"{_NAMESPACES}/{name}", "delete the namespace", body={})


class Line:
    """A line between the tool and the API server, which can be cut. kubeconfig: goes through it."""

    def __init__(self, place: Namespace, directory: Path) -> None:
        config = yaml.safe_load(place.kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        to = urlsplit(cluster["server"])
        self._to, self._open, self._cut = (str(to.hostname), int(to.port or 443)), set[socket.socket](), False
        self._listener = socket.create_server(("127.0.0.1", 0))
        cluster["server"] = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self.kubeconfig = directory / "line.kubeconfig"
        self.kubeconfig.write_text(json.dumps(config))
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """As when the API server is killed: connections end, and new ones are refused at once."""
        self._cut = True
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._cut = False

    def close(self) -> None:
        self.cut()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                if self._cut:
                    here.close()
                    continue
                there = socket.create_connection(self._to)
                self._open |= {here, there}
                for source, target in ((here, there), (there, here)):
                    threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.discard(source)
        source.close()


def kill_container(pod: Object) -> None:
    """End a pod's server from outside, as the kernel does when memory is short."""
    (status,) = [c for c in pod["status"]["containerStatuses"] if c["name"] == "server"]
    container = status["containerID"].partition("://")[2]
    subprocess.run(["docker", "kill", "--signal", "KILL", container], check=True, capture_output=True)

"""One server's objects in its cluster: its workload, pods, logs, and what happened to them."""

from __future__ import annotations

import base64
import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import psutil

from deploy.backends.base import Fault
from deploy.backends.kubernetes import streams
from deploy.backends.kubernetes.cluster import MOST_TEXT, Cluster, Object
from deploy.backends.kubernetes.faults import events_of, faults_of
from deploy.backends.kubernetes.options import WORKLOADS
from deploy.backends.kubernetes.pods import Pod, Workload, pod_of
from deploy.errors import ServerError
from deploy.render.configs import TLS
from deploy.render.kubernetes import SERVER
from deploy.spec import KubernetesPart

POD, EVENT, CLAIM = ("v1", "Pod"), ("v1", "Event"), ("v1", "PersistentVolumeClaim")
_RBAC = "rbac.authorization.k8s.io/v1"
RIGHTS = ((_RBAC, "RoleBinding"), (_RBAC, "Role"))  # they may be our own: what is deleted last
# All kinds that a server may have objects of, but for what holds models: `down` looks for them by our labels
KINDS = (*WORKLOADS, ("v1", "Service"), ("v1", "ConfigMap"), ("v1", "Secret"), ("batch/v1", "CronJob"),
         ("batch/v1beta1", "CronJob"), ("policy/v1", "PodDisruptionBudget"), ("policy/v1beta1", "PodDisruptionBudget"),
         ("autoscaling/v2", "HorizontalPodAutoscaler"), ("autoscaling/v1", "HorizontalPodAutoscaler"),
         ("keda.sh/v1alpha1", "ScaledObject"), ("networking.k8s.io/v1", "NetworkPolicy"),
         ("monitoring.coreos.com/v1", "ServiceMonitor"), ("serving.kserve.io/v1beta1", "InferenceService"),
         ("v1", "ServiceAccount"), ("coordination.k8s.io/v1", "Lease"), *RIGHTS)
_EXEC = 20.0  # seconds for a command in a pod


@dataclass(frozen=True, slots=True)
class Site:
    """names: of the workload and of its ConfigMap. selector: the labels of its pods; ours: of everything of it."""

    cluster: Cluster
    name: str
    config: str
    selector: Mapping[str, str]
    ours: Mapping[str, str]

    def workload(self) -> Object | None:
        """The Deployment or StatefulSet, in the API's form; None if there is none of ours."""
        for kind in WORKLOADS:
            one = self.cluster.get(kind, self.name)
            if one is not None and _has(one, self.ours):
                return {"apiVersion": kind[0], "kind": kind[1], **one}
        return None

    def pods(self) -> list[Pod]:
        """All of them, sorted by name, those that leave as well."""
        return [pod_of(one) for one in self.cluster.list(POD, self.selector)]

    def faults(self, workload: Workload | None, pods: Sequence[Pod], limit: str = "") -> tuple[Fault, ...]:
        """What keeps the pods from serving. What may not be read is left out, and told as a fault itself."""
        denied = list[Fault]()

        def attempt(kind: tuple[str, str]) -> list[Object]:
            try:
                return self.cluster.list(kind)
            except ServerError as e:
                denied.append(Fault("rbac", e.message, e.hint, weight=35))
                return []

        events, claims = events_of(attempt(EVENT)), [c for c in attempt(CLAIM) if c["metadata"]["name"] in
                                                     self._claims()]
        return (*faults_of(workload, pods, events, claims, limit), *denied)

    def final_fault(self, workload: Workload | None, pods: Sequence[Pod], limit: str = "") -> Fault | None:
        """The worst of those that waiting doesn't help with. Events, which say more, are listed only if there is one:
        who waits asks often."""
        if not any(fault.final for fault in faults_of(workload, pods, limit=limit)):
            return None
        return next((fault for fault in self.faults(workload, pods, limit) if fault.final), None)

    def _claims(self) -> set[str]:
        one = self.workload()
        volumes = ((one or {}).get("spec") or {}).get("template", {}).get("spec", {}).get("volumes") or ()
        return {v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v}

    def log(self, pod: str, tail: int, *, previous: bool = False) -> str:
        """The last lines of the server in a pod, or of its run before; "" if there are none or we may not."""
        path = f"{self.cluster.path(POD, pod)}/log"
        query = {"container": SERVER, "tailLines": str(tail), "limitBytes": str(MOST_TEXT),
                 **({"previous": "true"} if previous else {})}
        with suppress(ServerError):
            return self.cluster.text(path, f"read the log of pod {pod}", query).rstrip("\n")
        return ""

    def execute(self, pod: str, *command: str) -> str:
        """What a command in a pod prints. Raises ServerError, also if it fails."""
        query = [("container", SERVER), ("stdout", "1"), ("stderr", "1"), *(("command", word) for word in command)]
        return streams.output(self.cluster, f"{self.cluster.path(POD, pod)}/exec?{urlencode(query)}",
                              f"run {command[0]} in pod {pod}", seconds=_EXEC)

    def check_namespace(self) -> None:
        """Raises ServerError if the namespace isn't there. Who may not ask for it isn't told."""
        with suppress_forbidden():
            doing = f"use namespace {self.cluster.namespace}"
            self.cluster.request("GET", f"/api/v1/namespaces/{quote(self.cluster.namespace)}", doing)

    def check_kinds(self, part: KubernetesPart, objects: Iterable[Object]) -> None:
        """Raises ServerError for a cluster that is too old for the manifests, or can't have one of the objects."""
        told = str(self.cluster.request("GET", "/version", "ask the cluster for its version").get("gitVersion", ""))
        release = re.match(r"v?1\.(\d+)", told)
        if release and int(release[1]) < part.minor:
            why = f"the cluster at {self.cluster.where} is Kubernetes 1.{release[1]}"
            if part.models and part.models.image:
                raise ServerError(f"{why}, and models/image wants image volumes, which 1.33 has", id="kubernetes-kind",
                                  hint="use another source in server/kubernetes/models: mirror or pvc")
            raise ServerError(f"{why}, and the manifests are for {part.version} and newer", id="kubernetes-kind",
                              hint=f'say which it is: server/kubernetes/version: "1.{release[1]}"')
        for one in objects:
            self.cluster.path((one["apiVersion"], one["kind"]))

    def check_certificate(self, secret: str) -> None:
        """Raises ServerError if a Secret with the server's certificate isn't there, or hasn't what a server reads. Who
        may not look at it isn't told."""
        where = f"Secret {secret} in namespace {self.cluster.namespace}"
        with suppress_forbidden():
            self._check_certificate(secret, where, self.cluster.get(("v1", "Secret"), secret))

    def _check_certificate(self, secret: str, where: str, one: Object | None) -> None:
        data = (one or {}).get("data") or {}
        text = base64.b64decode(data.get(TLS, "")).decode(errors="replace")
        absent = [key for key in ("server_key", "server_cert") if f"{key}:" not in text.replace(" ", "")]
        if one is None:
            why = f"there is no {where}, which server/kubernetes/tls_secret names"
        elif TLS not in data:
            why = f"{where} has {' and '.join(sorted(data)) or 'nothing'}, and no {TLS}"
        elif absent:
            why = f"{TLS} in {where} has no {' and no '.join(absent)}"
        else:
            return
        raise ServerError(why, id="kubernetes-certificate", hint=(
            f"kubectl create secret generic {secret} -n {self.cluster.namespace} --from-file={TLS}, as `tfs configure "
            "--backend container` writes that file; or leave tls_secret out, and tfs up writes a Secret"))

    def objects(self) -> Iterator[Object]:
        """Everything that carries our labels. Kinds that the cluster doesn't know, or shows to nobody, have none."""
        for kind in KINDS:
            if not self.cluster.knows(kind):
                continue
            try:
                found = self.cluster.list(kind, self.ours)
            except ServerError as e:
                if e.details.get("status") == 404 and e.id != "kubernetes-namespace":  # its definition went meanwhile
                    continue
                if e.id == "kubernetes-forbidden" and kind not in (*WORKLOADS, ("v1", "Service"), ("v1", "ConfigMap")):
                    continue
                raise
            for one in found:
                yield {"apiVersion": kind[0], "kind": kind[1], **one}

    def end(self, pod: str, grace: int) -> None:
        """Delete a pod. 0 seconds: at once."""
        path = self.cluster.path(POD, quote(pod))
        with suppress(ServerError):  # gone meanwhile
            self.cluster.request("DELETE", path, f"delete pod {pod}", body={"gracePeriodSeconds": grace})


@contextmanager
def suppress_forbidden() -> Iterator[None]:
    """Who may not look doesn't learn what is wrong."""
    try:
        yield
    except ServerError as e:
        if e.id != "kubernetes-forbidden":
            raise


def _has(one: Object, labels: Mapping[str, str]) -> bool:
    theirs = one["metadata"].get("labels") or {}
    return all(theirs.get(k) == v for k, v in labels.items())


def on_this_machine(address: str) -> bool:
    """Whether a node's address is one of ours: then its pods are reached without the API server."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return any(a.family == family and a.address == address for addresses in psutil.net_if_addrs().values()
               for a in addresses)

"""The pods of one Deployment or StatefulSet as a server of several replicas."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from deploy.backends.base import Fault, Inspected, MemoryUse, Progress, Replica, Scoped, described, silent
from deploy.backends.kubernetes.options import KubernetesOptions, Object, argv_of
from deploy.backends.kubernetes.pods import Pod, Workload, workload_of
from deploy.backends.kubernetes.reaching import Reach
from deploy.backends.kubernetes.site import RIGHTS, Site
from deploy.backends.replacement import REPLACING
from deploy.errors import DeployError, ServerError, StartFailed
from deploy.types import Endpoint
from deploy.waiting import Deadline, poll

_GONE = 120.0  # seconds more than their grace until pods have to be gone
_FORWARDING = ("give who asks the right to pods/portforward (tfs configure --rbac status), or run tfs where pods are "
               "reached at their own addresses")
_LOOK = 1.0  # seconds for a connection to a pod
_LAST = ("ConfigMap", "Secret", "ServiceAccount", *(kind for _, kind in RIGHTS))  # pods need them, or we do
_TAIL = 40  # lines of a log as evidence


class KubernetesServer(Scoped):
    """See base.Server. Its name is shared by everybody in the namespace: two people with the same spec see one server.

    connect: makes the connection to its objects. found: its workload, for one that is there already.
    """

    kind = "kubernetes"

    def __init__(self, options: KubernetesOptions, connect: Callable[[], Site], *, progress: Progress = silent,
                 found: Object | None = None) -> None:
        self.options = options
        self._connect, self._progress = connect, progress
        self._site: Site | None = connect() if found is not None else None
        self._reach = Reach(options.part.reach)
        self._detached = self._started = found is not None
        self._own, self._applied = found is None, list[Object]()
        self._workload, self._pods = found, list[Pod]()

    @property
    def name(self) -> str:
        return self.options.name

    @property
    def argv(self) -> tuple[str, ...]:
        return argv_of(self._workload or self.options.workload)

    @property
    def labels(self) -> Mapping[str, str]:
        if self._workload is None:
            return self.options.labels
        annotations = self._workload["metadata"].get("annotations") or {}
        return {k: v for k, v in annotations.items() if k.startswith("org.tfs-deploy.")}

    @property
    def endpoint(self) -> Endpoint:
        """Of its first pod that runs; else where it will be in the cluster."""
        replicas = self._replicas() or (self._replicas() if self._look() else ())
        return replicas[0].endpoint if replicas else self.options.service(self._namespace)

    @property
    def _namespace(self) -> str:
        return self._site.cluster.namespace if self._site else ""

    # -- its life

    def start(self) -> Endpoint:
        if self._started:
            raise ServerError(f"server {self.name!r} was started before", argv=self.argv, id="started-before")
        self._started = True
        self._site = self._connect()
        self._site.check_kinds(self.options.part, self.options.objects)
        if self.options.tls_secret and not self.options.ours:
            self._site.check_certificate(self.options.tls_secret)
        try:
            self.apply()
            self._await_first()
        except BaseException:
            with suppress(DeployError):  # what went wrong first is what is told
                self.stop(0)
            raise
        return self.endpoint

    def apply(self, *, force: bool = False) -> None:
        """Let the cluster have all objects as the options say, but for the config store's."""
        site = self._on_site()
        for one in self.options.objects:
            if (one["kind"], one["metadata"]["name"]) != ("ConfigMap", site.config):
                self._progress(f"applying {one['kind']} {one['metadata']['name']}")
                site.cluster.apply(one, force=force)
            self._applied.append(one)  # the config store has written the ConfigMap

    def _await_first(self) -> None:
        """Until one pod's server runs, or has run and ended."""
        told = ""

        def begun() -> bool | None:
            nonlocal told
            pending = self.pending()
            if pending and pending != told:
                self._progress(f"waiting: {pending}")
                told = pending
            return True if any(pod.run or pod.ended for pod in self._pods) else None

        deadline = Deadline(self.options.start_timeout)
        if not poll(begun, deadline, first=0.2, most=1.0):
            raise self._failed(f"no pod of {self.name} runs after {deadline.waited:.0f} s: {told}")

    def pending(self, *, traffic: bool = False) -> str:
        workload = self._look()
        if workload is None:
            return f"there is no {self.options.workload['kind']} {self.options.workload['metadata']['name']}"
        why = workload.pending(self._pods) or (workload.unready() if traffic else "")
        if why:
            final = self._on_site().final_fault(workload, self._pods, self.options.memory)
            if final:
                raise self._failed(final.cause, hint=final.fix)
        return why

    def _failed(self, message: str, hint: str = "") -> StartFailed:
        workload = self._look()
        faults = self._faults(workload)
        causes = [f.cause for f in faults if f.cause not in message]
        return StartFailed("; ".join((message, *causes)), argv=self.argv, logs=self.logs(_TAIL),
                           returncode=self.returncode(), hint=hint or (faults[0].fix if faults else "see: tfs doctor"),
                           details={"kind": self.kind, "image": self.options.image,
                                    "pods": {p.name: p.state for p in self._pods},
                                    "faults": [{"cause": f.cause, "fix": f.fix, "seen": f.seen} for f in faults]})

    def _faults(self, workload: Workload | None) -> tuple[Any, ...]:
        return self._on_site().faults(workload, self._pods, self.options.memory)

    def stop(self, grace: float = 10.0) -> None:
        site = self._site
        if site is None:
            return
        self._reach.close()
        for one in self._ours(site):
            if one["kind"] not in _LAST:
                site.cluster.delete(one)
        seconds = round(max(0.0, grace))
        self._await_gone(site, seconds)
        for one in self._ours(site):  # what pods read goes last
            site.cluster.delete(one)
        self._workload, self._pods = None, []

    def _ours(self, site: Site) -> Iterable[Object]:
        """What this process has applied, by name: who may apply needn't be allowed to look for more. Of a server that
        was found, everything with our labels."""
        return [*self._applied, *self.options.written] if self._own else site.objects()

    def _await_gone(self, site: Site, seconds: int) -> None:
        """Until no server runs. A pod that isn't leaving yet has an owner that would make another one in its place."""
        asked = set[str]()

        def gone() -> bool | None:
            pods = site.pods()
            for pod in pods:
                if pod.leaving and pod.uid not in asked:
                    asked.add(pod.uid)
                    site.end(pod.name, seconds)
            return None if any(pod.run or not pod.leaving for pod in pods) else True

        if not poll(gone, Deadline(seconds + _GONE), first=0.1, most=1.0):
            raise ServerError(f"pods of {self.name} are still there {seconds + _GONE:.0f} s after they were deleted: "
                              f"{', '.join(pod.name for pod in site.pods())}", id="kubernetes-pods-stay",
                              hint="is their node gone? kubectl delete pod --force removes them from the books")

    # -- what there is

    def _on_site(self) -> Site:
        if self._site is None:
            self._site = self._connect()
        return self._site

    def _look(self) -> Workload | None:
        """Asks the API server. None if there is no workload."""
        if self._site is None:
            return None
        self._workload, self._pods = self._site.workload(), self._site.pods()
        return workload_of(self._workload) if self._workload is not None else None

    def _running(self) -> list[Pod]:
        with suppress(DeployError):  # nobody to ask, nobody there
            self._look()
            return [pod for pod in self._pods if pod.running]
        return []

    def _replicas(self) -> tuple[Replica, ...]:
        site = self._site
        if site is None:
            return ()
        tls = self.options.tls_in(self._namespace)
        return tuple(Replica(p.name, replace(self._reach.endpoint(site, p), tls=tls), f"{p.uid} {p.run}", p.restarts,
                             str(p.ended or ""), p.ended is not None and p.ended.reason == "OOMKilled")
                     for p in self._pods if p.running and p.address)

    def pods(self) -> list[tuple[Pod, Replica | None]]:
        """All of them, those that leave as well; each that runs as a replica. Raises as `replicas`."""
        by_name = {replica.name: replica for replica in self.replicas()}
        return [(pod, by_name.get(pod.name)) for pod in self._pods]

    def replicas(self) -> tuple[Replica, ...]:
        """All pods whose server runs and that aren't leaving. Raises BackendMissing or ServerError if nobody says."""
        self._look()
        return self._replicas()

    def instance(self) -> str | None:
        return ", ".join(f"{pod.uid} {pod.run}" for pod in self._running()) or None

    def alive(self) -> bool:
        return bool(self._running())

    def returncode(self) -> int | None:
        if self._running():
            return None
        return next((pod.ended.code for pod in self._pods if pod.ended is not None and not pod.leaving), None)

    def listening(self) -> frozenset[int]:
        if not self._running():
            return frozenset()
        endpoint = self.endpoint
        return frozenset(port for port in (endpoint.grpc_port, endpoint.rest_port)
                         if port and _accepts(endpoint.host, port))

    def logs(self, tail: int = 50) -> str:
        """Of each pod; of the run before where this one has said nothing yet."""
        if self._site is None or tail <= 0:
            return ""
        with suppress(DeployError):
            self._look()
        read = partial(self._site.log, tail=tail)
        texts = {p.name: read(p.name) or (read(p.name, previous=True) if p.restarts else "") for p in self._pods}
        if len(texts) < 2:
            return next(iter(texts.values()), "")
        lines = {name: [f"{name} | {line}" for line in text.splitlines()[-tail:]] for name, text in texts.items()}
        return "\n".join(line for name in lines for line in lines[name])

    def inspect(self, tail: int) -> Inspected:
        running, workload = bool(self._running()), self._look()
        pod = next(iter(self._pods), None)
        first = next((p for p in self._pods if p.running), None)
        why = self._reach.refused(self._on_site(), first) if first else ""
        denied = [Fault("forwarding", why, _FORWARDING, why, weight=50)] if why else []
        return Inspected(self.name, self.argv, running, self.returncode(), self.logs(tail), image=self.options.image,
                         state=pod.state if pod else "", out_of_memory=any(
                             p.ended is not None and p.ended.reason == "OOMKilled" for p in self._pods),
                         address=pod.address if pod else "", faults=(*self._faults(workload), *denied))

    def missing(self, paths: Sequence[str]) -> list[str]:
        """Asked in one pod. Who may not run a command there, or finds no shell, learns of nothing missing."""
        pods = self._running()
        if not pods:
            return list(paths)
        try:
            text = self._on_site().execute(pods[0].name, "sh", "-c", 'for p; do [ -e "$p" ] || echo "$p"; done', "sh",
                                           *paths)
        except ServerError as e:
            if e.id in ("kubernetes-forbidden", "kubernetes-exec"):
                return []
            raise
        absent = set(text.splitlines())
        return [path for path in paths if path in absent]

    def memory(self) -> MemoryUse | None:
        return None  # without a metrics server nobody knows

    def describe(self) -> dict[str, Any]:
        running = bool(self._running())
        told = described(self, running=running, since=min((p.since for p in self._pods if p.since), default=None))
        site = self._on_site()
        workload = workload_of(self._workload) if self._workload is not None else None
        told["labels"].pop(REPLACING, None)  # with a whole pod template in it
        return {**told, "image": self.options.image, "cluster": site.cluster.where,
                "namespace": site.cluster.namespace, "pods": [
                    {"name": p.name, "state": p.state, "address": p.address, "node": p.node, "restarts": p.restarts}
                    for p in self._pods], "replicas": workload.wanted if workload else 0}


def _accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), _LOOK).close()
    except OSError:
        return False
    return True

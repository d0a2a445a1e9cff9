"""What the API says of workloads and their pods, as values; and what keeps them from serving. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.render.kubernetes import SERVER

Object = Mapping[str, Any]  # as the API has it


@dataclass(frozen=True, slots=True)
class Ended:
    """A run of the server that is over. code: the exit code."""

    reason: str
    code: int

    def __str__(self) -> str:
        return self.reason if self.reason not in ("", "Error", "Completed") else f"exit code {self.code}"


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod of a server, as far as serving goes.

    address: in the cluster's network, "" if it has none yet. leaving: it is being deleted. ready: it gets traffic.
    run: the id of the server's container while that runs, else "". since: when it was started.
    waiting, message: why the container isn't there yet, in the API's words. ended: its last run that is over.
    unschedulable: why no node takes it. node: where it is, host: with which address. revision: which template it was
    made from.
    """

    name: str
    uid: str
    address: str = ""
    phase: str = ""
    leaving: bool = False
    ready: bool = False
    run: str = ""
    since: str = ""
    restarts: int = 0
    waiting: str = ""
    message: str = ""
    ended: Ended | None = None
    image: str = ""
    image_id: str = ""
    unschedulable: str = ""
    node: str = ""
    host: str = ""
    revision: str = ""

    @property
    def running(self) -> bool:
        """Whether the server in it runs, and is to stay."""
        return bool(self.run) and not self.leaving

    @property
    def state(self) -> str:
        """In a word or two."""
        if self.leaving:
            return "leaving"
        if self.run:
            return "ready" if self.ready else "not ready"
        if self.unschedulable:
            return "no node takes it"
        return self.waiting or (f"ended ({self.ended})" if self.ended else self.phase)


def pod_of(pod: Object) -> Pod:
    """From the API's form; whatever of it is missing is unknown."""
    about, status = pod["metadata"], pod.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    server: Object = next((c for c in status.get("containerStatuses") or () if c["name"] == SERVER), {})
    first = _blocking(status.get("initContainerStatuses") or ())
    state, last = server.get("state") or {}, server.get("lastState") or {}
    waiting = (first or {}).get("state", {}).get("waiting") or state.get("waiting") or {}
    ended = state.get("terminated") or last.get("terminated") or (first or {}).get("lastState", {}).get("terminated")
    scheduled = conditions.get("PodScheduled") or {}
    return Pod(
        about["name"], about["uid"], status.get("podIP") or "", status.get("phase") or "",
        leaving=bool(about.get("deletionTimestamp")), ready=(conditions.get("Ready") or {}).get("status") == "True",
        run=server.get("containerID", "") if "running" in state else "",
        since=(state.get("running") or {}).get("startedAt") or "", restarts=int(server.get("restartCount") or 0),
        waiting=waiting.get("reason") or "", message=waiting.get("message") or "",
        ended=Ended(ended.get("reason") or "", int(ended.get("exitCode") or 0)) if ended else None,
        image=server.get("image") or _image(pod), image_id=server.get("imageID") or "",
        unschedulable=scheduled.get("message") or "" if scheduled.get("reason") == "Unschedulable" else "",
        node=(pod.get("spec") or {}).get("nodeName") or "", host=status.get("hostIP") or "",
        revision=revision_of(about.get("labels") or {}))


def revision_of(labels: Mapping[str, str]) -> str:
    """Which template a pod was made from."""
    return labels.get("pod-template-hash") or labels.get("controller-revision-hash") or ""


def _blocking(containers: Iterable[Object]) -> Object | None:
    """The init container that keeps the server from starting."""
    return next((c for c in containers if "waiting" in (c.get("state") or {}) and
                 c["state"]["waiting"].get("reason") != "PodInitializing"), None)


def _image(pod: Object) -> str:
    containers = (pod.get("spec") or {}).get("containers") or ()
    return next((str(c.get("image", "")) for c in containers if c["name"] == SERVER), "")


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment or StatefulSet. wanted: pods. updated, ready: how many are of the newest template, and ready.
    current: whether its controller has seen its newest form. refused: why no pod can be made. stuck: it gave up."""

    name: str
    kind: str
    wanted: int
    updated: int
    ready: int
    total: int
    current: bool
    refused: str = ""
    stuck: str = ""

    def pending(self, pods: Sequence[Pod]) -> str:
        """What is still to come until all pods are there, run the newest template, and are ready; "" if all is."""
        if not self.current:
            return f"the cluster has yet to look at {self.kind} {self.name}"
        running = [pod for pod in pods if pod.running]
        if len(running) < self.wanted or self.updated < self.wanted:
            others = "; ".join(sorted(f"{p.name}: {p.state}" for p in pods if not p.running and not p.leaving))
            new = "" if self.updated >= self.wanted else f", {self.updated} of the newest form"
            return f"{len(running)} of {self.wanted} pods run{new}{f' ({others})' if others else ''}"
        if self.total > self.updated:
            return f"{self.total - self.updated} pods of an older form are still there"
        return ""

    def unready(self) -> str:
        """What is still to come until all pods get traffic; "" if all do."""
        return f"{self.ready} of {self.wanted} pods are ready" if self.ready < self.wanted else ""


def workload_of(one: Object) -> Workload:
    """From the API's form of a Deployment or StatefulSet."""
    about, status = one["metadata"], one.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    failure, progress = conditions.get("ReplicaFailure") or {}, conditions.get("Progressing") or {}
    wanted = one["spec"].get("replicas")
    return Workload(
        about["name"], one.get("kind") or "", 1 if wanted is None else int(wanted),
        int(status.get("updatedReplicas") or 0), int(status.get("readyReplicas") or 0),
        int(status.get("replicas") or 0),
        int(status.get("observedGeneration") or 0) >= int(about.get("generation") or 0),
        failure.get("message") or "" if failure.get("status") == "True" else "",
        progress.get("message") or "" if progress.get("reason") == "ProgressDeadlineExceeded" else "")

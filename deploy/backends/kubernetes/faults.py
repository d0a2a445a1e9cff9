"""What keeps pods from serving, told by pods, workload, events and claims: cause and fix. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deploy.backends.base import Fault
from deploy.backends.kubernetes.pods import Object, Pod, Workload

_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError",
                    "RegistryUnavailable"})
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_SIGNALS = {137: "killed (SIGKILL)", 139: "it crashed (SIGSEGV)", 134: "it crashed (SIGABRT)",
            132: "it crashed (SIGILL): was it built for another CPU?", 143: "stopped (SIGTERM)"}
_LOOPS = 2  # restarts from which on it won't get better by itself
_MOUNT = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume"})
_OTHER_NODES = "no node has these labels: correct the selector, or label nodes"
# What the scheduler says of nodes -> what to do; the first that fits
_REMEDIES = {"persistentvolumeclaim \"": "make that PersistentVolumeClaim, or name another in "
             "server/kubernetes/models/pvc",
             "insufficient nvidia.com/gpu": "ask for fewer GPUs (server/resources/gpus), or free some",
             "insufficient": "ask for less (server/resources), or add nodes",
             "persistentvolumeclaim": "bind the claim: a PersistentVolume that fits, or a storage class",
             "taint": "tolerate the nodes' taint, or use other nodes",
             "affinity": _OTHER_NODES, "selector": _OTHER_NODES}
_NO_CLASS = "storageclass.storage.k8s.io"  # begins what is said of one that isn't there
_LONGEST = 300  # characters of what the cluster says


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an object, the newest of its kind."""

    name: str
    reason: str
    message: str
    count: int = 1


def events_of(events: Sequence[Object]) -> tuple[Event, ...]:
    """From the API's form, the newest last."""
    def when(event: Object) -> str:
        return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp"))

    return tuple(Event(str((e.get("involvedObject") or {}).get("name") or ""), str(e.get("reason") or ""),
                       str(e.get("message") or ""), int(e.get("count") or 1)) for e in sorted(events, key=when))


def faults_of(workload: Workload | None, pods: Sequence[Pod], events: Sequence[Event] = (),
              claims: Sequence[Object] = (), limit: str = "") -> tuple[Fault, ...]:
    """All that is wrong, each kind once. limit: of memory, as the spec says it."""
    present = [pod for pod in pods if not pod.leaving]
    found = [*(_refused(workload) if workload else ()), *_claims(claims, events),
             *(fault for pod in present for fault in _pod(pod, events, limit))]
    by_kind = dict[str, Fault]()
    for fault in found:
        by_kind.setdefault(fault.rule, fault)
    return tuple(sorted(by_kind.values(), key=lambda fault: -fault.weight))


def _refused(workload: Workload) -> Iterator[Fault]:
    """Nobody may make its pods: a quota, an admission policy, a service account that isn't there."""
    text = _short(workload.refused)
    if "exceeded quota" in text:
        yield Fault("pod-quota", f"the namespace's quota lets no more pods in: {_after(text, 'is forbidden: ')}",
                    "ask for less (server/resources, server/kubernetes/replicas), or have the quota raised", text,
                    weight=95, final=True)
    elif text:
        fix = ("make what it doesn't find, or name another in server/kubernetes"
               if "not found" in text or "was found" in text else
               "a policy of the cluster or namespace forbids them: ask who runs it, or change what the message names "
               "in server/kubernetes")
        yield Fault("pod-refused", f"the cluster refuses to make pods of {workload.name}: {text}", fix, text,
                    weight=95, final=True)


def _claims(claims: Sequence[Object], events: Sequence[Event]) -> Iterator[Fault]:
    for claim in claims:
        name, phase = claim["metadata"]["name"], (claim.get("status") or {}).get("phase")
        if phase == "Bound":
            continue
        said = next((e.message for e in reversed(events) if e.name == name), "")
        fix = ("let the claim name a storage class that there is: kubectl get storageclass" if _NO_CLASS in said else
               "give it a volume: a storage class with a provisioner, or a PersistentVolume that fits; see: kubectl "
               f"describe pvc {name}")
        yield Fault("volume-pending", f"the PersistentVolumeClaim {name} is {phase or 'not bound'}, and pods wait for "
                    f"it{f': {_short(said)}' if said else ''}", fix, said, weight=94)


def _pod(pod: Pod, events: Sequence[Event], limit: str) -> Iterator[Fault]:
    ours = [event for event in events if event.name == pod.name]
    if pod.waiting in _IMAGE:
        said = next((e.message for e in reversed(ours) if e.reason in ("Failed", "ErrImageNeverPull")
                     and "image" in e.message.lower()), pod.message)
        yield Fault("image-pull", f"pod {pod.name} can't have the image {pod.image}: {_short(said) or pod.waiting}",
                    "does server/image name one that the nodes can pull? For a private registry name a Secret in "
                    "server/kubernetes/pull_secrets; for one that is on the nodes only, pull_policy: Never or "
                    "IfNotPresent", pod.waiting, weight=97, final=pod.waiting != "ErrImagePull")
    elif pod.waiting in _CONFIG:
        yield Fault("pod-config", f"pod {pod.name} can't be made: {_short(pod.message) or pod.waiting}",
                    "put what it names there, or take it out of server/kubernetes; tfs up writes the ConfigMap again",
                    pod.waiting, weight=96, final=pod.waiting != "RunContainerError")
    if pod.unschedulable:
        yield _unschedulable(pod)
    if not pod.run and pod.phase == "Pending":
        yield from _mounts(pod, ours)
    yield from _ended(pod, limit)
    if pod.run and not pod.ready:
        yield from _probes(pod, ours)


def _unschedulable(pod: Pod) -> Fault:
    text = pod.unschedulable
    fix = next((remedy for word, remedy in _REMEDIES.items() if word in text.lower()),
               f"see: kubectl describe pod {pod.name}")
    return Fault("unschedulable", f"no node takes pod {pod.name}: {_short(text)}", fix, text, weight=93)


def _mounts(pod: Pod, events: Sequence[Event]) -> Iterator[Fault]:
    event = next((e for e in reversed(events) if e.reason in _MOUNT), None)
    if event is None:
        return
    text = _short(event.message)
    if match := re.search(r'(configmap|secret) "([^"]+)" not found', event.message, re.IGNORECASE):
        kind = "ConfigMap" if match[1].lower() == "configmap" else "Secret"
        yield Fault("config-not-mounted", f"pod {pod.name} waits for the {kind} {match[2]}, which isn't there",
                    "tfs up writes it again; or put it there", text, weight=94)
    elif "hostPath" in text or "host path" in text.lower():
        yield Fault("volume-missing", f"pod {pod.name} doesn't find its models: {text}",
                    "server/kubernetes/models/host_path has to be a directory of the node; use a pvc where nodes are "
                    "several", text, weight=94)
    else:
        yield Fault("volume-mount", f"pod {pod.name} can't mount a volume: {text}",
                    f"see: kubectl describe pod {pod.name}", text, weight=91)


def _ended(pod: Pod, limit: str) -> Iterator[Fault]:
    if pod.ended is None:
        return
    if pod.ended.reason == "OOMKilled":
        most = f" of {limit}" if limit else ""
        yield Fault("out-of-memory", f"the server in pod {pod.name} was killed for lack of memory: its limit{most} is "
                    "too small for its models", "raise server/resources/memory, or serve fewer versions at a time",
                    "OOMKilled", weight=98, final=pod.restarts >= _LOOPS)
    elif pod.waiting == "CrashLoopBackOff" or (not pod.run and pod.ended.code):
        how = _SIGNALS.get(pod.ended.code, str(pod.ended))
        yield Fault("crash-loop", f"the server in pod {pod.name} ends again and again, last: {how}",
                    "its log says why: tfs logs", f"{pod.waiting or pod.phase}, {pod.restarts} restarts", weight=60,
                    final=pod.restarts >= _LOOPS)


def _probes(pod: Pod, events: Sequence[Event]) -> Iterator[Fault]:
    event = next((e for e in reversed(events) if e.reason == "Unhealthy"), None)
    if event is None:
        return
    which = next((w for w in ("Startup", "Readiness", "Liveness") if event.message.startswith(w)), "A")
    said = event.message.partition("probe failed: ")[2].strip() or event.message
    yield Fault("probe", f"pod {pod.name} gets no traffic: its {which.lower()} probe says: {_short(said)}",
                "what it names is the cause; if the models only need longer, raise server/start_timeout",
                event.message, weight=55)


def _short(text: str) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


def _after(text: str, mark: str) -> str:
    return text.partition(mark)[2] or text

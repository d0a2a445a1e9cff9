"""What types can't say about `server/kubernetes`: parts that contradict each other, or the rest of `server`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deploy.errors import SpecError
from deploy.spec.kubernetes import OLDEST, DisruptionPart, KubernetesPart, ModelsPart

if TYPE_CHECKING:
    from deploy.spec.server import ServerPart

_WHERE = "server/kubernetes"
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DNS_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_KEY = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_OWN = re.compile(r"org\.tfs-deploy/|app\.kubernetes\.io/(name|instance|component|managed-by)$")
_IMAGE_VOLUMES = 33
_SOURCES = ("pvc", "host_path", "mirror", "image", "baked")


def check_kubernetes(server: ServerPart, part: KubernetesPart) -> None:
    """Raises SpecError at the first rule that is broken."""
    for problem in _problems(server, part):
        raise problem


def _problems(server: ServerPart, part: KubernetesPart) -> Iterator[SpecError]:
    if part.minor < OLDEST:
        yield _wrong(f"manifests for Kubernetes {part.version} can't be written", "version",
                     f"1.{OLDEST} is the oldest")
    yield from _names(part)
    yield from _labels(part)
    if part.models is not None:
        yield from _source(part, part.models)
    yield from _scaling(server, part)
    if isinstance(part.pdb, DisruptionPart) and (part.pdb.max_unavailable is None) == (part.pdb.min_available is None):
        yield _wrong("expected one of max_unavailable and min_available", "pdb")
    if part.service_monitor and not (server.monitoring and server.monitoring.enable):
        yield _wrong("there are no metrics to collect: server/monitoring is off", "service_monitor",
                     "add `monitoring: {}` to server")
    if server.resources.gpus == "all":
        yield SpecError("a pod gets a number of GPUs, not all of a node", path="server/resources/gpus",
                        hint="write how many", id="wrong-value")
    if part.watch and part.namespace is None:
        yield SpecError("a right is given to an account of a namespace, and none is named", path=f"{_WHERE}/namespace",
                        hint="name it, or take out server/kubernetes/watch", id="missing-key")
    if part.watch and server.tls is not None and server.tls.client_key is not None:
        yield _wrong("the watch job would need server/tls/client_key, and a private key doesn't go into a ConfigMap",
                     "watch", "take it out, and run tfs watch where that key is")
    if part.kind == "inferenceservice":
        yield from _kserve(part)


def _wrong(message: str, key: str, hint: str = "") -> SpecError:
    return SpecError(message, path=f"{_WHERE}/{key}", hint=hint, id="wrong-value")


def _names(part: KubernetesPart) -> Iterator[SpecError]:
    if part.namespace is not None and not _DNS_LABEL.fullmatch(part.namespace):
        yield SpecError(f"no namespace can be called {part.namespace!r}", path=f"{_WHERE}/namespace",
                        hint="use up to 63 small letters, digits and -, not at the ends", id="bad-name")
    named = {"service_account": part.service_account, "tls_secret": part.tls_secret,
             "runtime_class": part.runtime_class, "priority_class": part.priority_class,
             "models/pvc": part.models.pvc if part.models else None,
             "models/mirror/secret": part.mirror.secret if part.mirror else None,
             **{f"pull_secrets/{i}": name for i, name in enumerate(part.pull_secrets)}}
    for key, name in named.items():
        if name is not None and not _DNS_NAME.fullmatch(name):
            yield SpecError(f"nothing in Kubernetes can be called {name!r}", path=f"{_WHERE}/{key}",
                            hint="use small letters, digits, - and ., not at the ends", id="bad-name")


def _labels(part: KubernetesPart) -> Iterator[SpecError]:
    for where, given in (("labels", part.labels), ("annotations", part.annotations),
                         ("pod_annotations", part.pod_annotations), ("node_selector", part.node_selector)):
        for key, value in given.items():
            if not _KEY.fullmatch(key):
                yield _wrong(f"{key!r} can't be a key", f"{where}/{key}", "as in team or example.com/team")
            elif where == "labels" and not _LABEL_VALUE.fullmatch(value):
                yield _wrong(f"a label can't be {value!r}", f"{where}/{key}",
                             "use up to 63 letters, digits, '_', '-' and '.'")
            elif where != "node_selector" and _OWN.match(key):
                yield _wrong("tfs sets this itself, and finds its objects by it", f"{where}/{key}", "take it out")


def _source(part: KubernetesPart, source: ModelsPart) -> Iterator[SpecError]:
    given = [name for name in _SOURCES if getattr(source, name)]
    if len(given) != 1:
        yield _wrong(f"expected one source of models, got {' and '.join(given) or 'none'}", "models",
                     f"use one of {', '.join(_SOURCES)}")
    if source.host_path is not None and not source.host_path.startswith("/"):
        yield SpecError(f"expected an absolute path of the node, got {source.host_path!r}",
                        path=f"{_WHERE}/models/host_path", id="bad-path")
    if source.path and (source.baked or source.mirror):
        yield _wrong(f"with {given[0]} the models are where tfs puts them", "models/path", "take it out")
    if source.image and part.minor < _IMAGE_VOLUMES:
        yield _wrong(f"images as volumes need Kubernetes 1.{_IMAGE_VOLUMES}, and version is {part.version}",
                     "models/image", f"set {_WHERE}/version if all nodes have that, or use another source")


def _scaling(server: ServerPart, part: KubernetesPart) -> Iterator[SpecError]:
    if part.hpa and part.keda:
        yield _wrong("two autoscalers would work against each other: hpa and keda", "keda", "take one out")
    for key, scaled in (("hpa", part.hpa), ("keda", part.keda)):
        if scaled is None:
            continue
        if scaled.min > scaled.max:
            yield _wrong(f"the least is {scaled.min} and the most {scaled.max}", f"{key}/min")
        if scaled.cpu and not (part.requests.cpu or server.resources.cpus):
            yield _wrong("a percentage of what? No pod asks for processors", f"{key}/cpu",
                         "set server/resources/cpus or server/kubernetes/requests/cpu")
    hpa, keda = part.hpa, part.keda
    if hpa and hpa.memory and not (part.requests.memory or server.resources.memory):
        yield _wrong("a percentage of what? No pod asks for memory", "hpa/memory",
                     "set server/resources/memory or server/kubernetes/requests/memory")
    if hpa and not (hpa.cpu or hpa.memory or hpa.metrics):
        yield _wrong("it isn't said what pods are added for", "hpa", "set cpu: 70, for example")
    if keda and not (keda.prometheus or keda.cpu or keda.triggers):
        yield _wrong("it isn't said what pods are added for", "keda", "set prometheus, cpu or triggers")
    if keda and keda.min == 0 and not (keda.prometheus or keda.triggers):
        yield _wrong("without pods there is no load that could bring the first one", "keda/min",
                     "set it to 1, or add a prometheus trigger")


def _kserve(part: KubernetesPart) -> Iterator[SpecError]:
    theirs = {"hpa": part.hpa and (part.hpa.memory or part.hpa.metrics), "keda": part.keda, "pdb": part.pdb,
              "service": part.service.type != "ClusterIP", "watch": part.watch}
    for key, given in theirs.items():
        if given:
            yield _wrong("an InferenceService can't have this: KServe makes these objects itself", key,
                         "take it out, or use kind: deployment")

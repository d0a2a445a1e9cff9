"""Pods get another template: the first new one is held beside the old ones until it is let go on; and the way back.

What it takes to go back is an annotation of the workload, under a field manager of its own: any operator's machine can
go on with it, or undo it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from typing import Any

from deploy.backends.base import LABEL, Progress, Server
from deploy.backends.kubernetes.cluster import MANAGER, Object
from deploy.backends.kubernetes.config_map import ConfigMapStore
from deploy.backends.kubernetes.differences import differences, of_template
from deploy.backends.kubernetes.pods import Pod, Workload, workload_of
from deploy.backends.kubernetes.server import KubernetesServer
from deploy.backends.kubernetes.site import Site
from deploy.backends.replacement import REPLACING, Generations, ReplacementRecord, ServerChange
from deploy.errors import ServerError
from deploy.render.configs import MODELS
from deploy.render.kubernetes import MIRROR_LIST
from deploy.waiting import Deadline, poll

_FORM = f"{LABEL}.form"  # annotation: of which digest the template is, while pods are replaced
_RECORDER, _SCALER = f"{MANAGER}-replacing", f"{MANAGER}-replicas"  # field managers
_HOLD = 86400  # seconds that a new pod has to be ready before an old one may go, while it is held
_MOST_BYTES = 200_000  # of the annotation, by Kubernetes' own limit of 256 KiB for all
_RELEASES = (MODELS, MIRROR_LIST)  # files that releases write
_KEPT = frozenset({"ConfigMap", "Secret", "Lease"})  # which have an owner of their own
_WORDS = 3  # lines of a log
_NEXT = 60.0  # seconds for the cluster to make the next new pod


class PodReplacement:
    """See replacement.Replacement. found: the server that runs, with options as they should be. files, secrets: too."""

    def __init__(self, site: Site, found: KubernetesServer, files: Mapping[str, str], store: ConfigMapStore, *,
                 secrets: Mapping[str, str], progress: Progress) -> None:
        self._site, self._found, self._options, self._store = site, found, found.options, store
        self._files = {name: text for name, text in files.items() if name not in _RELEASES}
        self._progress, self._secrets = progress, dict(secrets)

    @property
    def server(self) -> Server:
        return self._found

    # -- what is to change

    def change(self, *, force: bool = False) -> ServerChange:
        self._site.check_kinds(self._options.part, self._options.objects)
        cluster, at_once, replacing = self._site.cluster, list[str](), list[str]()
        for manifest in self._objects():
            kind, name = (manifest["apiVersion"], manifest["kind"]), manifest["metadata"]["name"]
            live = cluster.get(kind, name)
            if live is None:
                at_once.append(f"{kind[1]} {name}: is made")
                continue
            for path, what in differences(live, cluster.apply(manifest, force=force, dry_run=True)):
                several = replacing if manifest is self._options.workload and of_template(path) else at_once
                several.append(f"{kind[1]} {name}: {path}: {what}")
        at_once += [f"{one['kind']} {one['metadata']['name']}: goes" for one in self._leftovers()]
        at_once += [f"{self._store.path(name)}: changed" for name in self._changed_files()]
        if self._store.differs(self._secrets):
            at_once.append(f"Secret {self._options.tls_secret}: changed")
        return ServerChange(tuple(at_once), tuple(replacing))

    def apply(self, *, force: bool = False) -> None:
        self._write_files()
        with self._replicas_kept(self._options.workload):
            for manifest in self._objects():
                self._site.cluster.apply(manifest, force=force)
        for one in self._leftovers():
            self._progress(f"removing {one['kind']} {one['metadata']['name']}")
            self._site.cluster.delete(one)

    def _objects(self) -> list[Object]:
        return [one for one in self._options.objects
                if (one["kind"], one["metadata"]["name"]) != ("ConfigMap", self._site.config)]

    def _leftovers(self) -> list[Object]:
        """What we have applied and isn't in the spec any more. What others have applied, as Roles, is theirs."""
        wanted = {(one["kind"], one["metadata"]["name"]) for one in self._options.objects}
        try:
            found = {(one["kind"], one["metadata"]["name"]): one for one in self._site.objects()}
        except ServerError as e:
            if e.id != "kubernetes-forbidden":
                raise
            return []  # who may apply needn't be allowed to look for more
        return [one for key, one in sorted(found.items())
                if key not in wanted and key[0] not in _KEPT and _applied_by(MANAGER, one)]

    def _changed_files(self) -> list[str]:
        return [name for name, text in sorted(self._files.items()) if self._store.read(name) != text]

    def _write_files(self) -> None:
        if self._changed_files():
            self._store.write(self._files)
        if self._secrets:
            self._store.exchange(self._secrets)

    # -- what is under way

    @property
    def digest(self) -> str:
        template = self._options.workload["spec"]["template"]
        return "sha256:" + hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()

    def record(self) -> ReplacementRecord | None:
        self._found.replicas()  # as the cluster has it now
        return ReplacementRecord.of(self._found)

    def write(self, record: ReplacementRecord) -> None:
        text = json.dumps(asdict(record), separators=(",", ":"))
        if len(text) > _MOST_BYTES:
            raise ServerError(f"the pod template of {self._site.name} has {len(text)} bytes, and at most {_MOST_BYTES} "
                              "can be kept for the way back", id="kubernetes-too-big", hint="tfs down, then tfs up")
        self._patch(_RECORDER, metadata={"annotations": {REPLACING: text}})

    def end(self) -> None:
        if self._secrets:
            self._store.settle()
        self._patch(_RECORDER)

    def prepared(self, record: ReplacementRecord) -> ReplacementRecord:
        live, workload = self._live(), self._options.workload
        if live["kind"] != workload["kind"]:
            raise ServerError(f"{self._site.name} is a {live['kind']}, and the spec wants a {workload['kind']}",
                              id="other-configuration", hint="tfs down, then tfs up")
        pods = [pod for pod, _ in self._found.pods() if not pod.leaving]
        revisions = {pod.revision for pod in pods}
        if len(revisions) > 1:
            raise ServerError(f"pods of {self._site.name} are of {len(revisions)} forms already: "
                              f"{', '.join(f'{pod.name} ({pod.revision})' for pod in pods)}", id="kubernetes-two-forms",
                              hint="somebody is replacing them: wait until that is over (kubectl rollout status)")
        annotations = {k: v for k, v in live["metadata"]["annotations"].items() if k in workload["metadata"].get(
            "annotations", {})}
        kept = {k: v for k, v in live["spec"].items() if k in workload["spec"] or k == "replicas"}
        made = [[one["apiVersion"], one["kind"], one["metadata"]["name"]] for one in self._missing()]
        texts = {name: self._store.read(name) for name in self._files}
        files = {k: v for k, v in texts.items() if v is not None}
        return replace(record, replaced=tuple(sorted(revisions)),
                       before={"spec": kept, "annotations": annotations, "files": files, "made": made})

    # -- the pods

    def begin(self, *, force: bool = False) -> None:
        for one in self._missing():  # new pods may need it
            self._site.cluster.apply(one)
        self._write_files()
        with self._replicas_kept(self._options.workload):
            self._site.cluster.apply(_held(self._marked(), self._wanted() - 1), force=force)

    def let_go_on(self, record: ReplacementRecord) -> None:
        new, old = self._generations(record)
        if self._options.workload["kind"] == "StatefulSet":
            self._site.cluster.apply(_held(self._marked(), max(0, len(old) - 1)))
            return
        self._site.cluster.apply(self._marked())

        def moved() -> bool | None:
            now, left = self._generations(record)
            return True if not left or {p.name for p in now} - {p.name for p in new} else None

        poll(moved, Deadline(_NEXT), first=0.05, most=0.3)
        if self._generations(record)[1]:
            self._site.cluster.apply(_held(self._marked(), 0))

    def go_back(self, record: ReplacementRecord) -> None:
        before, workload = record.before, self._options.workload
        if before.get("files"):
            self._store.read(MODELS)  # what is there now is what we write over
            self._store.write(before["files"])
        if self._secrets:
            self._store.put_back()
        about = {k: v for k, v in workload["metadata"].items() if k in ("name", "labels", "namespace")}
        old = {**workload, "metadata": {**about, "annotations": before["annotations"]}, "spec": before["spec"]}
        with self._replicas_kept(old):
            self._site.cluster.apply(old, force=True)
        for version, kind, name in before.get("made", ()):
            self._site.cluster.delete({"apiVersion": version, "kind": kind, "metadata": {"name": name}})

    def _missing(self) -> list[Object]:
        cluster = self._site.cluster
        return [one for one in self._objects() if one is not self._options.workload and cluster.get(
            (one["apiVersion"], one["kind"]), one["metadata"]["name"]) is None]

    def _marked(self) -> Object:
        """The workload with a mark that it was applied."""
        about = self._options.workload["metadata"]
        return {**self._options.workload, "metadata": {**about, "annotations": {**about.get("annotations", {}),
                                                                                _FORM: self.digest}}}

    @contextmanager
    def _replicas_kept(self, workload: Object) -> Iterator[None]:
        """Who applies a workload without the `replicas` that it set before resets them to one: another field manager
        keeps them until the autoscaler has looked. Until ours has set them again, the other way round."""
        ours = "replicas" in workload["spec"]
        if not ours or _applied_by(_SCALER, self._live()):
            wanted = workload["spec"]["replicas"] if ours else self._wanted()
            self._patch(_SCALER, spec={"replicas": wanted})
        yield
        if ours:
            self._patch(_SCALER)

    def _patch(self, manager: str, **fields: Any) -> None:
        """What this manager sets of the workload from now on; nothing else."""
        workload = self._options.workload
        about = {"name": self._site.name, **fields.pop("metadata", {})}
        self._site.cluster.apply({"apiVersion": workload["apiVersion"], "kind": workload["kind"], "metadata": about,
                                  **fields}, force=True, manager=manager)

    def _generations(self, record: ReplacementRecord) -> tuple[list[Pod], list[Pod]]:
        """New and old pods that aren't leaving."""
        pods = [pod for pod, _ in self._found.pods() if not pod.leaving]
        return ([pod for pod in pods if pod.revision not in record.replaced],
                [pod for pod in pods if pod.revision in record.replaced])

    def look(self, record: ReplacementRecord) -> Generations:
        live, pairs = self._live(), self._found.pods()
        workload = workload_of(live)
        new = [(p, r) for p, r in pairs if p.revision not in record.replaced and not p.leaving]
        old = [(p, r) for p, r in pairs if p.revision in record.replaced and not p.leaving]
        leaving = any(p.leaving for p, _ in pairs)
        settled = workload.current and not leaving and workload.total == workload.wanted
        return Generations(
            tuple(r for p, r in new if r and p.ready), tuple(r for p, r in old if r and p.ready), workload.wanted,
            _is_held(live),
            begun=bool(new) or (live["metadata"].get("annotations") or {}).get(_FORM) == self.digest,
            coming=sum(not p.ready for p, _ in new),
            all_new=settled and not old and sum(p.ready for p, _ in new) >= workload.wanted,
            all_old=settled and not new and sum(p.ready for p, _ in old) >= workload.wanted,
            pending="; ".join(f"the new pod {p.name}: {p.state}" for p, _ in new if not p.ready)
            or workload.pending([p for p, _ in pairs]) or workload.unready(),
            trouble="" if record.undoing else self._trouble(workload, [p for p, _ in new]))

    def _trouble(self, workload: Workload, new: Sequence[Pod]) -> str:
        """What keeps a new pod from serving, if waiting doesn't help: a server that has ended once isn't good."""
        ended = next((pod for pod in new if pod.restarts or pod.ended is not None), None)
        if ended is not None:
            name, again = ended.name, bool(ended.restarts)
            log = self._site.log(name, _WORDS, previous=again) or self._site.log(name, _WORDS)
            return (f"the server in the new pod {name} ended ({ended.ended or 'it was started again'})"
                    f"{f'; its last words: {log}' if log else ''}")
        final = self._site.final_fault(workload, new, self._options.memory)
        return final.cause if final else ""

    def _wanted(self) -> int:
        return workload_of(self._live()).wanted

    def _live(self) -> Object:
        live = self._site.workload()
        if live is None:
            raise ServerError(f"there is no {self._options.workload['kind']} {self._site.name} any more",
                              id="not-running", hint="somebody has removed it; start it: tfs up")
        return live


def _applied_by(manager: str, one: Object) -> bool:
    """Whether this field manager has applied it."""
    return any(entry.get("manager") == manager and entry.get("operation") == "Apply"
               for entry in one["metadata"].get("managedFields") or ())


def _held(workload: Object, partition: int) -> Object:
    """The workload with no more new pods made than there are, but for the first: a new one counts only after a day.

    partition: how many pods of a StatefulSet stay.
    """
    spec: dict[str, Any] = dict(workload["spec"])
    if workload["kind"] == "StatefulSet":
        spec["updateStrategy"] = {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}
    else:
        spec |= {"minReadySeconds": _HOLD, "progressDeadlineSeconds": _HOLD + spec["progressDeadlineSeconds"]}
    return {**workload, "spec": spec}


def _is_held(live: Object) -> bool:
    spec = live["spec"]
    with suppress(KeyError, TypeError):
        return bool(spec["updateStrategy"]["rollingUpdate"]["partition"])
    return int(spec.get("minReadySeconds") or 0) >= _HOLD

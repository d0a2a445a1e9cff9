"""Pods in a Kubernetes cluster: where they find things, what is applied, where the cluster is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from deploy.backends import kubernetes
from deploy.backends.backend import Capabilities, ConfigStore, Launch, Surroundings
from deploy.backends.base import CERTIFICATE_LABEL, TLS_LABEL, Inspected, Progress, Server, silent
from deploy.backends.kubernetes.options import KubernetesOptions
from deploy.errors import ServerError, SpecError
from deploy.render import Layout
from deploy.render.kubernetes import (
    config_files,
    config_name,
    labels,
    manifests,
    object_name,
    owned,
    part_of,
    pod_layout,
    selector,
    tls_secret_name,
)
from deploy.spec import Spec

if TYPE_CHECKING:
    from deploy.backends.kubernetes.site import Site
    from deploy.backends.replacement import Replacement
    from deploy.repository import StoredVersion


class KubernetesBackend:
    """A cluster that a kubeconfig names, or the one that we run in. See backend.Backend."""

    name = "kubernetes"
    capabilities = Capabilities(own_files=True, own_network=True, drains=True, restarts=True, replicas=True,
                                logs_after_end=True, limits_memory=True, manifests=True, leases=True,
                                replaces=True)
    user: str | None = None  # what pods read isn't on this machine

    @property
    def reader(self) -> tuple[int, int]:
        return os.getuid(), os.getgid()

    def offer(self, spec: Spec, progress: Progress, *, pull: bool) -> str:
        cluster = kubernetes.cluster.connect(part_of(spec))
        answer = cluster.request("GET", "/version", "ask the cluster for its version")
        return f"the cluster at {cluster.where} answers, Kubernetes {answer.get('gitVersion', '')}"

    def prepared(self, spec: Spec) -> Spec:
        return spec

    def layout(self, spec: Spec, config_dir: str | None = None) -> Layout:
        return pod_layout(spec)

    def plan(self, spec: Spec, *, labels: Mapping[str, str], versions: Mapping[str, Sequence[str]] | None = None
             ) -> Launch:
        part = part_of(spec)
        if part.kind == "inferenceservice":
            raise SpecError("an InferenceService is started by KServe, not by tfs", path="server/kubernetes/kind",
                            hint="kubectl apply -k what tfs configure writes, or use kind: deployment",
                            id="wrong-value")
        annotations = {k: v for k, v in labels.items() if k not in (TLS_LABEL, CERTIFICATE_LABEL)}
        objects = tuple(manifests(spec, annotations=annotations, certificate=labels.get(CERTIFICATE_LABEL, "")))
        tls = spec.server.tls
        return Launch(config_files(spec), KubernetesOptions(
            spec.name, part, objects, annotations, spec.server.start_timeout, spec.server.resources.memory or "",
            tls.for_clients if tls else None, tls_secret_name(spec) if tls else "", part.tls_secret is None))

    def stage(self, spec: Spec, versions: Sequence[StoredVersion], progress: Progress) -> None:
        """Pods read a volume that others fill, or mirror the repository themselves: then they are told to."""
        if part_of(spec).mirror is not None:
            kubernetes.staging.fetch_into_pods(_site(spec), spec, versions, progress)

    def server(self, launch: Launch, progress: Progress = silent) -> Server:
        options = launch.options
        assert isinstance(options, KubernetesOptions)
        return kubernetes.server.KubernetesServer(options, partial(_site_of, options), progress=progress)

    def find(self, spec: Spec) -> Server | None:
        if spec.server.backend != self.name:
            return None  # no cluster is asked for a spec that names none
        site = _site(spec)
        workload = site.workload()
        if workload is None:
            return None
        options = self.plan(spec, labels={}).options
        assert isinstance(options, KubernetesOptions)
        return kubernetes.server.KubernetesServer(options, lambda: site, found=workload)

    def replacement(self, spec: Spec, launch: Launch, secrets: Mapping[str, str], progress: Progress) -> Replacement:
        """See replacement.Replacing. Raises ServerError if the server doesn't run."""
        site, options = _site(spec), launch.options
        assert isinstance(options, KubernetesOptions)
        workload = site.workload()
        if workload is None:
            raise ServerError(f"{spec.name} isn't running", hint="start it: tfs up", id="not-running")
        found = kubernetes.server.KubernetesServer(options, lambda: site, progress=progress, found=workload)
        store = kubernetes.config_map.ConfigMapStore(site, labels(spec))
        return kubernetes.replacing.PodReplacement(site, found, launch.files, store, secrets=secrets,
                                                   progress=progress)

    def logs(self, spec: Spec, tail: int) -> str | None:
        return None  # they go with the pods, and those that are there are found

    def left(self, spec: Spec, tail: int) -> Inspected | None:
        return None  # a workload whose pods end is found

    def forget(self, spec: Spec) -> None:
        """Nothing is kept beside the workload."""

    def discard(self, spec: Spec) -> Sequence[str]:
        return ()

    def config(self, spec: Spec) -> ConfigStore:
        return kubernetes.config_map.ConfigMapStore(_site(spec), labels(spec))

    def surroundings(self, spec: Spec) -> Surroundings:
        self.offer(spec, silent, pull=False)
        _site(spec).check_namespace()
        return Surroundings()


def _site(spec: Spec) -> Site:
    cluster = kubernetes.cluster.connect(part_of(spec))
    return kubernetes.site.Site(cluster, object_name(spec), config_name(spec), selector(spec), owned(labels(spec)))


def _site_of(options: KubernetesOptions) -> Site:
    """From what is applied: names and labels are the workload's."""
    one = options.workload
    chosen, about = one["spec"]["selector"]["matchLabels"], one["metadata"]
    config = next(o["metadata"]["name"] for o in options.objects if o["kind"] == "ConfigMap")
    return kubernetes.site.Site(kubernetes.cluster.connect(options.part), about["name"], config, chosen,
                                owned(about["labels"]))

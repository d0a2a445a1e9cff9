"""All objects of a spec, in the order in which they are applied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from deploy import files as disk
from deploy import render
from deploy.errors import SpecError
from deploy.render.kubernetes.kserve import inference_service
from deploy.render.kubernetes.naming import Manifest, config_name, manifest, object_name, part_of, selector
from deploy.render.kubernetes.pods import pod_template
from deploy.render.kubernetes.scaling import disruption_budgets, scalers, workload_kind
from deploy.render.kubernetes.services import (
    headless_name,
    network_policies,
    service_accounts,
    service_monitors,
    services,
)
from deploy.render.kubernetes.sources import MIRROR_LIST, mirror_list, pod_layout, signer_names
from deploy.render.kubernetes.watching import authority, watchers
from deploy.spec import Spec
from deploy.types import ServedModel


@dataclass(frozen=True, slots=True)
class SpecTexts:
    """What goes into the cluster as it stands in files. spec: serving.yaml; signers: the PEM files of `signed_by`;
    authority: that of server/tls which a job needs that connects."""

    spec: str
    signers: tuple[str, ...] = ()
    authority: str = ""

    @classmethod
    def read(cls, spec: Spec) -> SpecTexts:
        """From this machine. Raises SpecError naming the file that can't be read."""
        trusted = authority(spec)
        return cls(_read(spec.path, ""), tuple(_read(path, f"signed_by/{i}") for i, path in enumerate(spec.signed_by)),
                   _read(*trusted) if part_of(spec).watch and trusted else "")


def _read(path: Path, where: str) -> str:
    try:
        return disk.read_text(path)
    except (OSError, UnicodeDecodeError) as e:
        raise SpecError(f"can't read {path}: {disk.reason(e) if isinstance(e, OSError) else 'it is no text'}",
                        path=where, id="bad-path") from None


def manifests(spec: Spec, models: Iterable[ServedModel] | None = None, *, annotations: Mapping[str, str] | None = None,
              texts: SpecTexts | None = None, certificate: str = "") -> list[Manifest]:
    """The objects, as plain JSON data of the API; each call gives new ones.

    models: what is served, for example what a rollout has made known good; None: what the spec says.
    annotations: of the workload, for what a later process has to know. texts: read from this machine, if not given and
    needed. certificate: the digest of the server's, whose pods are others. Raises SpecError with a path of the spec.
    """
    if models is not None:
        spec = msgspec.structs.replace(spec, models=tuple(models))
    part = part_of(spec)
    if texts is None and (part.watch or (part.mirror and spec.signed_by)):
        texts = SpecTexts.read(spec)
    texts = texts or SpecTexts("")
    files = config_files(spec, texts)
    config = manifest(spec, "v1", "ConfigMap", config_name(spec), data=files)
    around = [*service_accounts(spec), config]
    if part.kind == "inferenceservice":
        return [*around, *network_policies(spec), inference_service(spec, files, annotations or {})]
    return [*around, *services(spec), *network_policies(spec), *disruption_budgets(spec),
            _workload(spec, files, annotations or {}, certificate), *scalers(spec), *service_monitors(spec),
            *watchers(spec, texts.spec, texts.authority)]


def config_files(spec: Spec, texts: SpecTexts | None = None) -> dict[str, str]:
    """The ConfigMap's data: the server's config files, and what a mirror goes by."""
    files = render.files(spec, pod_layout(spec))
    if part_of(spec).mirror is None:
        return files
    signers = (texts or SpecTexts.read(spec)).signers if spec.signed_by else ()
    return {**files, MIRROR_LIST: mirror_list(spec.models), **dict(zip(signer_names(spec), signers, strict=True))}


def _workload(spec: Spec, files: Mapping[str, str], annotations: Mapping[str, str], certificate: str) -> Manifest:
    part = part_of(spec)
    scaled = part.hpa or part.keda
    content = {**({} if scaled else {"replicas": part.replicas}), "selector": {"matchLabels": selector(spec)},
               "template": pod_template(spec, files, certificate)}
    if part.kind == "statefulset":
        content |= {"serviceName": headless_name(spec), "podManagementPolicy": "Parallel",
                    "updateStrategy": {"type": "RollingUpdate"}}
    else:
        # A new pod serves before an old one goes, if there is room for it
        rolling = {"maxSurge": part.surge, "maxUnavailable": 0 if part.surge else 1}
        content |= {"strategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
                    "progressDeadlineSeconds": int(spec.server.start_timeout + spec.server.drain) + 120}
    return manifest(spec, "apps/v1", workload_kind(spec), object_name(spec), annotations=annotations, spec=content)

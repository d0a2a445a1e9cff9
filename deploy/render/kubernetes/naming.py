"""What the objects of a spec are called, and the labels by which they are found again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from deploy.errors import SpecError
from deploy.spec import KubernetesPart, Spec

Manifest = dict[str, Any]  # one object, as the API has it
PREFIX = "org.tfs-deploy"
NAME_LABEL = f"{PREFIX}/name"  # on everything that is ours; the value is the spec's name
APP, COMPONENT = "tensorflow-serving", "model-server"
_MOST = 40  # characters; a pod's name and the labels that controllers set add to it, and may have 63
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


def part_of(spec: Spec) -> KubernetesPart:
    """The spec's part for Kubernetes. Raises SpecError if it has none."""
    if spec.server.kubernetes is None:
        raise SpecError("it isn't said how the server runs in Kubernetes", path="server/kubernetes",
                        hint="at least where the models are: models: {pvc: NAME}", id="missing-key")
    return spec.server.kubernetes


def object_name(spec: Spec) -> str:
    """Of the Deployment, and the beginning of all others: the spec's name where Kubernetes allows it (small letters,
    digits and -, a letter first), else what is left of it with a digest, so that two specs are two servers."""
    name = re.sub(r"[^a-z0-9]+", "-", spec.name.lower()).strip("-")
    if not name[:1].isalpha():
        name = f"tfs-{name}".rstrip("-")
    if name == spec.name and len(name) <= _MOST:
        return name
    return f"{name[:_MOST - 7].rstrip('-')}-{hashlib.sha256(spec.name.encode()).hexdigest()[:6]}"


def text_name(first: str, server: str) -> str:
    """Of the ConfigMap beside a Lease: names that differ in what Kubernetes doesn't allow stay apart."""
    allowed = re.sub(r"[^a-z0-9]+", "-", server.lower()).strip("-")[:100]
    return f"{first}-{allowed}-{hashlib.sha256(server.encode()).hexdigest()[:6]}"


def config_name(spec: Spec) -> str:
    """Of the ConfigMap with the server's config files."""
    return f"{object_name(spec)}-config"


def account_name(spec: Spec) -> str:
    """Of the ServiceAccount that the pods run as."""
    return part_of(spec).service_account or object_name(spec)


def tls_secret_name(spec: Spec) -> str:
    """Of the Secret with ssl.config, for a server with server/tls: if not another, called as the ConfigMap."""
    return part_of(spec).tls_secret or config_name(spec)


def label_value(spec: Spec) -> str:
    """Of NAME_LABEL: the spec's name, if a label can have it."""
    return spec.name if _LABEL_VALUE.fullmatch(spec.name) else object_name(spec)


def selector(spec: Spec) -> dict[str, str]:
    """The labels of the server's pods, and of nobody else's. They can't be changed later."""
    return {"app.kubernetes.io/name": APP, "app.kubernetes.io/instance": object_name(spec),
            "app.kubernetes.io/component": COMPONENT}


def owned(all_labels: Mapping[str, str]) -> dict[str, str]:
    """Of one object's labels those that everything of its server has: pods, Services, and a job that watches them."""
    return {key: all_labels[key] for key in ("app.kubernetes.io/name", "app.kubernetes.io/instance", NAME_LABEL)}


def labels(spec: Spec, component: str = COMPONENT) -> dict[str, str]:
    """Those of every object, and of the pods of a component."""
    return {**part_of(spec).labels, **selector(spec), "app.kubernetes.io/component": component,
            "app.kubernetes.io/managed-by": "tfs", NAME_LABEL: label_value(spec)}


def manifest(spec: Spec, api: str, kind: str, name: str, /, *, annotations: Mapping[str, str] | None = None,
             labels_too: Mapping[str, str] | None = None, component: str = COMPONENT, **content: Any) -> Manifest:
    """One object with its name, place and labels. content: what else it has, as `spec` or `data`."""
    part = part_of(spec)
    shown = {**part.annotations, **(annotations or {})}
    about = {"name": name, **({"namespace": part.namespace} if part.namespace else {}),
             "labels": {**(labels_too or {}), **labels(spec, component)}, **({"annotations": shown} if shown else {})}
    return {"apiVersion": api, "kind": kind, "metadata": about, **content}


def given(**values: Any) -> dict[str, Any]:
    """Those that aren't empty: the API takes what is missing for its default."""
    return {name: value for name, value in values.items() if value not in (None, "", [], {})}

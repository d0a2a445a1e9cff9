"""What operators such as KEDA bring to a cluster: their CRDs, from recorded schemas. None of them runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.backends.kubernetes.cluster import Cluster
from tests.support.servers import until

RECORDED = Path(__file__).parents[2] / "recorded" / "crds"
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
# Kind -> its group, version and plural
OPERATORS = {"ScaledObject": ("keda.sh", "v1alpha1", "scaledobjects"),
             "ServiceMonitor": ("monitoring.coreos.com", "v1", "servicemonitors"),
             "InferenceService": ("serving.kserve.io", "v1beta1", "inferenceservices")}
_KEPT = ("type", "enum", "pattern", "minimum", "maximum", "required", "format")


@contextmanager
def installed(cluster: Cluster, *kinds: str) -> Iterator[None]:
    """Custom resources of these kinds can be had in the cluster."""
    paths = list[str]()
    try:
        for kind in kinds:
            group, version, plural = OPERATORS[kind]
            paths.append(f"{_CRDS}/{plural}.{group}")
            cluster.request("POST", _CRDS, f"create the CRD of {kind}", body={
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": f"{plural}.{group}"},
                "spec": {"group": group, "scope": "Namespaced", "names": {
                    "kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
                    "versions": [{"name": version, "served": True, "storage": True, "schema": {
                        "openAPIV3Schema": structural(json.loads((RECORDED / f"{kind.lower()}.json").read_text()))}}]}})
        for path in paths:
            until(lambda path=path: any(  # type: ignore[misc]
                c["type"] == "Established" and c["status"] == "True"
                for c in cluster.request("GET", path, "read a CRD").get("status", {}).get("conditions") or ()), path)
        yield
    finally:
        for path in paths:
            cluster.request("DELETE", path, "delete a CRD", body={})


def structural(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON Schema as a CRD may have it: without references, nor null as a type of its own."""
    return {**_plain(schema, schema.get("$defs") or {}), "type": "object"}


def _plain(part: Mapping[str, Any], defs: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" in part:
        return _plain(defs[part["$ref"].rpartition("/")[2]], defs)
    choices = [one for one in part.get("anyOf") or () if one.get("type") != "null"]
    if len(choices) == 1:
        return {**_plain(choices[0], defs), **({"nullable": True} if len(part["anyOf"]) > 1 else {})}
    if choices:
        kinds = {one.get("type") for one in choices}
        return {"x-kubernetes-int-or-string": True} if kinds == {"integer", "string"} else _ANY
    made = {key: part[key] for key in _KEPT if key in part}
    if "type" not in made and "properties" not in part:
        return _ANY
    if part.get("properties"):
        made["properties"] = {name: _plain(one, defs) for name, one in part["properties"].items()
                              if name not in ("apiVersion", "kind", "metadata") or "$defs" not in part}
        made["required"] = [name for name in part.get("required") or () if name in made["properties"]]
    elif isinstance(part.get("additionalProperties"), Mapping):
        made["additionalProperties"] = _plain(part["additionalProperties"], defs)
    elif made.get("type") == "object":
        return dict(_ANY)
    if made.get("type") == "array":
        made["items"] = _plain(part.get("items") or {}, defs)
    return made


_ANY: dict[str, Any] = {"x-kubernetes-preserve-unknown-fields": True}

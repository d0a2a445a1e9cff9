"""Objects as YAML that every reader takes for the same: same objects, same bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import yaml

from deploy.render.kubernetes.naming import Manifest
from deploy.spec import Spec

MANIFESTS = "manifests.yaml"
_NUMBER = re.compile(r"[-+]?\.?[0-9]")  # what begins so may be a number for YAML 1.2, and text for 1.1


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks; no anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else '"' if _NUMBER.match(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def to_yaml(objects: Iterable[Manifest]) -> str:
    """One document for each."""
    return "---\n".join(yaml.dump(one, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)
                        for one in objects)


def directory_files(spec: Spec, objects: Iterable[Manifest]) -> dict[str, str]:
    """File name -> text: a directory for `kubectl apply -k`, Kustomize, Argo CD and Flux. One file has all objects, so
    that none is left behind there which the spec doesn't have any more."""
    head = f"# Rendered by tfs from {spec.path.name}: edit that file, not this one.\n"
    kustomization = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": [MANIFESTS]}
    return {MANIFESTS: head + to_yaml(objects), "kustomization.yaml": head + to_yaml([kustomization])}

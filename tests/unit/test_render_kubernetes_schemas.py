"""Manifests against the published schemas of several releases of Kubernetes, and of what operators bring along."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from kubernetes_validate import ValidationError, validate

from deploy.render.kubernetes import ROLE_VERBS, Manifest, SpecTexts, manifests, role
from deploy.spec import Spec
from tests.support.manifests import IMAGE_VOLUME, KSERVE, PARTS, kubernetes_spec

CRDS = Path(__file__).parents[1] / "recorded" / "crds"
OTHERS = {"ScaledObject", "ServiceMonitor", "InferenceService"}
RELEASES = ("1.25", "1.27", "1.29", "1.30", "1.33", "1.35", "1.37")


def rendered(spec: Spec) -> list[Manifest]:
    return manifests(spec, texts=SpecTexts("models: []\n"))


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", PARTS)
def test_kubernetes_knows_every_key(name: str, release: str) -> None:
    for one in rendered(kubernetes_spec(*PARTS[name], version=release)):
        if one["kind"] not in OTHERS:
            validate(one, release, strict=True)


@pytest.mark.parametrize("release", ["1.33", "1.37"])
def test_models_as_an_image_volume(release: str) -> None:
    for one in rendered(kubernetes_spec(*IMAGE_VOLUME, version=release)):
        validate(one, release, strict=True)


@pytest.mark.parametrize("verb", ROLE_VERBS)
def test_roles(verb: Any) -> None:
    spec = kubernetes_spec(*PARTS["mirrored"])
    validate(role(spec, verb, rendered(spec)), "1.31", strict=True)


@cache
def schema(kind: str) -> Any:
    return json.loads((CRDS / f"{kind.lower()}.json").read_text())


@pytest.mark.parametrize("name", PARTS)
def test_operators_know_every_key(name: str) -> None:
    for one in rendered(kubernetes_spec(*PARTS[name])):
        if one["kind"] in OTHERS:
            jsonschema.validate(one, schema(one["kind"]))


def test_a_misspelt_key_would_be_seen() -> None:
    plain = rendered(kubernetes_spec(*PARTS["plain"]))
    with pytest.raises(ValidationError):
        validate({**plain[-1], "spec": {**plain[-1]["spec"], "replica": 1}}, "1.31", strict=True)
    for name, kind, key in (("mirrored", "ServiceMonitor", "endpoint"), ("queried", "ScaledObject", "minReplicas")):
        (one,) = (o for o in rendered(kubernetes_spec(*PARTS[name])) if o["kind"] == kind)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**one, "spec": {**one["spec"], key: 1}}, schema(kind))


def test_kserve_knows_every_key_of_the_predictor_and_the_rest_is_a_pod() -> None:
    known = schema("InferenceService")
    (service,) = (o for o in rendered(kubernetes_spec(*KSERVE)) if o["kind"] == "InferenceService")
    assert service["spec"].keys() <= known["InferenceServiceSpec"].keys()
    predictor = service["spec"]["predictor"]
    assert predictor.keys() <= known["PredictorSpec"].keys()
    theirs = ("minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "labels", "annotations")
    template = {"metadata": {"labels": predictor["labels"], "annotations": predictor["annotations"]},
                "spec": {key: value for key, value in predictor.items() if key not in theirs}}
    validate({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {
        "selector": {"matchLabels": {}}, "template": template}}, "1.31", strict=True)

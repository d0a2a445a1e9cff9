"""How many pods there are: HorizontalPodAutoscaler, KEDA's ScaledObject, PodDisruptionBudget."""

from __future__ import annotations

from typing import Any

from deploy.render.kubernetes.naming import Manifest, given, manifest, object_name, part_of, selector
from deploy.spec import DisruptionPart, HpaPart, KedaPart, Spec

_KINDS = {"deployment": "Deployment", "statefulset": "StatefulSet"}
_AUTOSCALING_V2, _POLICY_V1, _UNHEALTHY_POLICY = 23, 21, 27  # minor releases that have them


def workload_kind(spec: Spec) -> str:
    """Deployment or StatefulSet."""
    return _KINDS[part_of(spec).kind]


def scalers(spec: Spec) -> list[Manifest]:
    """The autoscaler, if there is one; the workload then says nothing about replicas."""
    part = part_of(spec)
    if part.hpa is not None:
        return [_hpa(spec, part.hpa)]
    return [] if part.keda is None else [_keda(spec, part.keda)]


def _target(spec: Spec) -> dict[str, str]:
    return {"apiVersion": "apps/v1", "kind": workload_kind(spec), "name": object_name(spec)}


def _hpa(spec: Spec, hpa: HpaPart) -> Manifest:
    version = "v2" if part_of(spec).minor >= _AUTOSCALING_V2 else "v2beta2"
    metrics = [{"type": "Resource", "resource": {"name": name, "target": {"type": "Utilization",
                                                                          "averageUtilization": percent}}}
               for name, percent in (("cpu", hpa.cpu), ("memory", hpa.memory)) if percent is not None]
    return manifest(spec, f"autoscaling/{version}", "HorizontalPodAutoscaler", object_name(spec), spec={
        "scaleTargetRef": _target(spec), "minReplicas": hpa.min, "maxReplicas": hpa.max,
        "metrics": [*metrics, *hpa.metrics], "behavior": _behavior(hpa.calm)})


def _behavior(calm: int) -> dict[str, Any]:
    return {"scaleDown": {"stabilizationWindowSeconds": calm}}


def _keda(spec: Spec, keda: KedaPart) -> Manifest:
    triggers: list[dict[str, Any]] = []
    if keda.prometheus:
        triggers.append({"type": "prometheus", "metadata": {
            "serverAddress": keda.prometheus.address, "query": keda.prometheus.query,
            "threshold": f"{keda.prometheus.threshold:g}"}})
    if keda.cpu:
        triggers.append({"type": "cpu", "metricType": "Utilization", "metadata": {"value": str(keda.cpu)}})
    return manifest(spec, "keda.sh/v1alpha1", "ScaledObject", object_name(spec), spec={
        "scaleTargetRef": _target(spec), "minReplicaCount": keda.min, "maxReplicaCount": keda.max,
        "cooldownPeriod": keda.calm, "triggers": [*triggers, *keda.triggers],
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(min(keda.calm, 3600))}}})


def disruption_budgets(spec: Spec) -> list[Manifest]:
    """For drained nodes. One pod at a time, where there are several and the spec says nothing else."""
    part = part_of(spec)
    if part.pdb is False or (part.pdb is None and not part.several):
        return []
    budget = part.pdb if isinstance(part.pdb, DisruptionPart) else DisruptionPart(max_unavailable=1)
    version = "v1" if part.minor >= _POLICY_V1 else "v1beta1"
    # A pod that isn't ready serves nobody: it may go whatever the budget says
    unhealthy = "AlwaysAllow" if part.minor >= _UNHEALTHY_POLICY else None
    amounts = {"maxUnavailable": budget.max_unavailable, "minAvailable": budget.min_available}
    return [manifest(spec, f"policy/{version}", "PodDisruptionBudget", object_name(spec), spec={
        **{key: value for key, value in amounts.items() if value is not None},
        "selector": {"matchLabels": selector(spec)}, **given(unhealthyPodEvictionPolicy=unhealthy)})]

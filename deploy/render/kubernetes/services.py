"""How the pods are reached, and from where: Services, NetworkPolicy, ServiceMonitor, ServiceAccount."""

from __future__ import annotations

from typing import Any

from deploy.render.configs import GRPC_PORT, REST_PORT
from deploy.render.kubernetes.naming import (
    PREFIX,
    Manifest,
    account_name,
    given,
    manifest,
    object_name,
    part_of,
    selector,
)
from deploy.spec import NetworkPart, ServiceMonitorPart, Spec

# protocol is written out: server-side apply wants it in older clusters. appProtocol: what proxies go by
_REST = {"name": "rest", "port": REST_PORT, "targetPort": "rest", "protocol": "TCP", "appProtocol": "http"}
_GRPC = {"name": "grpc", "port": GRPC_PORT, "targetPort": "grpc", "protocol": "TCP", "appProtocol": "kubernetes.io/h2c"}

ROLE = f"{PREFIX}/service"  # label that tells the Services apart


def services(spec: Spec) -> list[Manifest]:
    """One for each protocol, because what gateways and load balancers have to be told is told per Service; and a
    headless one, for clients that spread their gRPC calls themselves."""
    part, name = part_of(spec).service, object_name(spec)
    grpc = {**_GRPC, "port": spec.server.grpc_port or GRPC_PORT, **given(nodePort=part.grpc_node_port)}
    rest = {**_REST, "port": spec.server.rest_port or REST_PORT, **given(nodePort=part.rest_node_port)}
    return [_service(spec, f"{name}-rest", "rest", [rest], type=part.type),
            _service(spec, f"{name}-grpc", "grpc", [grpc], type=part.type),
            _service(spec, headless_name(spec), "headless", [dict(_GRPC), dict(_REST)], type="ClusterIP",
                     clusterIP="None")]


def headless_name(spec: Spec) -> str:
    """Of the Service that has one address per pod."""
    return f"{object_name(spec)}-headless"


def _service(spec: Spec, name: str, role: str, ports: list[dict[str, Any]], **content: str) -> Manifest:
    return manifest(spec, "v1", "Service", name, annotations=part_of(spec).service.annotations, labels_too={ROLE: role},
                    spec={**content, "selector": selector(spec), "ports": ports})


def service_accounts(spec: Spec) -> list[Manifest]:
    """One without any right, unless the spec names one that is there."""
    if part_of(spec).service_account is not None:
        return []
    return [manifest(spec, "v1", "ServiceAccount", account_name(spec), automountServiceAccountToken=False)]


def network_policies(spec: Spec) -> list[Manifest]:
    """Requests to the two ports only; nothing out but what the spec allows, and what a mirror needs: it may be
    anywhere. kubelet's probes always get in."""
    part = part_of(spec)
    if part.network_policy is False:
        return []
    network = NetworkPart() if part.network_policy is True else part.network_policy
    ports = [{"protocol": "TCP", "port": "grpc"}, {"protocol": "TCP", "port": "rest"}]
    egress = network.egress if network.egress is not None else [{}] if part.mirror else []
    return [manifest(spec, "networking.k8s.io/v1", "NetworkPolicy", object_name(spec), spec={
        "podSelector": {"matchLabels": selector(spec)}, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{**given(**{"from": list(network.sources)}), "ports": ports}], "egress": list(egress)})]


def service_monitors(spec: Spec) -> list[Manifest]:
    """For the Prometheus operator, on the Service of REST, where the metrics are."""
    part, monitoring = part_of(spec), spec.server.monitoring
    if part.service_monitor is False or monitoring is None:
        return []
    chosen = ServiceMonitorPart() if part.service_monitor is True else part.service_monitor
    # The headless Service has both ports, too, and each pod would be counted twice
    return [manifest(spec, "monitoring.coreos.com/v1", "ServiceMonitor", object_name(spec), labels_too=chosen.labels,
                     spec={"selector": {"matchLabels": {**selector(spec), ROLE: "rest"}},
                           "endpoints": [{"port": "rest", "path": monitoring.path, "interval": chosen.interval}]})]

"""Services: REST, gRPC, and one address per pod."""

from __future__ import annotations

from typing import Any

from deploy.render.configs import GRPC_PORT, REST_PORT
from deploy.render.kubernetes.naming import Manifest, metadata, object_name, part_of, selector
from deploy.spec import Spec

# What a proxy needs to know. protocol is written out: server-side apply of older clusters wants it
_REST = {"name": "rest", "port": REST_PORT, "targetPort": "rest", "protocol": "TCP", "appProtocol": "http"}
_GRPC = {"name": "grpc", "port": GRPC_PORT, "targetPort": "grpc", "protocol": "TCP", "appProtocol": "kubernetes.io/h2c"}


def services(spec: Spec) -> list[Manifest]:
    """One for each protocol, because what gateways and load balancers have to be told is told per Service; and a
    headless one, for clients that spread their gRPC calls themselves."""
    part, name = part_of(spec).service, object_name(spec)
    grpc = {"port": spec.server.grpc_port or GRPC_PORT, **_node_port(part.grpc_node_port)}
    rest = {"port": spec.server.rest_port or REST_PORT, **_node_port(part.rest_node_port)}
    return [
        _service(spec, f"{name}-rest", [{**_REST, **rest}], type=part.type),
        _service(spec, f"{name}-grpc", [{**_GRPC, **grpc}], type=part.type),
        _service(spec, f"{name}-headless", [_GRPC, _REST], type="ClusterIP", clusterIP="None"),
    ]


def headless_name(spec: Spec) -> str:
    """Of the Service that has one address per pod."""
    return f"{object_name(spec)}-headless"


def _node_port(port: int | None) -> dict[str, int]:
    return {} if port is None else {"nodePort": port}


def _service(spec: Spec, name: str, ports: list[dict[str, Any]], **kind: str) -> Manifest:
    about = metadata(spec, name, **part_of(spec).service.annotations)
    return {"apiVersion": "v1", "kind": "Service", "metadata": about,
            "spec": {**kind, "selector": selector(spec), "ports": ports}}

"""Where a pod is reached from here: at its own address, or through the API server."""

from __future__ import annotations

from typing import Literal

from deploy.backends.kubernetes.forwarding import Forward, connected
from deploy.backends.kubernetes.pods import Pod
from deploy.backends.kubernetes.site import Site, on_this_machine
from deploy.errors import DeployError
from deploy.render.configs import GRPC_PORT, REST_PORT
from deploy.types import Endpoint


class Reach:
    """Endpoints of pods; ports that are forwarded live as long as it does.

    An address of a pod says nothing outside of its cluster: the same one may be another cluster's pod, which would be
    told what isn't meant for it. So it is taken where the cluster's network is known to be ours, or the spec says so.
    """

    def __init__(self, how: Literal["auto", "pods", "api"] = "auto") -> None:
        self._how = how
        self._forwards = dict[str, tuple[Forward, Forward]]()  # by pod's uid

    def endpoint(self, site: Site, pod: Pod) -> Endpoint:
        """Of a pod that runs."""
        if self._direct(site, pod):
            return Endpoint(pod.address, GRPC_PORT, REST_PORT)
        if pod.uid not in self._forwards:
            self._forwards[pod.uid] = (Forward(site.cluster, pod.name, GRPC_PORT),
                                       Forward(site.cluster, pod.name, REST_PORT))
        grpc, rest = self._forwards[pod.uid]
        return Endpoint("127.0.0.1", grpc.port, rest.port)

    def _direct(self, site: Site, pod: Pod) -> bool:
        return self._how == "pods" or (self._how == "auto" and (site.cluster.inside or on_this_machine(pod.host)))

    def refused(self, site: Site, pod: Pod) -> str:
        """Why the API server lets no connection through to a pod; "" if it does, or isn't asked to."""
        if self._direct(site, pod):
            return ""
        try:
            connected(site.cluster, pod.name, REST_PORT).shutdown()
        except DeployError as e:
            return e.message
        return ""

    def close(self) -> None:
        """End all that is forwarded."""
        for forwards in self._forwards.values():
            for forward in forwards:
                forward.close()
        self._forwards.clear()

"""A server of several pods in a Kubernetes cluster, through the official client.

    backend      the backend: where pods find things, what is applied, where the cluster is
    server       the spec's Deployment or StatefulSet with its pods, as a server of several replicas
    options      what is applied, and what can be read back from it
    reaching     where a pod is asked: at its own address, or through the API server
    forwarding   ports of pods on this machine, through the API server
    streams      websockets into pods, with limits: a port, a command
    pods         what the API says of workloads and pods, as values
    faults       what keeps pods from serving, with cause and fix
    site         one server's objects: its workload, pods, logs, events
    replacing    new pods in the place of old ones, held after the first; and what is changed without that
    differences  what an apply would change
    staging      versions on their way into pods that mirror a repository
    config_map   the config store: the ConfigMap that the pods mount
    lease        a lock and a text that all who use a cluster see
    cluster      one API server: requests, objects, server-side apply
    refusals     the one place where what it says, or what keeps us from asking it, becomes our errors
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)

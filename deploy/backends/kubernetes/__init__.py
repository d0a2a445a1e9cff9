"""A server of several pods in a Kubernetes cluster, through the official client.

    backend      the backend: where pods find things, what is applied, where the cluster is
    server       the spec's Deployment or StatefulSet with its pods, as a server of several replicas
    pods         what the API says of pods and workloads, as values; what keeps them from serving, with cause and fix
    config_map   the config store: the ConfigMap that the pods mount
    cluster      one API server: requests, objects, server-side apply
    refusals     the one place where what it says, or what keeps us from asking it, becomes our errors
    forwarding   ports of pods on this machine, through the API server, where pods can't be reached otherwise
"""

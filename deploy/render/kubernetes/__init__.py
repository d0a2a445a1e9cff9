"""serving.yaml -> the objects of a Kubernetes cluster, as plain data in the API's own form. Pure functions.

    objects     all objects of a spec, in the order in which they are applied
    naming      what the objects are called, and the labels by which they are found
    pods        the pod template: the server, what runs beside it, where it runs
    probes      when a pod is ready, and how it ends
    sources     where the pods find the models: volumes, paths inside, mirrors
    services    Services, NetworkPolicy, ServiceMonitor, ServiceAccount
    scaling     HorizontalPodAutoscaler, ScaledObject, PodDisruptionBudget
    kserve      an InferenceService instead
    roles       the least Role that each command needs
    watching    a CronJob for `tfs watch`
    writing     objects as YAML; same objects, same bytes
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)

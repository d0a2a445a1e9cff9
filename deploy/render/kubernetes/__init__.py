"""serving.yaml -> the objects of a Kubernetes cluster, as plain data in the API's own form. Pure functions.

    objects     all objects of a spec, in the order in which they are applied
    naming      what the objects are called, and the labels by which they are found
    pods        the pod template: server, probes, volumes, and paths inside
    services    REST, gRPC, and one address per pod
    writing     objects as YAML; same objects, same bytes
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""serving.yaml as frozen values. Every message names the path of the value (`models/0/labels/stable`)."""

from deploy.spec.format import (
    DEFAULT_IMAGE,
    BackendKind,
    Batching,
    ComparePart,
    ModelSpec,
    Monitoring,
    Resources,
    RolloutPart,
    ServerPart,
    SmokePart,
    Spec,
    SpecFile,
    Threads,
    TlsPart,
    json_schema,
)
from deploy.spec.reading import bare, checked, load_spec, parse

__all__ = ["DEFAULT_IMAGE", "BackendKind", "Batching", "ComparePart", "ModelSpec", "Monitoring", "Resources",
           "RolloutPart", "ServerPart", "SmokePart", "Spec", "SpecFile", "Threads", "TlsPart", "bare", "checked",
           "json_schema", "load_spec", "parse"]

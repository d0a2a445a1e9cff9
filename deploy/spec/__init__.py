"""serving.yaml as frozen values. Every message names the path of the value (`models/0/labels/stable`).

    format     the structs that msgspec checks a file against; the JSON Schema comes from them
    reading    from a file's text to a checked Spec; server: what the types of `server` can't say
    yaml_text  YAML without lost values: a key that stands twice is a mistake with a line
    paths      directories that a file names, relative to it
    messages   what is wrong, with the path and what was expected there
"""

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

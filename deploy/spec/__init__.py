"""serving.yaml as frozen values. Every message names the path of the value (`models/0/labels/stable`).

    format     the structs that msgspec checks a file against; the JSON Schema comes from them
    reading    from a file's text to a checked Spec; server: what the types of `server` can't say
    yaml_text  YAML without lost values: a key that stands twice is a mistake with a line
    paths      directories that a file names, relative to it
    messages   what is wrong, with the path and what was expected there
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

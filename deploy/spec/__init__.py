"""serving.yaml as frozen values. Every message names the path of the value (`models/0/labels/stable`).

    base       what every part is made of
    server     the structs of its part `server`
    kubernetes   those of `server/kubernetes`; kubernetes_rules: what types can't say about them
    servers    several servers of one file, each with what is its own
    remote     the part `server/remote`: a server that somebody else starts
    freeze     times in which nothing is released
    format     the structs that msgspec checks a file against; the JSON Schema comes from them
    reading    from a file's text to a checked Spec
    constraints   what types can't say: directories relative to the file, values of `server` that contradict each other
    messages   what is wrong, with the path and what was expected there
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)

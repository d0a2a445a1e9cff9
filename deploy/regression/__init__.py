"""Recorded answers, kept and asked again: on the engine, on a server, on another version.

    comparing   `replay`: a version's goldens against what answers (`on_engine`, `on_server`) -> AnswerDrift;
                `compare`: may one version replace another? contract, graph, files, and its answers
    editing     `add`, `remove`, `import_file`: another version of the same model with more or fewer records, since
                published ones never change; requests that a server has recorded become goldens
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)

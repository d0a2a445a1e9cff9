"""Recorded answers, kept and asked again: on the engine, on a server, on another version.

    comparing   `replay`: a version's goldens against what answers (`on_engine`, `on_server`) -> AnswerDrift;
                `compare`: may one version replace another? contract, graph, files, and its answers
    editing     `add`, `remove`: another version of the same model with more or fewer records, since published ones
                never change
    importing   `import_file`: requests that a server has recorded become goldens
"""

from __future__ import annotations

from deploy.regression.comparing import ComparedVersion, Comparison, compare, on_engine, on_server, replay
from deploy.regression.editing import Edited, add, remove
from deploy.regression.importing import import_file

__all__ = ["ComparedVersion", "Comparison", "Edited", "add", "compare", "import_file", "on_engine", "on_server",
           "remove", "replay"]

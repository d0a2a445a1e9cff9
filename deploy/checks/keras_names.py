"""Which classes and functions a Keras file may name: those that Keras's own safe mode builds, and its author's own.

Keras before 3.9 imported any module that a file names, so everything else is refused, whichever Keras loads it.
Source: keras/src/saving/serialization_lib.py of 3.15.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

_CLASS = re.compile(r"[A-Z][A-Za-z0-9_]*")
_FUNCTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OURS = frozenset({"keras", "tf_keras"})
_HUBS = frozenset({"keras_hub", "keras_cv", "keras_nlp"})  # safe mode knows their layers
_BUILTINS = frozenset({"builtins", "__main__", "__builtin__"})
_DANGEROUS = frozenset({"eval", "exec", "compile", "open", "getattr", "setattr", "__import__", "input", "breakpoint",
                        "globals", "vars", "delattr", "memoryview"})
_NO_MODELS = frozenset({"config", "saving", "export", "datasets", "distribution", "backend", "tree", "utils",
                        "wrappers", "preprocessing", "callbacks", "visualization", "distillation"})
_FUNCTIONS = frozenset({"activations", "losses", "metrics", "regularizers", "initializers", "constraints", "ops",
                        "nn", "random"})
_MODULES_TOO = frozenset({"random", "math", "operator"})  # of Python's library, and of Keras's
_UTILS = frozenset({"FeatureSpace"})
_OUTSIDE = {"TFSMLayer": "loads a SavedModel from outside of the file",
            "TorchModuleWrapper": "holds a pickle of a PyTorch module",
            "JaxLayer": "calls a function of JAX", "FlaxLayer": "calls a module of Flax"}
_LIBRARIES = frozenset({
    "numpy", "setuptools", "pkg_resources", "_distutils_hack", "pip", "wheel", "tensorflow", "torch", "jax", "jaxlib",
    "flax", "scipy", "sklearn", "pandas", "joblib", "dill", "cloudpickle", "h5py", "requests", "urllib3", "yaml",
    "absl", "rich", "click", "docker", "grpc", "google", "ml_dtypes", "optree", "namex", "packaging", "psutil",
    "IPython", "pytest", "_pytest", "wrapt", "six", "deploy", "PIL", "matplotlib", "cffi", "twisted", "paramiko"})
_FILES = ("vocabulary", "vocabulary_path", "idf_weights", "filepath", "file_path")


def objection(node: Mapping[str, Any]) -> str:
    """Why an object of a configuration isn't built from a file that nobody vouches for; empty if it may be."""
    name = node.get("class_name")
    if not isinstance(name, str):
        return ""
    inner = node.get("config")
    if name in _OUTSIDE:
        return f"{name} {_OUTSIDE[name]}"
    function = name == "function"
    named = inner if function and isinstance(inner, str) else name
    module = node.get("module")
    if isinstance(module, str) and module and not _may_be(module, named, node, function=function):
        kind = "function" if function else "class"
        return f"the file names the {kind} {module}.{named}, which Keras's safe mode wouldn't build"
    if isinstance(inner, Mapping):
        for key in _FILES:
            if isinstance(inner.get(key), str) and inner[key]:
                return f"{name} reads a file: {key} = {inner[key]!r:.200}"
    return ""


def _may_be(module: str, name: str, node: Mapping[str, Any], *, function: bool) -> bool:
    root, *below = module.split(".")
    if root in _BUILTINS:
        return name not in _DANGEROUS and bool(_FUNCTION.fullmatch(name.rpartition(">")[2]))
    if root in _OURS:
        return _of_keras(below, name, function=function)
    if root in _HUBS:
        return not function and bool(_CLASS.fullmatch(name)) and sys.stdlib_module_names.isdisjoint(below)
    if root in sys.stdlib_module_names or root in _LIBRARIES:
        return False
    # The author's own: found by its registered name among what the user has imported, and not otherwise.
    return bool(node.get("registered_name"))


def _of_keras(below: list[str], name: str, *, function: bool) -> bool:
    path = below[1:] if below[:1] in (["src"], ["_tf_keras"], ["api"]) else below
    if path[:1] == ["keras"]:
        path = path[1:]
    if not sys.stdlib_module_names.isdisjoint({*path} - _MODULES_TOO) or not all(map(str.isidentifier, path)):
        return False
    if function:
        return bool(path) and path[0] in _FUNCTIONS and bool(_FUNCTION.fullmatch(name)) and not name.startswith("_")
    if path[:1] == ["utils"]:
        return name in _UTILS
    return bool(_CLASS.fullmatch(name)) and (not path or path[0] not in _NO_MODELS)

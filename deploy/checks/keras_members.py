"""What stands in a Keras file: weights that lead elsewhere, pickles in whatever coat, names of classes and functions.

Names: those that Keras's own safe mode builds, and its author's own. Keras before 3.9 imported any module that a file
names, so everything else is refused, whichever Keras loads it. Source: keras/src/saving/serialization_lib.py of 3.15.
"""

from __future__ import annotations

import pickletools
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

_HEAD = 1 << 16
_MOST_OBJECTS = 100_000
_MOST_MEMBERS = 10_000
_NUMPY, _ZIP, _HDF5 = b"\x93NUMPY", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"
_IMPORTS = frozenset({"GLOBAL", "INST", "STACK_GLOBAL", "REDUCE", "BUILD"})

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


def problems(file: IO[bytes]) -> Iterator[str]:
    """What is wrong with the contents of a member, or of a file of weights: sentences without a subject."""
    head = file.read(_HEAD)
    file.seek(0)
    if is_pickle(head):
        yield "is a pickle"
    elif head.startswith(_NUMPY):
        if _objects(head):
            yield "holds Python objects, as a pickle"
    elif head.startswith(_ZIP):
        yield from _arrays(file)
    elif head.startswith(_HDF5):
        yield from _links(file)


def is_pickle(head: bytes) -> bool:
    """Whether bytes begin as a pickle does: of protocol 2 to 5 by its mark, an older one by what it says."""
    if len(head) > 1 and head[0] == 0x80 and head[1] in range(2, 6):
        return True
    opcodes = set()
    try:
        for number, (opcode, _, _) in enumerate(pickletools.genops(head)):
            opcodes.add(opcode.name)
            if number > 10_000:
                break
    except Exception:  # it isn't one, or doesn't end here
        return False
    return "STOP" in opcodes and not _IMPORTS.isdisjoint(opcodes)


def _objects(head: bytes) -> bool:
    """Whether a .npy file's dtype has objects in it, alone or in a field."""
    text = head[:4096]
    return b"'|O" in text or b"'O'" in text or b'"|O' in text or b"'|O8'" in text


def _arrays(file: IO[bytes]) -> Iterator[str]:
    """An .npz: a zip of .npy files."""
    with zipfile.ZipFile(file) as inner:
        for member in inner.infolist()[:_MOST_MEMBERS]:
            with inner.open(member) as array:
                head = array.read(4096)
            if is_pickle(head):
                yield f"holds a pickle, {member.filename!r:.100}"
            elif head.startswith(_NUMPY) and _objects(head):
                yield f"holds Python objects, as a pickle, in {member.filename!r:.100}"


def _links(file: IO[bytes]) -> Iterator[str]:
    """An HDF5 file whose data stand in other files; each is told once. Without h5py nothing can be said."""
    try:
        import h5py  # type: ignore[import-untyped]
    except ImportError:
        return
    try:
        with h5py.File(file, "r") as opened:
            yield from _walk(h5py, opened)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError):  # damaged: whoever loads it will say so
        return


def _walk(h5py: Any, opened: Any) -> Iterator[str]:
    pending, visited, count = [opened], set(), 0
    while pending:
        group = pending.pop()
        for name in group:
            count += 1
            if count > _MOST_OBJECTS:
                yield f"has more than {_MOST_OBJECTS:,} objects"
                return
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield f"has a link to another file, {link.filename!r:.200}"
                continue
            if isinstance(link, h5py.SoftLink):
                continue
            item = group[name]
            where = h5py.h5o.get_info(item.id).addr
            if where in visited:
                continue
            visited.add(where)
            if isinstance(item, h5py.Group):
                pending.append(item)
            elif isinstance(item, h5py.Dataset):
                if item.external:
                    yield f"keeps data in another file, {str(item.external[0][0])!r:.200}"
                if item.is_virtual:
                    yield "takes data from other files"


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
        what = "function" if function else "class"
        return f"the file names the {what} {module}.{named}, which Keras's safe mode wouldn't build"
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

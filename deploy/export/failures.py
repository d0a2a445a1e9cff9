"""Exceptions of the user's own code, and of TensorFlow while it runs that, as errors of ours."""

from __future__ import annotations

import ast
import contextlib
import re
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.errors import DeployError, ExportError
from deploy.export import graph_size
from deploy.export.quiet import backend_hint

TRACEBACK_LINES = 12

_LIBRARIES = tuple({*sysconfig.get_paths().values(), str(Path(__file__).resolve().parent.parent)})
_SAVERS = {
    "from_saved_model": "leave the lines that convert it out: `tfs export --tflite` does that; first the model itself "
                        "has to be made above them",
    **dict.fromkeys(("save", "save_model", "export"), "leave that line out: `tfs export` saves the model itself")}
_MIXED = "layers of Keras 2 (tf_keras) and Keras 3 are mixed in one model: import all of them from the same one; " \
    "TF_USE_LEGACY_KERAS=1 makes tf.keras Keras 2"

_NO_DIRECTORY = "Keras 3 writes no SavedModel with model.save(directory): leave that line out, `tfs export` takes " \
    "the model itself; or call model.export(directory)"
_KNOWN = (
    (r".*(content is larger than 2GB|exceeds maximum protobuf size|Failed to serialize)", graph_size.HINT),
    (r"(\w+: )?Cannot convert a symbolic tf\.Tensor", "numpy can't work on what is known only when the model is asked: "
     "use TensorFlow's own functions in its place (tf.square, not np.square)"),
    (r"Invalid filepath extension for saving|The `save_format` argument is deprecated", _NO_DIRECTORY),
    (r"File format not supported: filepath=.*SavedModel", "Keras 3 loads no SavedModel directory: give the directory "
     "itself to `tfs export`, or use keras.layers.TFSMLayer"),
    (r"module 'tensorflow[\w.]*' has no attribute", "code for TensorFlow 1 or an early 2: rewrite it for this release; "
     "tf.compat.v1 has most of it. A SavedModel that was written already goes to `tfs export` as its directory"),
    (r"'\w+': Unknown [\w ]+: 'function'", "Keras 2.13 and later write functions of one's own into .h5 files, and "
     "can't load them from there: save it as .keras, or export the model object from the code that made it"),
    (r"module 'keras\._tf_keras[\w.]*' has no attribute", "code for Keras 2: rewrite it for Keras 3, or use tf_keras"),
    (r"The filename must end in `\.weights\.h5`", "end its name in .weights.h5; for serving, `tfs export` takes the "
     "model itself"))
_USUAL = {"np": "import numpy as np", "tf": "import tensorflow as tf", "keras": "import keras",
          "pd": "import pandas as pd", "layers": "from keras import layers"}
_NOISE = re.compile(r"\x1b\[[0-9;]*m|\{\{function_node [^}]*\}\} ?| ?\[\[\{\{node [^}]*\}\}\]\]| ?\[Op:[^\]]*\]")
_FIRST_ROOT = re.compile(r"root error\(s\) found\.\s*\(0\) [A-Za-z_]+: (.*)")
_DESERIALIZING = re.compile(r"(?s)Error when deserializing class ('\w+') using config=.*Exception encountered: (.*)")
_CALLED = re.compile(r"Exception encountered when calling (.*\.call\(\))\.")


def user_error(doing: str, error: BaseException, hint: str = "") -> ExportError:
    """The user's own exception as ours: what it says in the sentence, the end of its traceback in the details."""
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    tail = "".join(lines).rstrip().splitlines()[-TRACEBACK_LINES:]
    hint = _hint(error) or hint or "see the traceback with --verbose"
    return ExportError(f"{doing} failed: {_sentence(error)}{_place(error)}", hint=hint,
                       details={"traceback": "\n".join(tail)}, id="your-code-failed")


@contextlib.contextmanager
def renamed(stage: Path, shown: str) -> Iterator[None]:
    """Errors name what is exported: the stage is gone when they are read."""
    try:
        yield
    except DeployError as error:
        error.message, error.hint = (text.replace(str(stage), shown) for text in (error.message, error.hint))
        raise


def _place(error: BaseException) -> str:
    """The last line of the user's own code, as ` (FILE, line N)`: neither ours nor that of an installed package."""
    converted = getattr(getattr(error, "ag_error_metadata", None), "translated_stack", None) or ()
    frames: list[Any] = [*traceback.extract_tb(error.__traceback__), *reversed(converted)]  # AutoGraph: innermost first
    own = [frame for frame in frames if _own(frame)]
    return f" ({_short(own[-1].filename)}, line {own[-1].lineno})" if own else ""


def _own(frame: Any) -> bool:
    return bool(frame.lineno and Path(frame.filename).is_file() and not frame.filename.startswith(_LIBRARIES)
                and "site-packages" not in frame.filename and "__autograph_generated" not in frame.filename)


def _short(name: str) -> str:
    """Relative to the working directory, if it is below that."""
    path, here = Path(name), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _mixed(error: BaseException) -> bool:
    """Whether code of one Keras was given something of the other."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        place = _keras(str(frame.f_globals.get("__name__")))
        values = [v for value in frame.f_locals.values() for v in (value if type(value) in (list, tuple) else [value])]
        if place and any(_keras(type(value).__module__) not in ("", place) for value in values):
            return True
    return False


def _keras(module: str) -> str:
    """`keras` or `tf_keras`, for a module of theirs."""
    top = module.partition(".")[0]
    return top if top in ("keras", "tf_keras") else ""


def _saving(error: BaseException) -> str:
    """What to do about a line that saves the model itself, which is what the tutorials of all ages end with."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _own(frame)]
    try:
        tree = ast.parse(Path(frames[-1].filename).read_text()) if frames else ast.Module([], [])
    except (OSError, ValueError, SyntaxError):
        return ""
    calls = {getattr(node.func, "attr", getattr(node.func, "id", "")) for node in ast.walk(tree)
             if isinstance(node, ast.Call) and node.lineno <= (frames[-1].lineno or 0) <= (node.end_lineno or 0)}
    return next((_SAVERS[name] for name in _SAVERS if name in calls), "")


def _missing_name(error: NameError) -> str:
    """What a snippet lacks that was cut out of a longer text."""
    missing = str(error.name or "")
    line = _USUAL.get(missing)
    if saving := "" if line else _saving(error):
        return saving
    return f"add `{line}`" if line else f"give {missing!r} a value above that line, or import it" if missing else ""


def _hint(error: BaseException) -> str:
    if isinstance(error, NameError):
        return _missing_name(error)
    if _mixed(error):
        return _MIXED
    known = next((advice for start, advice in _KNOWN
                  for text in (str(error), _reason(error)) if re.match(start, text, re.DOTALL)), "")
    return backend_hint() if isinstance(error, ImportError) else known


def _sentence(error: BaseException) -> str:
    """The exception's type and its reason in one line."""
    line, class_name = _reason(error).rstrip("."), type(error).__name__
    return line if not line or line.startswith(f"{class_name}: ") else f"{class_name}: {line}"


def _reason(error: BaseException) -> str:
    """The first line, or what stands behind a traceback (of AutoGraph, of a graph's execution)."""
    text = _NOISE.sub("", str(error)).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    if first := _FIRST_ROOT.search(text):
        return first[1].strip()
    if loading := _DESERIALIZING.match(text):
        return f"{loading[1]}: {loading[2].strip().splitlines()[0]}"
    if hasattr(error, "ag_error_metadata") or lines[0] == "in user code:":
        return lines[-1]
    if lines[0] == "Graph execution error:":
        reason = [line.strip() for line in text.split("\n\n")[-1].splitlines()
                  if line.strip() and not line.startswith(("Detected at node", "<stack traces unavailable>"))]
        return reason[0] if reason else lines[-1]
    if (called := _CALLED.fullmatch(lines[0])) and len(lines) > 1:
        return f"{called[1]}: {lines[1]}"
    return lines[0]

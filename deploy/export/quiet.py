"""TensorFlow without its chatter. What the user's own code prints stays."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from deploy.engine.library import closed_stderr
from deploy.errors import ExportError
from deploy.extras import install


def tensorflow() -> Any:
    """The module `tensorflow`, imported without the lines that it writes to stderr. Raises ExportError without it."""
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with closed_stderr():  # three lines are written before any setting is read
            _import("tensorflow")
    return sys.modules["tensorflow"]


def backend_hint() -> str:
    """What to do where Keras is told to run on something else than TensorFlow; empty where it isn't."""
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    return "" if backend == "tensorflow" else \
        f"KERAS_BACKEND is {backend}, and only TensorFlow writes SavedModels: set KERAS_BACKEND=tensorflow"


def keras() -> Any:
    """The module `keras`. Raises ExportError if it isn't Keras 3 on TensorFlow."""
    tensorflow()
    module = _import("keras")
    if module.backend.backend() != "tensorflow":
        raise ExportError(f"Keras runs on {module.backend.backend()}, and only TensorFlow writes SavedModels",
                          hint="set KERAS_BACKEND=tensorflow before anything imports keras", id="keras-backend")
    return module


def keras2() -> Any:
    """The module `tf_keras`, which is Keras 2. Raises ExportError."""
    tensorflow()
    with muted():
        return _import("tf_keras", "keras2")


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Keep TensorFlow's loggers and all warnings silent for a while."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "absl")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _import(name: str, extra: str = "tensorflow") -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise ExportError(f"{name} can't be imported: {error}", hint=backend_hint() or
                              "install what it needs, or another release of it") from error
        raise ExportError(f"{name} isn't installed, and exporting needs it", hint=install(extra),
                          id="extra-missing") from None

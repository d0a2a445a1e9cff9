"""Names of a package that are imported when they are first used, and a module that is.

A room says what it offers in its `__init__.pyi`, one `from .module import Name as Name` to a line: type checkers read
it, and so does `attach`. (The package lazy-loader does as much, but needs another one that weighs a megabyte.)
"""

from __future__ import annotations

import importlib.util
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

LOADING = threading.RLock()
"""Held where a heavy package is first imported: threads that begin that at the same time find half of it."""

_IMPORT = re.compile(r"^from \.([\w.]*) import (\w+) as \2$")


def attach(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__`, `__all__` for a package's `__init__.py`: attach(__name__, __file__).

    Raises ValueError if a line of the stub beside the file isn't of that form, empty or a comment.
    """
    stub = Path(file).with_suffix(".pyi")
    modules: dict[str, str] = {}
    for number, line in enumerate(stub.read_text("utf-8").splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        match = _IMPORT.match(line)
        if match is None:
            raise ValueError(f"{stub.name} of {package}, line {number}: expected from .module import Name as Name, "
                             f"got {line!r}")
        modules[match[2]] = match[1]

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = modules[name]
        value = (getattr(importlib.import_module(f"{package}.{module}"), name) if module
                 else importlib.import_module(f"{package}.{name}"))
        sys.modules[package].__dict__[name] = value  # the next time it is found without us
        return value

    return get, lambda: sorted(modules), sorted(modules)


def load(name: str) -> ModuleType:
    """A module whose code runs when one of its attributes is first asked for. Raises ModuleNotFoundError."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module

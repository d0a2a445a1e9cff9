"""Deployment toolkit for TensorFlow Serving: export, publish, configure, start, prove, change.

The names below are resolved on first use, so `import deploy` is instant and pulls in no TensorFlow, Docker, gRPC or
requests. Modules keep their names: `deploy.export` is the room, `deploy.export_model` the verb.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from deploy.client import connect as connect
    from deploy.export import export_model
    from deploy.repository import Repository as Repository
    from deploy.rollout.running import roll_back as roll_back
    from deploy.rollout.running import roll_out as roll_out
    from deploy.serving import down as down
    from deploy.serving import up as up
    from deploy.smoke import smoke_test
    from deploy.spec import load_spec as load_spec

_WHERE = {
    "connect": ("deploy.client", "connect"),
    "down": ("deploy.serving", "down"),
    "export_model": ("deploy.export", "export"),
    "load_spec": ("deploy.spec", "load"),
    "roll_back": ("deploy.rollout", "roll_back"),
    "roll_out": ("deploy.rollout", "roll_out"),
    "Repository": ("deploy.repository", "Repository"),
    "smoke_test": ("deploy.smoke", "run"),
    "up": ("deploy.serving", "up"),
}

__all__ = ["Repository", "connect", "down", "export_model", "load_spec", "roll_back", "roll_out", "smoke_test", "up"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'deploy' has no attribute {name!r}")
    module, attribute = _WHERE[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])

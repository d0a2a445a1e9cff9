"""Which optional dependencies (pyproject's extras) are installed, and what to say where one isn't."""

from __future__ import annotations

from importlib.util import find_spec

from deploy.errors import BackendMissing

MODULES = {
    "bfloat16": ("ml_dtypes",),
    "server": ("hpack", "httptools", "simdjson"),  # and uvloop, which is used where it is there
    "tensorflow": ("tensorflow",),
    "tflite": ("ai_edge_litert",),
    "jax": ("jax",),
    "keras2": ("tf_keras",),
    "s3": ("obstore", "botocore"),
    "azure": ("obstore", "azure.identity"),
    "gcs": ("google.cloud.storage",),
    "oci": ("urllib3",),
    "ssh": ("paramiko",),
    "kubernetes": ("kubernetes",),
    "sign": ("cryptography",),
    "ui": ("starlette", "uvicorn"),
    "mlflow": ("mlflow",),
}


def missing(extra: str) -> str | None:
    """None if all of the extra's modules are installed, else a sentence that names those which aren't."""
    absent = [name for name in MODULES[extra] if not _installed(name)]
    return f"{' and '.join(absent)} can't be imported: {install(extra)}" if absent else None


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it is in isn't there
        return False


def install(extra: str) -> str:
    """The command that installs the extra."""
    return f"pip install 'tfs-deploy[{extra}]'"


def require(extra: str, purpose: str) -> None:
    """Raises BackendMissing with the pip command if the extra isn't installed. purpose: what needs it."""
    reason = missing(extra)
    if reason is not None:
        raise BackendMissing(f"{purpose} can't run here: {reason.partition(':')[0]}", hint=install(extra),
                             id="extra-missing")


def of_module(name: str) -> str | None:
    """The extra that brings a module; None if it isn't one of them."""
    top = name.partition(".")[0]
    return next((extra for extra, names in MODULES.items() if top in names), None)

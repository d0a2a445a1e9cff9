"""Prints docs/sizes.md: what the base and each extra weigh, as measured in the environment that runs it: `make sizes`.

That environment has tfs-deploy with all of its extras. An extra's packages are those that
it needs and the base doesn't.
"""

from __future__ import annotations

import platform
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

FOR = {
    "server": "the embedded server",
    "bfloat16": "tensors of bfloat16 in a client (server, tensorflow and jax bring it, too)",
    "tensorflow": "export, and running models on the embedded server",
    "tflite": "TFLite models",
    "jax": "exporting JAX functions",
    "keras2": "exporting Keras 2 models",
    "pytest": "the pytest plugin",
    "s3": "repositories in S3",
    "gcs": "repositories in Google Cloud Storage",
    "azure": "repositories in Azure Blob Storage",
    "oci": "repositories in OCI registries",
    "ssh": "repositories, servers' files and Docker hosts over SSH",
    "kubernetes": "pods in a cluster",
    "mlflow": "publishing from an MLflow registry",
    "sign": "signatures",
    "ui": "the page of servers and releases",
    "all": "server, tensorflow, tflite, keras2, ui and sign together",
}
UNMEASURED = {"docs": "writes these pages as a site", "dev": "the tests' tools"}  # of who works on tfs-deploy itself


@cache
def closure(name: str, extras: frozenset[str] = frozenset()) -> frozenset[str]:
    """The names of all distributions that it needs, with itself."""
    names, todo = set[str](), [(name, extras)]
    seen = set[tuple[str, frozenset[str]]]()
    while todo:
        if (one := todo.pop()) in seen:
            continue
        seen.add(one)
        names.add(metadata.distribution(one[0]).name.lower().replace("_", "-"))
        for text in metadata.requires(one[0]) or ():
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in one[1] or {""}):
                todo.append((needed.name, frozenset(needed.extras)))
    return frozenset(names)


def megabytes(name: str) -> float:
    """Its files as they lie on the disk, compiled Python with them."""
    paths = {str(f.locate()) for f in metadata.files(name) or ()}
    blocks = 0
    for path in map(Path, paths):
        if path.is_file():
            blocks += path.stat().st_blocks
    return blocks * 512 / 2**20


def row(label: str, names: frozenset[str], purpose: str) -> str:
    sizes = sorted(((megabytes(name), name) for name in names), reverse=True)
    heaviest = ", ".join(f"{name} {size:.0f}" for size, name in sizes[:5] if size >= 1)
    return f"| {label} | {sum(size for size, _ in sizes):,.0f} MB | {len(names)} | {heaviest} | {purpose} |"


def main() -> None:
    base = closure("tfs-deploy")
    left_out = " and ".join(f"`{extra}` ({purpose})" for extra, purpose in UNMEASURED.items())
    print("# What the extras weigh\n\nWritten by `make sizes`: megabytes on the disk beside those of the base, on "
          f"{platform.system()} {platform.machine()}, Python {sys.version_info.major}.{sys.version_info.minor}.\n"
          "`pip install 'tfs-deploy[server,s3]'` takes the base and those two. Left out is what only work on\n"
          f"tfs-deploy itself needs: {left_out}.\n")
    print("| | size | packages | heaviest | for |\n|---|---:|---:|---|---|")
    print(row("base", base, "everything else"))
    for extra, purpose in FOR.items():
        print(row(f"`{extra}`", closure("tfs-deploy", frozenset({extra})) - base, purpose))


if __name__ == "__main__":
    main()

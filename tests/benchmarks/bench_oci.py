"""A version of 40 files into a registry and out of it, against skopeo and raw HTTP: `make bench ARGS=oci`; 1.0 is 1 GB.

All of them with Debian's docker-registry on this machine, a new one each time, which has none of the bytes yet.
skopeo copies an image from and to an OCI layout: its bytes lie in one file, as curl's do; ours are in 40.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from deploy.repository import Repository, mirror
from deploy.types import Specific
from tests.support.peers import program
from tests.support.peers.registry import docker_registry
from tests.support.repository import savedmodel

ROUNDS = 3
FILES = 40
GIGABYTE = 1_000_000_000

ROWS = [  # ours, theirs, what is compared
    ("publish", "curl -T", "one PUT of the same bytes, without a digest taken; goal: at least 0.83"),
    ("publish", "skopeo copy", "of an image that is made already"),
    ("pull", "skopeo copy back", "ours compares every file and is on disk"),
]


def run(scale: float = 1.0) -> list[dict[str, object]]:
    """Medians in seconds for `scale` GB; ratio = theirs / ours, above 1 where ours is faster."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR"), prefix="bench-oci-") as scratch:
        seconds = _measure(Path(scratch), int(scale * GIGABYTE))
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return [{"name": f"{ours} {scale:g} GB in {FILES} files, registry, against {theirs}", "ours_s": medians[ours],
             "theirs_s": medians[theirs], "ratio": medians[theirs] / medians[ours], "note": note}
            for ours, theirs, note in ROWS]


def _measure(scratch: Path, size: int) -> dict[str, list[float]]:
    source, blob = savedmodel(scratch / "source"), scratch / "blob"
    for number in range(FILES):
        (source / "assets" / f"{number:02}").write_bytes(os.urandom(size // FILES))
    digest = hashlib.sha256()
    with blob.open("wb") as file:
        for path in filter(Path.is_file, sorted(source.rglob("*"))):
            data = path.read_bytes()
            digest.update(data)
            file.write(data)
    seconds: dict[str, list[float]] = {name: [] for row in ROWS for name in row[:2]}
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(dir=scratch) as place:
            for name, taken in _round(Path(place), source, blob, digest.hexdigest()).items():
                seconds[name].append(taken)
    return seconds


def _round(place: Path, source: Path, blob: Path, digest: str) -> dict[str, float]:
    skopeo, layout = program("skopeo", "apt-get install skopeo"), f"oci:{place / 'layout'}:m"
    copy = (skopeo, "--insecure-policy", "copy", "--quiet", "--preserve-digests", "--src-tls-verify=false",
            "--dest-tls-verify=false")
    here, taken = Repository(place / "here"), dict[str, float]()
    here.store.make()
    with docker_registry(place / "ours") as host:
        repo = Repository(f"oci://{host}/team")
        taken["publish"] = _timed(lambda: repo.publish(source, "m", 1))
        taken["pull"] = _timed(lambda: mirror(repo, here, {"m": Specific((1,))}))
        _run(*copy, f"docker://{host}/team/m:1", layout)
    with docker_registry(place / "theirs") as host:
        image = f"docker://{host}/team/m:1"
        taken["skopeo copy"] = _timed(lambda: _run(*copy, layout, image))
        taken["skopeo copy back"] = _timed(lambda: _run(*copy, image, f"oci:{place / 'back'}:m"))
    with docker_registry(place / "raw") as host:
        taken["curl -T"] = _timed(lambda: _curl(host, blob, digest))
    return taken


def _timed(work: Callable[[], object]) -> float:
    os.sync()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _curl(host: str, blob: Path, digest: str) -> None:
    begun = _run("curl", "-s", "-X", "POST", "-o", "/dev/null", "-w", "%header{location}",
                 f"http://{host}/v2/team/raw/blobs/uploads/")
    code = _run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-T", str(blob),
                f"{begun}&digest=sha256:{digest}")
    assert code == "201", code


def _run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout




"""A version of 40 files into S3 and out of it, beside boto3 and raw requests: `make bench ARGS=stores`; 1.0 is 1 GB.

All of them with the same SeaweedFS on this machine. boto3 does what `aws s3 cp --recursive` does; raw PUTs are
obstore's, of the same files: what the store can take. Eight files at once, all of them. Listing is of 10,000 versions.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import obstore
import pytest
from boto3.s3.transfer import TransferConfig
from obstore.store import S3Store

from deploy.repository import Repository
from deploy.repository.naming import MANIFEST_FILE
from deploy.types import ModelVersion
from tests.support.peers.stores import BUCKET, ObjectService, ObjectServices
from tests.support.repository import savedmodel

ROUNDS = 3
FILES, AT_ONCE = 40, 8
GIGABYTE = 1_000_000_000
VERSIONS = 10_000

ROWS = [  # ours, theirs, what is compared
    ("publish", "raw PUTs", "no copy, no digest, no manifest; goal: at least 0.83"),
    ("publish", "boto3 upload_file", "what aws s3 cp does; goal: 1"),
    ("pull", "boto3 download_file", "ours compares every digest and is on disk; goal: 1"),
    ("list", "boto3 list_objects_v2", "ours reads 10,000 manifests, theirs names 30,000 objects"),
]


def run(scale: float = 1.0) -> list[dict[str, object]]:
    """Medians in seconds for `scale` GB; ratio = theirs / ours, above 1 where ours is faster."""
    services = ObjectServices()
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(
            dir=os.environ.get("BENCH_DIR"), prefix="bench-stores-") as scratch:
        try:
            service = services.use("s3-seaweedfs", patch)
            seconds, memory = _measure(Path(scratch), int(scale * GIGABYTE), service)
        finally:
            services.end()
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return [{"name": f"{ours}, S3, against {theirs}", "ours_s": medians[ours], "theirs_s": medians[theirs],
             "ratio": medians[theirs] / medians[ours],
             "note": note + (f"; peak {memory[ours]} MB" if ours in memory else "")} for ours, theirs, note in ROWS]


def _measure(scratch: Path, size: int, service: ObjectService) -> tuple[dict[str, list[float]], dict[str, int]]:
    source = savedmodel(scratch / "source")
    for number in range(FILES):
        (source / "assets" / f"{number:02}").write_bytes(os.urandom(size // FILES))
    seconds: dict[str, list[float]] = {name: [] for row in ROWS for name in row[:2]}
    memory = {"publish": 0, "pull": 0}
    _alone(f"Repository({f'{service.root}/first'!r}).publish({str(savedmodel(scratch / 'little'))!r}, 'm', 1)",
           scratch / "bytecode")
    for number in range(ROUNDS):
        place = f"{service.root}/round{number}"
        shutil.rmtree(scratch / "here", ignore_errors=True)
        for name, code in (("publish", f"Repository({place!r}).publish({str(source)!r}, 'm', 1)"),
                           ("pull", f"pull(Repository({place!r}), Repository({str(scratch / 'here')!r}), ONE)")):
            taken, peak = _alone(code, scratch / "bytecode")
            seconds[name].append(taken)
            memory[name] = max(memory[name], peak)
        seconds["raw PUTs"].append(_timed(lambda n=number: _raw(service, source, f"raw{n}")))  # type: ignore[misc]
        seconds["boto3 upload_file"].append(_timed(lambda n=number: _upload(service, source, f"boto{n}")))  # type: ignore[misc]
        seconds["boto3 download_file"].append(
            _timed(lambda n=number: _download(service, source, f"boto{n}", scratch / f"back{n}")))  # type: ignore[misc]
        shutil.rmtree(scratch / f"back{number}")
    seconds["list"], seconds["boto3 list_objects_v2"] = _listed(service, source, scratch)
    return seconds, memory


_ALONE = """
import json, time
from pathlib import Path
from deploy.repository import Repository, pull
from deploy.types import ModelVersion
ONE = ModelVersion("m", 1)
started = time.perf_counter()
{code}
seconds = time.perf_counter() - started
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(json.dumps([seconds, int(status["VmHWM"].split()[0]) // 1000]))  # ru_maxrss counts the parent's memory, too
"""


def _alone(code: str, bytecode: Path) -> tuple[float, int]:
    """Seconds and peak megabytes in a process of its own, with its modules compiled, as an installation has them."""
    os.sync()
    environ = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", _ALONE.format(code=code)], check=True, capture_output=True, text=True,
                          env={**environ, "PYTHONPYCACHEPREFIX": str(bytecode)})
    seconds, peak = json.loads(done.stdout)
    return seconds, peak


def _timed(work: Callable[[], object]) -> float:
    os.sync()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _files(source: Path) -> Iterable[tuple[str, Path]]:
    return [(str(path.relative_to(source)), path) for path in sorted(source.rglob("*")) if path.is_file()]


def _store(service: ObjectService) -> S3Store:
    return S3Store(BUCKET, config={"endpoint": service.endpoint, "region": "us-east-1", "access_key_id": "tests",
                                   "secret_access_key": "of-the-tests"}, client_options={"allow_http": True})


def _raw(service: ObjectService, source: Path, prefix: str) -> None:
    store = _store(service)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda one: obstore.put(store, f"{prefix}/{one[0]}", one[1], chunk_size=8 << 20), _files(source)))


def _client(service: ObjectService) -> Any:
    return boto3.client("s3", endpoint_url=service.endpoint, region_name="us-east-1", aws_access_key_id="tests",
                        aws_secret_access_key="of-the-tests")


def _upload(service: ObjectService, source: Path, prefix: str) -> None:
    client, config = _client(service), TransferConfig(max_concurrency=AT_ONCE)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda one: client.upload_file(str(one[1]), BUCKET, f"{prefix}/{one[0]}", Config=config),
                      _files(source)))


def _download(service: ObjectService, source: Path, prefix: str, target: Path) -> None:
    client, config = _client(service), TransferConfig(max_concurrency=AT_ONCE)
    for name, _ in _files(source):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda one: client.download_file(BUCKET, f"{prefix}/{one[0]}", str(target / one[0]),
                                                       Config=config), _files(source)))


def _listed(service: ObjectService, source: Path, scratch: Path) -> tuple[list[float], list[float]]:
    """Of 10,000 versions of three objects each, written straight into the store."""
    small = savedmodel(scratch / "small")
    here = Repository(scratch / "one")
    here.publish(small, "m")
    manifest = here.manifest(ModelVersion("m", 1))
    store = _store(service)

    def write(number: int) -> None:
        copy = type(manifest)(**{**{f: getattr(manifest, f) for f in manifest.__dataclass_fields__ if f[0] != "_"},
                                 "model_version": ModelVersion("m", number)})
        obstore.put(store, f"many/.tfs/m/{number}", b"{}")
        obstore.put(store, f"many/m/{number}/saved_model.pb", small / "saved_model.pb")
        obstore.put(store, f"many/m/{number}/{MANIFEST_FILE}", copy.to_bytes())

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(write, range(1, VERSIONS + 1)))

    def ours() -> None:
        assert len(Repository(f"{service.root}/many").entries("m")) == VERSIONS

    def theirs() -> None:
        pages = _client(service).get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="many/")
        assert sum(len(page["Contents"]) for page in pages) == 3 * VERSIONS

    return [_timed(ours)], [_timed(theirs)]

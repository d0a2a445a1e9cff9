"""Other people's servers that tests start: real stores and registries, on free loopback ports, ended with the tests.

    stores     S3 (moto, SeaweedFS), Google Cloud Storage (fake-gcs-server), Azure (Azurite)
    registry   an OCI registry (docker-registry), with and without a login, or tokens
    sshd       OpenSSH's server
    engines    a Docker engine of another machine
    front      between a client and a server: cut connections, busy services, what proxies do to requests

A peer that isn't installed skips its tests with a line that says so; TFS_REQUIRE_PEERS=1 makes that a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from deploy.waiting import Deadline, poll

FORCED = os.environ.get("TFS_REQUIRE_PEERS") == "1"


def program(name: str, install: str) -> str:
    """Where a program is; without it the test is skipped, or fails if peers are required."""
    return shutil.which(name) or absent(f"{name} isn't installed: {install}")


def absent(reason: str) -> NoReturn:
    """Skip, or fail if peers are required."""
    if FORCED:
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def running(argv: list[str], ready: Callable[[], bool], *, environ: Mapping[str, str] | None = None,
            seconds: float = 60) -> Iterator[subprocess.Popen[bytes]]:
    """A server, from when it is ready to the end of the block. Its working directory is a new one, removed after it."""
    with tempfile.TemporaryDirectory(prefix="tfs-peer-", ignore_cleanup_errors=True) as place:
        log = Path(place) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(argv, cwd=place, stdout=output, stderr=subprocess.STDOUT,
                                       env={**os.environ, **(environ or {})})
        try:
            def up() -> bool | None:
                assert process.poll() is None, f"{argv[0]} ended: {log.read_text(errors='replace')[-2000:]}"
                return ready() or None

            assert poll(up, Deadline(seconds)), f"not ready: {log.read_text(errors='replace')[-2000:]}"
            yield process
        finally:
            process.terminate()
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answers(url: str, *codes: int) -> Callable[[], bool]:
    """Whether GET answers at all (with one of these codes)."""
    def asked() -> bool:
        import requests

        try:
            code = requests.get(url, timeout=5).status_code
        except requests.RequestException:
            return False
        return not codes or code in codes

    return asked

"""`make demo` says what is missing before it trains anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import engine_or_skip

ROOT = Path(__file__).parents[2]


def failed(*options: str, **environment: str) -> str:
    """What it says when it can't run, without having exported anything."""
    done = subprocess.run([sys.executable, "docs/examples/demo.py", "--backend", "container", *options], cwd=ROOT,
                          capture_output=True, text=True, check=False, env={**os.environ, **environment})
    assert done.returncode == 6 and "train" not in done.stderr and "Traceback" not in done.stderr
    return done.stderr.rstrip().rpartition("\n")[2]


def test_without_an_engine() -> None:
    said = failed(DOCKER_HOST="unix:///nowhere/docker.sock")
    assert "Docker engine" in said and "use backend: embedded" in said


@pytest.mark.docker
def test_without_the_image() -> None:
    engine_or_skip()
    said = failed("--image", "127.0.0.1:1/no/such:image")
    assert "127.0.0.1:1/no/such:image isn't here" in said
    assert "make server-image, then make demo BACKEND=container IMAGE=tfs-deploy/modelserver:dev" in said

"""Many model servers without TensorFlow in processes of their own, and a spec that has all of them as `servers`.

    python -m tests.support.echo_fleet COUNT MODEL_DIRECTORY    prints their addresses, and goes on until its stdin ends
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import yaml

from deploy import Repository, savedmodel
from deploy.testing import serve
from deploy.types import Specific
from tests.support.repository import savedmodel as write_savedmodel

VERSIONS = (1, 2, 3)
_EACH = 25  # servers of one process: more of them would wait for each other


@contextmanager
def echo_fleet(directory: Path, count: int, **parts: object) -> Iterator[Path]:
    """A serving.yaml of so many servers that serve m/1 as `stable`, and know how to load m/2 and m/3. parts: further
    parts of the spec."""
    repository = Repository(directory / "models")
    for number in VERSIONS:
        repository.publish(write_savedmodel(directory / "build" / str(number) / "m"), "m")
    version = str(directory / "models" / "m" / "1")
    processes = [subprocess.Popen([sys.executable, "-m", "tests.support.echo_fleet", str(min(_EACH, count - first)),
                                   version], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                 for first in range(0, count, _EACH)]
    try:
        addresses = [pair for process in processes for pair in json.loads(_of(process.stdout).readline())]
        spec = directory / "serving.yaml"
        spec.write_text(yaml.safe_dump({
            "name": "fleet", "models": [{"name": "m", "versions": [1], "labels": {"stable": 1}}],
            "server": {"backend": "remote"}, "servers": [
                {"name": f"s{number:03}", "groups": [f"g{number % 10}"],
                 "server": {"remote": {"grpc": f"127.0.0.1:{grpc}", "rest": f"http://127.0.0.1:{rest}"}}}
                for number, (grpc, rest) in enumerate(addresses)], **parts}))
        yield spec
    finally:
        for process in processes:
            _of(process.stdin).close()
        for process in processes:
            process.wait(60)
            _of(process.stdout).close()


def _of(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def main(count: int, version: Path) -> None:
    contract = savedmodel.read(version).contract
    with ExitStack() as running:
        servers = [running.enter_context(serve({"m": dict.fromkeys(VERSIONS, contract)}, labels={"m": {"stable": 1}},
                                               versions=Specific((1,))))
                   for _ in range(count)]
        print(json.dumps([(s.endpoint.grpc_port, s.endpoint.rest_port) for s in servers]), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))

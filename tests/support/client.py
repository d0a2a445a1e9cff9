"""A real server process for the client's and the smoke test's integration tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deploy import client
from deploy.errors import ClientError
from deploy.render.configs import models_config
from deploy.types import Endpoint, ModelRef, ServedModel
from deploy.waiting import Deadline, poll
from deploy.wire import text
from tests.support.ports import free_ports


def lay_out(models: Path, root: Path, versions: Mapping[str, Mapping[int, str]]) -> None:
    """root/<model>/<version> -> one of tests/models.py's directories."""
    for name, numbers in versions.items():
        (root / name).mkdir(parents=True)
        for number, source in numbers.items():
            (root / name / str(number)).symlink_to(models / source)


@contextmanager
def server(served: list[ServedModel], directory: Path, *flags: str
           ) -> Iterator[tuple[Endpoint, subprocess.Popen[bytes]]]:
    """A server that serves all of it over both protocols."""
    config = directory / "models.config"
    config.write_text(text.to_text(models_config(served, {m.name: m.base_path for m in served})))
    grpc_port, rest_port = free_ports(2)
    argv = [sys.executable, "-m", "deploy.modelserver", f"--port={grpc_port}", f"--rest_api_port={rest_port}",
            f"--model_config_file={config}", "--allow_version_labels_for_unavailable_models=true",
            "--max_num_load_retries=0", *flags]
    endpoint = Endpoint("127.0.0.1", grpc_port, rest_port)
    with (directory / "server.log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        with client.connect(endpoint, attempts=1) as probe:
            up = poll(lambda: _ready(probe, served, process), Deadline(90), most=0.1)
        assert up and process.poll() is None, (directory / "server.log").read_text()
        yield endpoint, process
    finally:
        process.kill()
        process.wait()


def _ready(probe: client.Client, served: list[ServedModel], process: subprocess.Popen[bytes]) -> bool | None:
    if process.poll() is not None:
        return True
    try:
        assert probe.rpc and probe.rest
        ask = (probe.rpc, probe.rest)
        return all(any(s.serving for s in p.status(ModelRef(m.name))) for p in ask for m in served) or None
    except ClientError:
        return None

"""docker/compose.yaml, run without docker compose: the same container through the SDK."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import yaml

from deploy.cli.outcome import run
from tests.support.servers import engine_or_skip, server_image_or_skip, until

FILE = Path(__file__).parents[2] / "docker/compose.yaml"


@pytest.mark.docker
@pytest.mark.tensorflow
def test_its_health_check(models: Path, tmp_path: Path) -> None:
    engine = engine_or_skip()
    (service,) = yaml.safe_load(FILE.read_text())["services"].values()
    shutil.copytree(models / "half_plus_two", tmp_path / "models/half/1")
    (tmp_path / "serving.yaml").write_text("models: [{name: half, versions: [1]}]")
    assert run(["configure", "--spec", str(tmp_path / "serving.yaml"), "--out", str(tmp_path / "config")]) == 0
    binds = {str(tmp_path / "models"): {"bind": "/models", "mode": "ro"},
             str(tmp_path / "config"): {"bind": "/etc/tfs", "mode": "ro"}}
    container = engine.client.containers.run(
        server_image_or_skip(engine), service["command"], entrypoint=service["entrypoint"], detach=True, volumes=binds,
        environment=service["environment"], user=f"{os.getuid()}:{os.getgid()}", init=True, read_only=True,
        tmpfs={"/tmp": "size=256m,mode=1777"}, cap_drop=service["cap_drop"], security_opt=service["security_opt"],
        healthcheck={"test": service["healthcheck"]["test"], "interval": 10**9, "timeout": 10**10, "retries": 1,
                     "start_period": 60 * 10**9})

    def health() -> str:
        container.reload()
        return str(container.attrs["State"]["Health"]["Status"])

    try:
        until(lambda: health() == "healthy", "it is healthy", evidence=lambda: container.attrs["State"]["Health"])
        (tmp_path / "config/models.config").write_text("not a config")
        until(lambda: health() == "unhealthy", "it is unhealthy", evidence=lambda: container.attrs["State"]["Health"])
    finally:
        container.remove(force=True, v=True)

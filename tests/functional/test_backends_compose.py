"""docker/compose.yaml says the same as the options of `tfs up`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.backends.container import ContainerBackend
from deploy.backends.container_options import docker_options
from tests.support.serving import spec_at

FILE = Path(__file__).parents[2] / "docker/compose.yaml"
LABELLED = "models: [{name: m, versions: [1], labels: {stable: 1}}]"


@pytest.fixture
def service() -> dict[str, Any]:
    (made,) = yaml.safe_load(FILE.read_text())["services"].values()
    assert isinstance(made, dict)
    return made


def test_it_is_as_closed_and_takes_the_same_flags(service: dict[str, Any], tmp_path: Path) -> None:
    options = ContainerBackend().plan(spec_at(tmp_path, LABELLED), labels={}).options
    ours = docker_options(options)  # type: ignore[arg-type]
    for key in ("entrypoint", "command", "init", "read_only", "cap_drop", "security_opt", "environment",
                "pids_limit"):
        assert service[key] == ours[key], key
    assert service["logging"] == {"driver": ours["log_config"]["Type"], "options": ours["log_config"]["Config"]}
    assert service["tmpfs"] == [f"{path}:{flags}" for path, flags in ours["tmpfs"].items()]
    assert service["image"] == f"${{TFS_IMAGE:-{ours['image']}}}"
    assert service["user"].removeprefix("${TFS_USER:-").removesuffix("}") == "65534:65534"


def test_ports_are_local_and_mounts_read_only(service: dict[str, Any], tmp_path: Path) -> None:
    assert service["ports"] == ["127.0.0.1:${TFS_GRPC_PORT:-8500}:8500", "127.0.0.1:${TFS_REST_PORT:-8501}:8501"]
    assert {v["target"]: v["read_only"] for v in service["volumes"]} == {"/models": True, "/etc/tfs": True}
    files = ContainerBackend().plan(spec_at(tmp_path, LABELLED), labels={}).files
    assert 'base_path: "/models/m"' in files["models.config"]


def test_compose_itself_takes_it(tmp_path: Path) -> None:
    command = ["docker", "compose", "-f", str(FILE), "config", "--quiet"]
    asked = [*command[:2], "version"]
    if shutil.which("docker") is None or subprocess.run(asked, check=False, capture_output=True).returncode:
        pytest.skip("docker compose isn't installed")
    subprocess.run(command, check=True, env={"TFS_MODELS": "/m", "TFS_CONFIG_DIR": "/c", "PATH": "/usr/bin:/bin"})

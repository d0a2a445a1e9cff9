"""The command line's own image: without TensorFlow, not as root, and its commands work as any user."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from deploy import __version__
from tests.support.checks import serves
from tests.support.savedmodel import save
from tests.support.servers import FORCED, engine_or_skip

SOMEBODY = "12345:12345"  # no user that the image knows
pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def image() -> str:
    image = os.environ.get("TFS_CLI_IMAGE", "tfs-deploy/tfs:ci")
    if not engine_or_skip().has_image(image):
        if FORCED:
            pytest.fail(f"no image {image}: `make cli-image`, and name it in TFS_CLI_IMAGE")
        pytest.skip(f"no image {image}: `make cli-image`, and name it in TFS_CLI_IMAGE")
    return image


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path / "a project"
    save(directory / "models/m/1", serves("Relu"))
    (directory / "serving.yaml").write_text("models: [{name: m, versions: [1]}]\n")
    for path in (directory, *directory.rglob("*")):
        path.chmod(0o777)
    return directory


def run(image: str, *args: str, project: Path | None = None, options: tuple[str, ...] = ()) -> str:
    volume = ("--volume", f"{project}:/work") if project else ()
    closed = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--network", "none")
    done = subprocess.run(["docker", "run", "--rm", *closed, *volume, *options, image, *args], text=True, timeout=120,
                          check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_it_is_this_version_and_not_root(image: str) -> None:
    assert __version__ in run(image, "--version")
    assert run(image, "-u", options=("--entrypoint", "id")).strip() == "65534"


def test_it_has_no_tensorflow(image: str) -> None:
    assert "tensorflow" not in run(image, "/opt/tfs", options=("--entrypoint", "ls")).split()


def test_it_has_what_pods_need_for_mirrors_and_clusters(image: str) -> None:
    """One import for each extra: what the clients of object stores and of clusters bring along is all there."""
    wanted = ("obstore", "botocore.session", "paramiko", "cryptography.x509", "azure.identity", "google.cloud.storage",
              "kubernetes.config", "kubernetes.stream")
    run(image, "-c", f"import {', '.join(wanted)}", options=("--entrypoint", "python3"))


def test_commands_of_a_job(image: str, project: Path) -> None:
    options = ("--user", SOMEBODY)
    assert "nothing to object to" in run(image, "check", "m", project=project, options=options)
    run(image, "configure", project=project, options=options)
    assert "up to date" in run(image, "configure", "--check", project=project, options=options)
    assert (project / "generated/serving/models.config").stat().st_uid == 12345
    assert "compatible" in run(image, "diff", "m/1", "models/m/1", project=project, options=options)


def test_parts_of_the_base_are_all_there(image: str) -> None:
    """Whatever a command may import of what the base installs."""
    code = ("import pkgutil, importlib, deploy\n"
            "OF_EXTRAS = ('objects', 'object_options', 'gcs', 'sftp', 'ssh')  # which the image leaves out\n"
            "for room in ('cli', 'client', 'backends', 'smoke', 'rollout', 'report', 'repository', 'checks'):\n"
            "    package = importlib.import_module('deploy.' + room)\n"
            "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
            "        if '__main__' in module.name or module.name.rpartition('.')[2] in OF_EXTRAS: continue\n"
            "        importlib.import_module(module.name)\n"
            "import docker, grpc, requests, rich.table, ml_dtypes\n")
    run(image, "-c", code, options=("--entrypoint", "python3"))

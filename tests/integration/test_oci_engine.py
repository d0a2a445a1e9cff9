"""What a Docker engine makes of a version's image: pulled from a registry, taken out, served; built on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from deploy import serving
from deploy.cli.smoke import gate
from deploy.errors import SmokeFailed
from deploy.repository import Repository
from deploy.repository.stores.oci.assembly import ImageReference
from deploy.spec import load_spec
from deploy.types import Endpoint, ModelVersion
from tests.support.peers.registry import SECRET, USER, docker_config, docker_registry
from tests.support.ports import free_ports
from tests.support.servers import engine_or_skip, server_image_or_skip, until

pytestmark = [pytest.mark.docker, pytest.mark.tensorflow]
HALF = ModelVersion("half", 3)


def docker(*args: str, config: Path) -> str:
    done = subprocess.run(["docker", "--config", str(config), *args], capture_output=True, text=True, timeout=120,
                          check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def predicted(url: str) -> object:
    try:
        return requests.post(url, json={"instances": [2.0]}, timeout=5).json()
    except requests.RequestException:
        return None


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One that wants a login, as they do."""
    with docker_registry(tmp_path_factory.mktemp("registry"), login=True) as host:
        yield host


@pytest.fixture
def config(registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As `docker login` leaves it, which the engine's client and we read alike."""
    directory = docker_config(tmp_path / "docker", registry, USER, SECRET)
    monkeypatch.setenv("DOCKER_CONFIG", str(directory))
    return directory


def test_an_engine_pulls_it_and_a_server_serves_it(registry: str, config: Path, models: Path, tmp_path: Path) -> None:
    server = server_image_or_skip(engine_or_skip())
    repo = Repository(f"oci://{registry}/team/models")
    repo.publish(models / "half_plus_three", "half", 3)
    image = repo.store.reference(HALF)
    docker("pull", "--quiet", image, config=config)
    held = docker("create", image, "nothing", config=config)
    try:
        docker("cp", f"{held}:/models", str(tmp_path), config=config)
        local = Repository(tmp_path / "models")
        assert local.verify(HALF) == repo.manifest(HALF)
        assert (tmp_path / "models/half/3").stat().st_mode & 0o777 == 0o755
        _, rest = free_ports()
        container = docker("run", "--detach", "--rm", "--user", "12345", "--read-only", "--publish",
                           f"127.0.0.1:{rest}:8501", "--volume", f"{tmp_path}/models:/models:ro", server,
                           "--rest_api_port=8501", "--model_name=half", "--model_base_path=/models/half", config=config)
        try:
            asked = f"http://127.0.0.1:{rest}/v1/models/half/versions/3:predict"
            until(lambda: predicted(asked) == {"predictions": [4.0]}, "a prediction", seconds=60)
        finally:
            docker("rm", "--force", container, config=config)
    finally:
        docker("rm", held, config=config)
        docker("rmi", image, config=config)


def test_a_server_image_is_built_on_it(registry: str, config: Path, models: Path, tmp_path: Path) -> None:
    """`COPY --from`, for whoever writes Dockerfiles: no copy of the model beside them."""
    server = server_image_or_skip(engine_or_skip())
    repo = Repository(f"oci://{registry}/team/models")
    repo.publish(models / "half_plus_three", "half", 4)
    image = repo.store.reference(ModelVersion("half", 4))
    docker("pull", "--quiet", image, config=config)
    (tmp_path / "Dockerfile").write_text(f"FROM {server}\nCOPY --from={image} /models /models\n")
    built = docker("build", "--quiet", str(tmp_path), config=config)
    try:
        names = docker("run", "--rm", "--entrypoint", "ls", built, "/models/half/4", config=config)
        assert "saved_model.pb" in names.split()
    finally:
        docker("rmi", built, image, config=config)


def test_a_server_image_put_together_in_the_registry_is_tagged_once_it_answers(
        registry: str, config: Path, models: Path, tmp_path: Path) -> None:
    engine = engine_or_skip()
    base = f"{registry}/base:1"
    docker("tag", server_image_or_skip(engine), base, config=config)
    docker("push", "--quiet", base, config=config)
    docker("rmi", base, config=config)
    Repository(tmp_path / "models").publish(models / "half_plus_three", "half", 3)
    (tmp_path / "serving.yaml").write_text("models: [{name: half, versions: all}]\nserver: {backend: container}\n")
    spec, tag = load_spec(tmp_path / "serving.yaml"), f"{registry}/server:1"

    def refused(endpoint: Endpoint) -> None:
        assert predicted(f"http://127.0.0.1:{endpoint.rest_port}/v1/models/half:predict") == {"predictions": [4.0]}
        raise SmokeFailed("not good enough")

    with pytest.raises(SmokeFailed):
        serving.push_image(spec, tag, base_image=base, smoke=refused)
    remote = ImageReference.parse(tag).remote
    assert remote.tags() == []
    pushed = serving.push_image(spec, tag, base_image=base, smoke=gate(spec))
    assert remote.tags() == ["1"] and pushed.smoked and remote.find_digest("1") == pushed.digest
    assert not engine.has_image(f"{registry}/server@{pushed.digest}")

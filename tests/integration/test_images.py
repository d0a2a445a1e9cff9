"""Images that carry their models: what is in them, and that only a verified one gets its tag."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from deploy import client, serving
from deploy.backends import images
from deploy.backends.engine import Engine
from deploy.backends.inspecting import inspect
from deploy.errors import BackendMissing, DigestMismatch, NotReady, SmokeFailed, SpecError
from deploy.render.configs import PROGRAM
from deploy.repository import Repository
from deploy.serving.snapshot import Controls
from deploy.spec import Spec
from deploy.types import Endpoint, ModelVersion
from tests.support.servers import answers, engine_or_skip, image_or_skip, server_image_or_skip, until
from tests.support.serving import FakeControl, available, spec_at

TEXT = "models: [{name: half, versions: latest, labels: {stable: 2}}]"
pytestmark = [pytest.mark.docker, pytest.mark.tensorflow]


@pytest.fixture(scope="session")
def engine() -> Engine:
    return engine_or_skip()


@pytest.fixture
def spec(models: Path, tmp_path: Path) -> Spec:
    """A repository with half/1 and a published half/2; `latest` means 2."""
    shutil.copytree(models / "half_plus_two", tmp_path / "models/half/1")
    Repository(tmp_path / "models").publish(models / "half_plus_three", "half", 2)
    return spec_at(tmp_path, TEXT, start_timeout=60.0)


@pytest.fixture
def tag(engine: Engine) -> Iterator[str]:
    name = f"tfs-deploy/test-baked:{uuid.uuid4().hex[:8]}"
    yield name
    if engine.has_image(name):
        images.remove(engine, name)


def scripted(_: Endpoint) -> Controls:
    """The stand-in server speaks no protocol, so readiness hears what it wants to hear."""
    return {"gRPC": FakeControl({"half": [available(2)]}, {"half@stable": 2})}


def scripted_of(*versions: int) -> Callable[[Endpoint], Controls]:
    return lambda _: {"gRPC": FakeControl({"half": [available(*versions)]}, {"half@stable": 2})}


def untagged(engine: Engine) -> set[str]:
    return {str(i.id) for i in engine.client.images.list(filters={"label": "org.tfs-deploy.models", "dangling": True})}


def test_it_holds_the_wanted_versions_and_nothing_else(engine: Engine, spec: Spec, tag: str) -> None:
    asked: list[Endpoint] = []
    built = serving.build_image(spec, tag, base_image=image_or_skip(engine), smoke=asked.append, connect=scripted)
    assert built.tag == tag and built.smoked and len(asked) == 1 and asked[0].host == "127.0.0.1"
    assert engine.client.images.get(tag).id == built.id
    inside = engine.client.containers.run(tag, ["-c", "find /models /etc/tfs -type f | sort; id -u; cat /etc/tfs/*"],
                                          entrypoint="/bin/sh", remove=True).decode()
    names, _, config = inside.partition("65534\n")
    wanted = sorted(f"/models/half/2/{p.relative_to(spec.repository / 'half/2')}"
                    for p in (spec.repository / "half/2").rglob("*") if p.is_file())
    assert names.split() == ["/etc/tfs/models.config", *wanted]
    assert 'base_path: "/models/half"' in config and "versions: 2" in config


def test_releases_share_the_layers_of_versions_that_stay(engine: Engine, models: Path, spec: Spec, tag: str) -> None:
    base = image_or_skip(engine)
    serving.build_image(spec, tag, base_image=base, connect=scripted)
    before = engine.client.images.get(tag).attrs["RootFS"]["Layers"]
    parts = len(engine.client.images.get(base).attrs["RootFS"]["Layers"])
    Repository(spec.repository).publish(models / "half_plus_two", "half", 3)
    other = f"{tag}-next"
    try:
        both = spec_at(spec.path.parent, TEXT.replace("latest", "[2, 3]"), start_timeout=60.0)
        serving.build_image(both, other, base_image=base, connect=scripted_of(2, 3))
        after = engine.client.images.get(other).attrs["RootFS"]["Layers"]
        assert after[:parts + 1] == before[:parts + 1] and len(after) == len(before) + 1 == parts + 3
    finally:
        if engine.has_image(other):
            images.remove(engine, other)


def test_it_ends_when_it_is_told_to_without_an_init_process(engine: Engine, spec: Spec, tag: str) -> None:
    base = image_or_skip(engine)
    serving.build_image(spec, tag, base_image=base, connect=scripted)
    container = engine.client.containers.run(tag, detach=True, name=f"servers-{uuid.uuid4().hex[:8]}", init=False)
    try:
        until(lambda: b"event loop" in container.logs(), "it says something",
              evidence=container.logs)
        assert inspect(str(container.name), engine=engine).argv[:2] == (PROGRAM, "--max_num_load_retries=0")
        container.stop(timeout=30)
        container.reload()
        assert container.attrs["State"]["ExitCode"] in (0, 143)  # killed would be 137
    finally:
        container.remove(force=True)


def test_its_labels_say_what_it_was_built_on(engine: Engine, spec: Spec, tag: str) -> None:
    base = image_or_skip(engine)
    serving.build_image(spec, tag, base_image=base, connect=scripted)
    told = images.labels(engine, tag)
    assert (told["org.tfs-deploy.base"], told["org.tfs-deploy.base.digest"]) == (base, engine.pinned(base))
    assert serving.base_of(tag) == base and serving.base_of("localhost:1/no/such:1") is None
    again = f"{tag}-again"
    try:
        serving.build_image(spec, again, base_image=tag, connect=scripted)
        assert serving.base_of(again) == base  # and not the one between
    finally:
        images.remove(engine, again)


def test_its_labels_carry_the_models_digests(engine: Engine, spec: Spec, tag: str) -> None:
    built = serving.build_image(spec, tag, base_image=image_or_skip(engine), connect=scripted)
    version = spec.repository / "half/2"
    files = sorted(p for p in version.rglob("*") if p.is_file())
    listing = "".join(f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(version)}\n"
                      for p in sorted(files, key=lambda p: p.relative_to(version).as_posix()))
    digest = "sha256:" + hashlib.sha256(listing.encode()).hexdigest()
    assert built.models == {"half/2": digest} and not built.smoked
    assert json.loads(images.labels(engine, tag)["org.tfs-deploy.models"]) == {"half/2": digest}


def test_a_failing_smoke_test_leaves_neither_tag_nor_image(engine: Engine, spec: Spec, tag: str) -> None:
    before = untagged(engine)

    def smoke(endpoint: Endpoint) -> None:
        until(lambda: answers(endpoint.host, endpoint.rest_port or 0), "it runs")
        raise SmokeFailed("half/2 answers 4, expected 5")

    with pytest.raises(SmokeFailed):
        serving.build_image(spec, tag, base_image=image_or_skip(engine), smoke=smoke, connect=scripted)
    assert not engine.has_image(tag) and untagged(engine) == before


def test_a_failure_leaves_a_release_of_the_same_content_alone(engine: Engine, spec: Spec, tag: str) -> None:
    """The builder's cache gives the same image again, which has a name by now."""
    def smoke(_: Endpoint) -> None:
        raise SmokeFailed("the network is slow today")

    built = serving.build_image(spec, tag, base_image=image_or_skip(engine), connect=scripted)
    with pytest.raises(SmokeFailed):
        serving.build_image(spec, f"{tag}-again", base_image=image_or_skip(engine), smoke=smoke, connect=scripted)
    assert engine.client.images.get(tag).id == built.id and not engine.has_image(f"{tag}-again")


@pytest.mark.parametrize("name", ["x/Upper:1", "a b", "x:", "x:1:2", "", "x@sha256:0", "-x", "x:.1"])
def test_names_that_no_image_can_have(engine: Engine, spec: Spec, name: str) -> None:
    with pytest.raises(SpecError, match=f"image name {name!r} is not valid"):
        serving.build_image(spec, name, base_image=image_or_skip(engine), smoke=lambda _: pytest.fail("built"))


def test_an_image_that_never_serves_gets_no_tag(engine: Engine, spec: Spec, tag: str) -> None:
    impatient = msgspec.structs.replace(spec, server=msgspec.structs.replace(spec.server, start_timeout=0.5))
    before = untagged(engine)
    with pytest.raises(NotReady, match="wanted 2"):
        serving.build_image(impatient, tag, base_image=image_or_skip(engine),
                            connect=lambda _: {"gRPC": FakeControl({"half": [available(1)]})})
    assert not engine.has_image(tag) and untagged(engine) == before


def test_changed_bytes_are_not_baked(engine: Engine, spec: Spec, tag: str) -> None:
    (path,) = Repository(spec.repository).path(ModelVersion("half", 2)).glob("variables/variables.data*")
    path.chmod(0o644)
    path.write_bytes(bytes(b ^ 1 for b in path.read_bytes()))
    with pytest.raises(DigestMismatch):
        serving.build_image(spec, tag, base_image=image_or_skip(engine), connect=scripted)
    assert not engine.has_image(tag)


def test_a_base_image_that_does_not_exist(engine: Engine, spec: Spec, tag: str) -> None:
    with pytest.raises(BackendMissing, match="localhost:1/no/base:1"):
        serving.build_image(spec, tag, base_image="localhost:1/no/base:1")


def test_a_real_server_in_it_answers(engine: Engine, spec: Spec, tag: str) -> None:
    def smoke(endpoint: Endpoint) -> None:
        with client.connect(endpoint.rest_url) as asked:
            assert asked.predict("half@stable", {"x": np.array([2.0], np.float32)})["y"].tolist() == [4.0]

    built = serving.build_image(spec, tag, base_image=server_image_or_skip(engine), smoke=smoke)
    assert built.smoked and engine.has_image(tag)

"""What the servers' tests share: the fake program, the stand-in image, waiting without sleeping blindly."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from deploy.backends import images
from deploy.backends.container_options import ContainerOptions
from deploy.backends.engine import Engine, connect
from deploy.errors import BackendMissing, DeployError
from deploy.render.configs import PROGRAM
from deploy.spec import ServerPart, SmokePart, Spec
from deploy.waiting import Deadline, poll

FAKE = Path(__file__).with_name("fake_server.py")
# Any image with python3 will do for the stand-in; the first that is here, or else the last one pulled
BASE_IMAGES = [*filter(None, map(os.environ.get, ("TFS_TEST_BASE_IMAGE", "TFS_TEST_IMAGE"))), "tfs-base:bookworm",
               "tfs-deploy/base:ci", "python:3-slim"]
STAND_IN = "tfs-deploy/test-stand-in:1"
DOCKERFILE = f"ARG BASE_IMAGE\nFROM ${{BASE_IMAGE}}\nCOPY server {PROGRAM}\n"
FORCED = os.environ.get("TFS_REQUIRE_DOCKER") == "1"


def fake_argv(grpc: int, rest: int, *flags: str) -> tuple[str, ...]:
    """The fake server as a program of this machine."""
    return (sys.executable, str(FAKE), f"--port={grpc}", f"--rest_api_port={rest}", "--tfs_bind_address=127.0.0.1",
            *flags)


def spec_of(name: str, state_dir: Path | str, **server: object) -> Spec:
    """A spec without models, whose server has this name and state directory, which is called like it."""
    state = Path(state_dir)
    assert state.name == name
    return Spec(name=name, path=state / "serving.yaml", repository=state, models=(),
                server=ServerPart(**server), smoke=SmokePart(), state=state.parent)  # type: ignore[arg-type]


def until(probe: Callable[[], object], what: str, *, seconds: float = 20.0,
          evidence: Callable[[], object] = lambda: "") -> None:
    if not poll(lambda: probe() or None, Deadline(seconds)):
        pytest.fail(f"not within {seconds:g} s: {what} {evidence()}")


def answers(host: str, port: int) -> bool:
    try:
        with closing(socket.create_connection((host, port), 2)) as s:
            s.sendall(b"GET / HTTP/1.1\r\n\r\n")
            return s.recv(4) == b"HTTP"
    except OSError:
        return False


@contextmanager
def taken_port() -> Iterator[int]:
    """A port on which this test process listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        yield s.getsockname()[1]


@contextmanager
def limited_files(size: int) -> Iterator[None]:
    """Writes beyond `size` bytes fail: EFBIG where a full disk says ENOSPC."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def engine_or_skip() -> Engine:
    """The Docker engine; without one the test is skipped, unless TFS_REQUIRE_DOCKER=1."""
    try:
        return connect()
    except BackendMissing as e:
        if FORCED:
            raise
        pytest.skip(f"no Docker engine: {e.message}")


def image_or_skip(engine: Engine) -> str:
    """An image that holds the fake server where the real one is in the official image."""
    try:
        base = next(filter(engine.has_image, BASE_IMAGES), BASE_IMAGES[-1])
        engine.require_image(base)
        stream = images.context({"server": FAKE}, lambda _: DOCKERFILE)
        image = images.build(engine, stream, build_args={"BASE_IMAGE": base})
    except DeployError as e:
        if FORCED:
            raise
        pytest.skip(f"no image for the stand-in server: {e.message}")
    before = str(engine.client.images.get(STAND_IN).id) if engine.has_image(STAND_IN) else image
    images.tag(engine, image, STAND_IN)
    if before != image:
        images.remove(engine, before)
    return STAND_IN


def server_image_or_skip(engine: Engine) -> str:
    """An image with the embedded server, or the real one, where the official image has it: TFS_TEST_IMAGE."""
    wanted = os.environ.get("TFS_TEST_IMAGE")
    for image in [wanted] if wanted else ["tfs-deploy/modelserver:dev", "tensorflow/serving:2.20.0"]:
        if engine.has_image(image):
            return image
    if FORCED:
        pytest.fail("no serving image: name one in TFS_TEST_IMAGE")
    pytest.skip("no serving image: name one in TFS_TEST_IMAGE")


def container_options(state_dir: Path, *flags: str, image: str = STAND_IN, **changes: object) -> ContainerOptions:
    """A stand-in server's options, under a name that no other test run has."""
    argv = (PROGRAM, "--port=8500", "--rest_api_port=8501", *flags)
    given: dict[str, object] = {"name": f"test-{uuid.uuid4().hex[:8]}", "image": image, "argv": argv,
                                "state_dir": str(state_dir), "grpc_port": 0, "rest_port": 0, **changes}
    return ContainerOptions(**given)  # type: ignore[arg-type]

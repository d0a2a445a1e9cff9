"""The container's HEALTHCHECK, against the echo server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import testing
from deploy.modelserver.healthcheck import problems, running
from deploy.render import models_config
from deploy.types import Latest, ServedModel, Specific, VersionPolicy
from deploy.wire.flags import Options
from deploy.wire.text import to_text
from tests.support.ports import free_ports


@pytest.fixture(scope="module")
def server() -> Iterator[testing.Running]:
    """m: 1 and 2, stable -> 1."""
    with testing.serve({"m": {1: None, 2: None}}, versions=Specific((1, 2)), labels={"m": {"stable": 1}}) as made:
        yield made


def options(server: testing.Running, file: Path, policy: VersionPolicy, labels: dict[str, int]) -> Options:
    file.write_text(to_text(models_config([ServedModel("m", "/m", policy, labels)], {"m": "/m"})))
    assert server.endpoint.grpc_port and server.endpoint.rest_port
    return Options(port=server.endpoint.grpc_port, rest_api_port=server.endpoint.rest_port,
                   model_config_file=str(file), tfs_bind_address="0.0.0.0")


@pytest.mark.parametrize(("policy", "labels", "why"), [
    (Specific((1, 2)), {"stable": 1}, []),
    (Specific((1,)), {"stable": 1}, []),  # 2 is on trial
    (Latest(1), {}, []),
    (Specific((1, 3)), {}, ["m serves 1, 2, wanted 1, 3"]),
    (Latest(1), {"canary": 2}, ["m@canary resolves to nothing, wanted any version"]),
])
def test_healthy_is_what_the_configuration_names(server: testing.Running, tmp_path: Path, policy: VersionPolicy,
                                                 labels: dict[str, int], why: list[str]) -> None:
    assert list(problems(options(server, tmp_path / "models.config", policy, labels))) == why


def test_a_version_that_fails_says_why(tmp_path: Path) -> None:
    with testing.serve({"m": {1: None}}) as made:
        made.break_version("m", 2, "out of memory")
        file = tmp_path / "models.config"
        assert list(problems(options(made, file, Specific((1, 2)), {}))) == [
            "m/2 can't be loaded: out of memory", "m serves 1, wanted 1, 2"]
        assert list(problems(options(made, file, Latest(1), {}))) == [], "its predecessor serves"


def test_closed_ports_strangers_and_broken_files(server: testing.Running, tmp_path: Path) -> None:
    grpc, rest = free_ports()
    found = list(problems(Options(port=grpc, rest_api_port=rest, model_name="m", model_base_path="/m")))
    assert [text.split(":")[0] for text in found] == [f"gRPC port {grpc}", f"REST port {rest}"]
    assert list(problems(Options(port=server.endpoint.rest_port or 0))) == [
        f"gRPC port {server.endpoint.rest_port}: what answers is no gRPC server"]
    assert server.endpoint.grpc_port
    broken = Options(port=server.endpoint.grpc_port, rest_api_port=1, model_config_file=str(tmp_path / "none"))
    assert "the configuration can't be read" in next(problems(broken))


def test_the_server_is_found_by_its_command_line(tmp_path: Path) -> None:
    assert running(tmp_path) is None
    for pid, words in {"1": ["/sbin/docker-init", "--"], "9": ["python3", "-m", "deploy.modelserver.healthcheck"],
                       "17": ["python3", "-m", "deploy.modelserver", "--port=8500", "--rest_api_port=8501"]}.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_bytes("\0".join([*words, ""]).encode())
    (tmp_path / "18").mkdir()
    found = running(tmp_path)
    assert found is not None and (found.port, found.rest_api_port) == (8500, 8501)

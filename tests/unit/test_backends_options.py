"""Container and embedded options, compared as values."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.backends import container_options as options_module
from deploy.backends.container_options import (
    ContainerOptions,
    Host,
    Mount,
    container_user,
    docker_options,
    memory_bytes,
    name_on_engine,
    restart_policy,
    unseen_source,
)
from deploy.backends.process import embedded_options
from deploy.backends.swarm_server import service_name
from deploy.types import Endpoint

PLAIN = ContainerOptions("mnist", "tensorflow/serving:2.20.0", ("/usr/bin/tensorflow_model_server", "--port=8500"),
                         "/srv/.tfs/mnist", (Mount("/srv/models/mnist", "/models/mnist"),), grpc_port=9000, rest_port=0,
                         user="1000:1000", labels={"org.tfs-deploy.config": "abc"})


def test_a_container_can_do_as_little_as_possible() -> None:
    assert docker_options(PLAIN) == {
        "image": "tensorflow/serving:2.20.0",
        "name": PLAIN.container_name,
        "labels": {"org.tfs-deploy.config": "abc", "org.tfs-deploy.name": "mnist",
                   "org.tfs-deploy.state": "/srv/.tfs/mnist"},
        "environment": {"HOME": "/tmp"},
        "mounts": [{"Type": "bind", "Source": "/srv/models/mnist", "Target": "/models/mnist", "ReadOnly": True}],
        "ports": {"8500/tcp": ("127.0.0.1", 9000), "8501/tcp": ("127.0.0.1", None)},
        "init": True,
        "user": "1000:1000",
        "read_only": True,
        "tmpfs": {"/tmp": "size=256m,mode=1777"},
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "pids_limit": 4096,
        "log_config": {"Type": "json-file", "Config": {"max-size": "20m", "max-file": "5"}},
        "entrypoint": ["/usr/bin/tensorflow_model_server"],
        "command": ["--port=8500"],
    }


def test_an_image_can_keep_its_own_entry_point() -> None:
    made = docker_options(ContainerOptions("a", "b", None, "/s"))
    assert "entrypoint" not in made and "command" not in made


def test_limits() -> None:
    made = docker_options(ContainerOptions("a", "b", ("c",), "/s", cpus=1.5, memory="2g", gpus="all"))
    assert made["nano_cpus"] == 1_500_000_000
    assert made["mem_limit"] == made["memswap_limit"] == 2 << 30
    assert made["device_requests"] == [{"count": -1, "capabilities": [["gpu"]]}]
    assert docker_options(ContainerOptions("a", "b", ("c",), "/s", gpus=2))["device_requests"][0]["count"] == 2


def test_without_a_limit_the_machine_keeps_a_tenth_of_its_memory() -> None:
    made = docker_options(PLAIN, Host(memory=100 << 30))
    assert (made["mem_limit"], made["memswap_limit"]) == (90 << 30, -1)
    assert docker_options(replace(PLAIN, memory="2g"), Host(memory=100 << 30))["mem_limit"] == 2 << 30
    assert "mem_limit" not in docker_options(PLAIN, Host())


def test_what_the_engine_cant_limit_or_keeps_elsewhere_is_left_alone() -> None:
    made = docker_options(PLAIN, Host(pids=False, log_driver="journald"))
    assert "pids_limit" not in made and "log_config" not in made


@pytest.mark.parametrize("said", [
    'invalid mount config for type "bind": bind source path does not exist: {}/m',
    "statfs {}/m: no such file or directory", "Mounts denied: The path {}/m is not shared from the host",
    "error while creating mount source path '{}/m': mkdir {}: read-only file system"])
def test_a_directory_that_only_the_engine_doesnt_see(tmp_path: Path, said: str) -> None:
    mounts = (Mount("/etc", "/c"), Mount(f"{tmp_path}/m", "/models/m"))
    assert unseen_source(said.replace("{}", str(tmp_path)), mounts) == ""  # nor is it here
    (tmp_path / "m").mkdir()
    assert unseen_source(said.replace("{}", str(tmp_path)), mounts) == f"{tmp_path}/m"
    assert unseen_source(f"no space left on device: {tmp_path}/m", mounts) == ""


@pytest.mark.parametrize(("text", "size"), [("1024", 1024), ("1k", 1024), ("3M", 3 << 20), ("2g", 2 << 30)])
def test_memory(text: str, size: int) -> None:
    assert memory_bytes(text) == size


def test_the_sdk_takes_all_of_it() -> None:
    """The SDK turns the arguments into the engine's JSON without an engine."""
    from docker.models.containers import _create_container_args

    options = ContainerOptions("a", "b", ("c", "d"), "/s", cpus=1, memory="1g", gpus=1)
    made = _create_container_args({**docker_options(options), "version": "1.41"})
    host = made["host_config"]
    assert host["ReadonlyRootfs"] is True and host["Init"] is True and host["CapDrop"] == ["ALL"]
    assert host["PidsLimit"] == 4096 and host["LogConfig"]["Config"] == {"max-size": "20m", "max-file": "5"}
    assert host["PortBindings"]["8500/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "8500"}]
    assert host["DeviceRequests"][0]["Capabilities"] == [["gpu"]]


def test_the_name_on_the_engine_depends_on_where_the_spec_is() -> None:
    here, there = (ContainerOptions("serving", "i", None, state) for state in ("/a/.tfs/serving", "/b/.tfs/serving"))
    assert here.container_name != there.container_name
    assert here.container_name.startswith("tfs-serving-")


def test_the_user_is_the_caller_but_never_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options_module.os, "getuid", lambda: 1000)
    monkeypatch.setattr(options_module.os, "getgid", lambda: 100)
    assert container_user() == "1000:100"
    monkeypatch.setattr(options_module.os, "getuid", lambda: 0)
    assert container_user() == "65534:65534"


def test_restart_policies() -> None:
    made = [restart_policy(ContainerOptions("a", "b", None, "/s", restart=r))  # type: ignore[arg-type]
            for r in ("no", "always", "on-failure")]
    assert made == [{"Name": "no"}, {"Name": "always"}, {"Name": "on-failure", "MaximumRetryCount": 5}]


def test_the_embedded_server_is_this_python_with_our_own_flags(tmp_path: Path) -> None:
    made = embedded_options("m", ["--port=1", "--rest_api_port=2"], Endpoint("127.0.0.1", 1, 2), tmp_path, drain=2.5)
    assert made.kind == "embedded"
    assert made.argv == (sys.executable, "-m", "deploy.modelserver", "--port=1", "--rest_api_port=2",
                         "--tfs_bind_address=127.0.0.1", "--tfs_drain_seconds=2.5", "--tfs_fail_on_taken_port=true")
    assert Path(made.environment["PYTHONPATH"].split(os.pathsep)[0], "deploy", "backends").is_dir()


@pytest.mark.parametrize("name", ["prod", "prod.eu-1", "a_b..c", "x" * 80, "-.-"])
def test_a_service_of_swarm_is_called_as_dns_has_it(name: str) -> None:
    called = service_name(ContainerOptions(name, "i", None, "/state"))
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", called) and len(called) <= 63
    assert called.rpartition("-")[2] == name_on_engine(name, "/state").rpartition("-")[2]

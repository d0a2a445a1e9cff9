"""What is imported when: the base is light, and TensorFlow's Python stays in deploy/export."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import deploy
from deploy import Repository
from tests.support.docker_engine import NO_CONTAINERS, engine_that_says
from tests.support.repository import savedmodel

ROOMS = [m.name for m in pkgutil.iter_modules(deploy.__path__) if m.name not in ("__main__",)]


def printed(code: str) -> str:
    """What a fresh interpreter prints that runs `code`."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def loaded_after(code: str) -> set[str]:
    """Top-level modules in a fresh interpreter after running `code`."""
    return set(printed(f"import sys; {code}; print(*sorted({{m.partition('.')[0] for m in sys.modules}}))").split())


def test_import_deploy_is_light() -> None:
    assert not loaded_after("import deploy") & {"tensorflow", "keras", "docker", "grpc", "requests", "numpy", "google"}


def test_the_command_line_starts_light() -> None:
    code = "import deploy.cli"
    assert not loaded_after(code) & {"tensorflow", "keras", "docker", "grpc", "requests", "numpy", "rich", "yaml"}


# What a command may load of that which takes long to load. A bare repository, and no server that runs
SPEC = {"msgspec", "yaml"}
PLANNED = SPEC | {"google.protobuf", "psutil"}
MAY_LOAD = {
    "--help": set[str](),
    "": PLANNED,
    "--json": PLANNED,
    "init": PLANNED,
    "schema": SPEC,
    "repository list": {"rich", "psutil"},
    "repository list --json": {"psutil"},
    "repository verify m": {"psutil"},
    "inspect m": {"google.protobuf", "psutil", "rich"},
    "check m": {"google.protobuf", "psutil"} | SPEC,
    "check build/m": {"google.protobuf", "psutil"} | SPEC,
    "configure": PLANNED - {"psutil"},
    "up --dry-run": PLANNED,
    "status": PLANNED | {"rich"},
    "status --json": PLANNED,
    "ready": PLANNED,
    "logs": PLANNED,
    "down": PLANNED,
    "down --spec two.yaml": PLANNED | {"rich"},
    "logs --spec two.yaml": PLANNED,
    "doctor": PLANNED | {"rich"},
    "history": SPEC | {"psutil"},
    "history --json": SPEC | {"psutil"},
}
SLOW = {"tensorflow", "keras", "numpy", "ml_dtypes", "grpc", "google.protobuf", "docker", "requests", "urllib3", "rich",
        "http.client", "yaml", "msgspec", "psutil"}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """A directory with a repository and a spec, and the environment of a machine whose engine has no containers."""
    place = tmp_path_factory.mktemp("workplace")
    Repository(place / "models").publish(savedmodel(place / "build" / "m"), "m")
    text = "name: s\nserver: {backend: embedded}\nmodels: [{name: m, versions: [1]}]\n"
    (place / "serving.yaml").write_text(text)
    free = "server: {grpc_port: 0, rest_port: 0}"
    (place / "two.yaml").write_text(f"{text}servers: [{{name: a, {free}}}, {{name: b, {free}}}]\n")
    with engine_that_says(NO_CONTAINERS, place):
        yield place, {**os.environ, "DOCKER_HOST": f"unix://{place}/s", "PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.mark.parametrize("command", MAY_LOAD)
def test_a_command_loads_what_it_needs(command: str, workplace: tuple[Path, dict[str, str]]) -> None:
    place, environment = workplace
    code = f"""
import sys
from deploy.cli.outcome import run
code = run({command.split()})
print("code", code, "loaded", *sorted({SLOW} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=place, env=environment, check=True, capture_output=True,
                          text=True)
    last = done.stdout.splitlines()[-1].split()
    assert last[1] in ("0", "6"), done.stderr  # 6: not ready
    assert set(last[3:]) <= MAY_LOAD[command]


def test_no_room_imports_tensorflow() -> None:
    """One interpreter for all: the first room after which it is there has imported it."""
    lines = printed(f"""
import importlib, sys
for room in {ROOMS}:
    importlib.import_module("deploy." + room)
    print(room, *sorted({{"tensorflow", "keras"}} & sys.modules.keys()))
""").splitlines()
    assert lines == ROOMS


@pytest.mark.parametrize("name", deploy.__all__)
def test_public_names_resolve(name: str) -> None:
    assert getattr(deploy, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_thing"):
        deploy.no_such_thing  # noqa: B018

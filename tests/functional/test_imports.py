"""What is imported when: the base is light, and TensorFlow's Python stays in deploy/export."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import deploy

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

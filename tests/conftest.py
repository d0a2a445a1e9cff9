"""What every test may ask for."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.support.peers.stores import ObjectServices

HERE = Path(__file__).parent
collect_ignore = ["pytest_project"]  # somebody else's, run by test_pytest_plugin

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # as for what a shell starts in the background: then no process of a test would know Ctrl-C, either
    signal.signal(signal.SIGINT, signal.default_int_handler)

if "CI" not in os.environ:  # there it is the hundred examples of Hypothesis' own profile, the same ones each time
    settings.register_profile("quick", max_examples=30)
    settings.load_profile("quick")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes come first, so that several processes end together (`--no-loadscope-reorder`)."""
    rooms = ("integration", "contract", "functional", "unit")
    items.sort(key=lambda item: next((n for n, room in enumerate(rooms) if HERE / room in item.path.parents), 4))


@pytest.fixture(scope="session")
def models() -> Path:
    """The SavedModels of tests/models.py, built once for each change of that file or of TensorFlow."""
    return _built("models.py")


@pytest.fixture(scope="session")
def tf1_models() -> Path:
    """What tests/tf1_models.py builds: as TensorFlow 1 and TensorFlow Hub wrote it."""
    return _built("tf1_models.py")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 4 MB."""
    mount = tmp_path / "small"
    mount.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(mount)],
                                      capture_output=True, check=False).returncode:
        pytest.skip("mounting a small filesystem isn't allowed here")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


@pytest.fixture(scope="session")
def services() -> Iterator[ObjectServices]:
    """Object stores that run, each from when a test first uses it."""
    from tests.support.peers.stores import ObjectServices

    running = ObjectServices()
    yield running
    running.end()


def _built(name: str) -> Path:
    script = HERE / name
    versions = "".join(metadata.version(name) for name in ("keras", "numpy"))
    key = hashlib.sha256(script.read_bytes() + versions.encode()).hexdigest()[:16]
    built = HERE / ".models" / key
    if not built.exists():
        stage = built.with_name(f".{key}-{os.getpid()}")
        stage.parent.mkdir(exist_ok=True)
        subprocess.run([sys.executable, str(script), str(stage)], check=True)
        try:
            stage.rename(built)
        except OSError:  # another worker was first
            if not built.exists():
                raise
            shutil.rmtree(stage)
    return built

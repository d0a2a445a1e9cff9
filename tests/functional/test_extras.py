"""An optional dependency that isn't installed is one sentence with the pip command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deploy import extras
from deploy.errors import BackendMissing
from tests.support.repository import savedmodel

HIDE = """
import importlib.abc, sys
hidden = lambda name: name.partition(".")[0] in {names!r}
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if hidden(name):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if hidden(name) else found(name, package)
"""


def without(names: set[str], code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python code where these top-level modules can't be imported."""
    return subprocess.run([sys.executable, "-c", HIDE.format(names=names) + code], capture_output=True, text=True,
                          cwd=cwd, check=False)


def tfs(names: set[str], arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return without(names, f"from deploy.cli.outcome import run; sys.exit(run({arguments!r}))", cwd)


def test_up_without_the_servers_extra(tmp_path: Path) -> None:
    savedmodel(tmp_path / "models" / "m" / "1")
    (tmp_path / "serving.yaml").write_text("models: [{name: m, versions: all}]\nserver: {backend: embedded}\n")
    done = tfs({"hpack", "httptools", "simdjson"}, ["up"], tmp_path)
    assert done.returncode == BackendMissing.exit_code
    assert "hpack and httptools and simdjson can't be imported" in done.stderr
    assert "pip install 'tfs-deploy[server" in done.stderr


def test_a_registry_without_what_speaks_to_it(tmp_path: Path) -> None:
    done = tfs({"urllib3"}, ["repository", "list", "--repository", "oci://localhost:1/models"], tmp_path)
    assert done.returncode == BackendMissing.exit_code
    assert "the repository oci://localhost:1/models can't run here: urllib3 can't be imported" in done.stderr
    assert "pip install 'tfs-deploy[oci]'" in done.stderr


def test_the_echo_server_without_the_servers_extra(tmp_path: Path) -> None:
    done = without({"hpack"}, "from deploy import testing\nwith testing.serve({'m': {1: None}}): pass", tmp_path)
    assert done.stderr.splitlines()[-1].endswith(
        "BackendMissing: the model server can't run here: hpack can't be imported; pip install 'tfs-deploy[server]'")


def test_export_without_tensorflow(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("def build():\n    return None\n")
    done = tfs({"tensorflow"}, ["export", "model.py:build", "--name", "m"], tmp_path)
    assert done.returncode == 3 or done.returncode == BackendMissing.exit_code
    assert "pip install 'tfs-deploy[tensorflow]'" in done.stderr


@pytest.mark.parametrize(("module", "extra"), [("hpack.hpack", "server"), ("tensorflow", "tensorflow"), ("yaml", None)])
def test_which_extra_brings_a_module(module: str, extra: str | None) -> None:
    assert extras.of_module(module) == extra


def test_bfloat16_without_ml_dtypes(tmp_path: Path) -> None:
    done = without({"ml_dtypes"}, "from deploy.wire.values import numpy_dtype\nnumpy_dtype('bfloat16')", tmp_path)
    assert done.stderr.splitlines()[-1].endswith("pip install 'tfs-deploy[bfloat16]'")

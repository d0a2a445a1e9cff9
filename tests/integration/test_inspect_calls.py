"""The calls that `tfs inspect` prints are pasted into a shell and a Python, and a server answers them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deploy import goldens, savedmodel
from deploy.cli.inspection import to_markdown
from deploy.cli.outcome import run
from deploy.client.snippets import ServerAddress
from deploy.errors import IncompleteVersion
from deploy.inspection import Inspection, inspect
from deploy.savedmodel import tflite
from tests.support.modelserver import ROOT, Process, server

pytestmark = [pytest.mark.tensorflow, pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")]

MODELS = ("mnist", "two_signatures", "vocabulary", "dtypes", "shapes", "classes")
NO_JSON = {"float16", "bfloat16", "uint16", "complex64", "complex128"}  # signatures of `dtypes`


@pytest.fixture(scope="module")
def running(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    where = tmp_path_factory.mktemp("served")
    for name in MODELS:
        shutil.copytree(models / name, where / name / "1")
    listed = "\n".join(f'config {{ name: "{name}" base_path: "{where / name}" model_platform: "tensorflow" }}'
                       for name in MODELS)
    (where / "models.config").write_text(f"model_config_list {{ {listed} }}")
    with server(where, f"--model_config_file={where / 'models.config'}") as process:
        yield process


def look(models: Path, running: Process, name: str) -> Inspection:
    addresses = f"127.0.0.1:{running.port}", f"http://127.0.0.1:{running.rest_port}"
    return inspect(models / name, server=ServerAddress(*addresses), ref=f"{name}/1")


@pytest.mark.parametrize("name", MODELS)
def test_every_curl_call_is_answered(models: Path, running: Process, name: str) -> None:
    found = look(models, running, name)
    assert found.calls.keys() == found.contract.keys()
    for signature, calls in found.calls.items():
        if name == "dtypes" and signature in NO_JSON:
            assert "no JSON form" in calls.why
            continue
        said = subprocess.run(["bash", "-c", calls.curl], capture_output=True, text=True, check=True).stdout
        assert json.loads(said).keys() & {"predictions", "outputs", "results"}, (signature, calls.curl, said)


@pytest.mark.parametrize("name", MODELS)
def test_every_python_call_is_answered(models: Path, running: Process, name: str) -> None:
    calls = look(models, running, name).calls
    program = "\n".join(one.python for one in calls.values())
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.strip().splitlines()) >= len(calls)


def test_markdown_has_them_all(models: Path, running: Process) -> None:
    text = to_markdown(look(models, running, "two_signatures"))
    assert text.count("```sh\ncurl") == 2
    assert text.count("```python\nimport deploy") == 2
    assert "| input | factor | float32 | [] |" in text
    assert "Not over REST: input 'x' is float16" in to_markdown(look(models, running, "dtypes"))


def test_facts(models: Path, running: Process) -> None:
    data = look(models, running, "mnist").to_json()
    assert data["variables"]["parameters"] >= 784 * 32 + 32 + 32 * 10 + 10
    assert data["manifest"] is None
    assert data["producer"]["tensorflow"].startswith("2.")
    assert look(models, running, "vocabulary").to_json()["assets"] == ["words.txt"]


def test_neither_savedmodel_nor_tflite(tmp_path: Path) -> None:
    (tmp_path / tflite.FILE).write_bytes(b"nothing of the kind")
    for path in (tmp_path, tmp_path / tflite.FILE, tmp_path / "missing.tflite"):
        with pytest.raises(IncompleteVersion):
            inspect(path)


def test_a_long_body_is_written_beside(models: Path, running: Process, tmp_path: Path,
                                       monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing that is there already is overwritten."""
    version = tmp_path / "vocabulary"
    shutil.copytree(models / "vocabulary", version)
    signature, = savedmodel.read(version).contract.values()
    text = np.array([b"\xff" * 3000], object)
    goldens.write(version, [goldens.Golden("serving_default", {signature.inputs[0].name: text}, {"y": text})],
                  "vocabulary")
    monkeypatch.chdir(tmp_path)
    Path("request.json").write_text("mine")
    command = ["inspect", str(version), "--calls", "--as", "vocabulary/1", "--rest-url",
               f"http://127.0.0.1:{running.rest_port}"]
    for _ in range(2):
        assert run(command) == 0
        line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("curl"))
        assert "@request-2.json" in line
        said = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True).stdout
        assert json.loads(said).keys() & {"predictions", "outputs"}, said
    assert Path("request.json").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.glob("request*")) == ["request-2.json", "request.json"]

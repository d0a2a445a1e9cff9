"""Models from a real MLflow registry, whose store is a SQLite file: logged by MLflow, published by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deploy import export_model
from deploy.cli.outcome import run
from deploy.errors import ExportError, RepositoryError
from deploy.export import registries
from deploy.repository import Repository, read_facts
from deploy.types import ModelVersion

# Their libraries warn of each other
pytestmark = [pytest.mark.tensorflow, pytest.mark.filterwarnings("ignore")]
LOG = """
import sys
import keras, mlflow, numpy as np
mlflow.set_experiment(experiment_id="0")
keras.utils.set_random_seed(7)
model = keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2, name="y")], name="digits")
for _ in range(2):
    with mlflow.start_run() as run:
        mlflow.tensorflow.log_model(model, name="model", registered_model_name="digits", pip_requirements=[])
client = mlflow.MlflowClient()
client.set_registered_model_alias("digits", "champion", 1)
with mlflow.start_run() as other:
    mlflow.log_text("no model", "notes/MLmodel.txt")
    mlflow.pyfunc.log_model(name="text", python_model=lambda model_input: model_input, registered_model_name="text",
                            pip_requirements=[])
print("RUN", run.info.run_id)
np.save("answer.npy", np.asarray(model(np.ones((1, 3), np.float32))))
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """digits/1 (champion) and digits/2 of Keras, text/1 of a Python function."""
    place = tmp_path_factory.mktemp("mlflow")
    done = subprocess.run([sys.executable, "-c", LOG], check=False, cwd=place, text=True, capture_output=True,
                          env={**os.environ, **environ(place), "TF_CPP_MIN_LOG_LEVEL": "3"})
    assert done.returncode == 0, done.stderr[-3000:]
    return place


def environ(place: Path) -> dict[str, str]:
    return {"MLFLOW_TRACKING_URI": f"sqlite:///{place}/mlflow.db", "MLFLOW_DISABLE_TELEMETRY": "true"}


@pytest.fixture(autouse=True)
def served(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environ(registry).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(registry)
    import mlflow

    mlflow.set_tracking_uri(environ(registry)["MLFLOW_TRACKING_URI"])


@pytest.mark.parametrize(("reference", "version"), [("mlflow:models:/digits@champion", "1"),
                                                    ("mlflow:models:/digits/2", "2")])
def test_a_registered_model_becomes_a_version(reference: str, version: str, registry: Path, tmp_path: Path) -> None:
    exported = export_model(reference, tmp_path / "models", examples={"x": np.ones((1, 3), np.float32)})
    assert exported.model_version == ModelVersion("digits", 1) and exported.goldens > 0
    manifest = Repository(tmp_path / "models").manifest(exported.model_version)
    assert manifest.producer["mlflow"] == reference.removeprefix("mlflow:")
    assert manifest.producer["mlflow_version"] == version and len(manifest.producer["mlflow_run"]) == 32
    answers = [golden.outputs["y"] for golden in read_facts(exported.path).goldens]
    expected = np.load(registry / "answer.npy")
    assert any(answer.shape == expected.shape and np.allclose(answer, expected) for answer in answers)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["publish", "--from", "mlflow:models:/digits@champion", "-r", str(tmp_path / "models"), "--json"]
    assert run(argv) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "digits"
    assert run(["export", "mlflow:models:/digits/2", "-r", str(tmp_path / "models"), "--name", "other"]) == 0
    assert Repository(tmp_path / "models").models() == ["digits", "other"]


@pytest.mark.parametrize(("reference", "error", "message"), [
    ("mlflow:models:/digits@nobody", RepositoryError, r"models:/digits@nobody can't be had from MLflow at sqlite:///.*"),
    ("mlflow:models:/nothing/1", RepositoryError, r"models:/nothing/1 can't be had from MLflow"),
    ("mlflow:models:/digits", ExportError, "names no registered model; write mlflow:models:/NAME@ALIAS"),
    ("mlflow:models:/text/1", ExportError, "holds no TensorFlow model: its flavors are python_function"),
])
def test_what_cant_be_had(reference: str, error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        export_model(reference, tmp_path / "models")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(("argv", "message"), [
    (["--from", "digits"], "expected mlflow:models:/NAME@ALIAS"),
    ([], "name a SavedModel directory, or --from"),
    (["somewhere", "--from", "mlflow:models:/digits/1"], "name a SavedModel directory, or --from"),
    (["somewhere"], "say what the model is called"),
])
def test_faulty_arguments(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["publish", *argv]) == 2
    assert message in capsys.readouterr().err


def test_a_registrys_password_is_in_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri("http://somebody:hidden@127.0.0.1:9")
    with pytest.raises(RepositoryError, match=r"MLflow at http://\*\*\*@127.0.0.1:9: ") as caught:
        export_model("mlflow:models:/digits/1", tmp_path / "models")
    assert "hidden" not in str(caught.value) and "somebody" not in str(caught.value)


def test_several_models_in_one(tmp_path: Path) -> None:
    for name in ("a.keras", "data/b.h5"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ExportError, match="holds 2 models: a.keras, data/b.h5"):
        registries._model_in(tmp_path, "mlflow:models:/m/1")

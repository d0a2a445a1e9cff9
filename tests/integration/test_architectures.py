"""Models of real architectures go all the way: exported, checked, served, smoke-tested over both protocols, called as
`tfs inspect` prints it, compared with one that was trained again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.tensorflow
tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

from deploy import checks, regression  # noqa: E402
from deploy.cli.outcome import run  # noqa: E402
from deploy.client.snippets import ServerAddress  # noqa: E402
from deploy.errors import ExportError, ParityError  # noqa: E402
from deploy.export import export_model  # noqa: E402
from deploy.inspection import inspect  # noqa: E402
from deploy.regression import ComparedVersion  # noqa: E402
from deploy.testing import ServerUnderTest, start_server  # noqa: E402
from tests.architectures import ARCHITECTURES, build  # noqa: E402

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each architecture as version 1, and trained again as version 2."""
    where = tmp_path_factory.mktemp("architectures") / "models"
    for name, architecture in ARCHITECTURES.items():
        for seed, tflite in ((1, architecture.tflite or None), (2, None)):
            exported = export_model(build(name, seed), where, name, tflite=tflite)
            assert exported.parity.worst < 1e-5 and exported.goldens, (name, exported.parity)
            assert (exported.tflite is not None) == (tflite is not None)
            keras.backend.clear_session()
    return where


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[ServerUnderTest]:
    with start_server(repository, backend="embedded") as server:
        yield server


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_passes_the_gate_without_allowances(name: str, repository: Path) -> None:
    assert checks.check(repository / name / "1").ok


def test_all_of_it_is_served_as_it_was_published(server: ServerUnderTest) -> None:
    report = server.smoke_test()
    assert report.ok, [check.to_json() for check in report.failed]
    asked = {(check.model, check.protocol) for check in report.checks if check.ok and check.name.startswith("golden")}
    assert {(name, protocol) for name in ARCHITECTURES for protocol in ("gRPC", "REST column")} <= asked


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_calls_that_inspect_prints(name: str, repository: Path, server: ServerUnderTest, tmp_path: Path,
                                       monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    version, rest = repository / name / "1", server.endpoint.rest_url
    monkeypatch.chdir(tmp_path)
    assert run(["inspect", str(version), "--calls", "--as", f"{name}/1", "--rest-url", rest]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "curl -" in line]
    found = inspect(version, server=ServerAddress(server.endpoint.grpc_target, rest), ref=f"{name}/1")
    assert len(lines) == len(found.calls)
    for line in lines:
        answer = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True).stdout
        assert json.loads(answer).keys() & {"predictions", "outputs"}, answer[:500]
    program = "\n".join(calls.python for calls in found.calls.values())
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, cwd=ROOT)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_next_one_keeps_the_contract_and_answers_otherwise(name: str, repository: Path) -> None:
    compared = regression.compare(*(ComparedVersion.of(repository / name / str(version)) for version in (1, 2)))
    assert not compared.verdict.breaking, compared.to_json()
    assert compared.drift is not None and any(output.changed for output in compared.drift.outputs)


@pytest.mark.parametrize("name", [name for name, each in ARCHITECTURES.items() if each.refusal])
def test_what_does_not_become_a_tflite_model_says_why(name: str, tmp_path: Path) -> None:
    with pytest.raises((ExportError, ParityError), match=ARCHITECTURES[name].refusal):
        export_model(build(name, 1), tmp_path, name, tflite="none")


def test_ragged_and_sparse_inputs_say_what_to_do(tmp_path: Path) -> None:
    L = keras.layers
    sparse = keras.Input((8,), sparse=True, name="counts")
    with pytest.raises(ExportError, match="input 'counts' of the model is sparse or ragged, and a request holds dense"):
        export_model(keras.Model(sparse, L.Dense(2)(sparse)), tmp_path, "m")
    ragged = tf.function(lambda x: {"y": tf.reduce_sum(x, 1)}, [tf.RaggedTensorSpec([None, None], tf.float32)])
    with pytest.raises(ExportError, match=r"RaggedTensorSpec.*tf.RaggedTensor.from_row_lengths"):
        export_model(ragged, tmp_path, "m")
    assert not list(tmp_path.glob("m/[0-9]*"))

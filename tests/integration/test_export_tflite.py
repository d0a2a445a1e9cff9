"""TFLite models beside SavedModels: converted, proven, described for both runtimes; refused with the reason."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from deploy import checks, goldens, regression, smoke
from deploy.checks import targets
from deploy.checks.rules import Severity
from deploy.cli.outcome import run
from deploy.client import connect
from deploy.client.snippets import ServerAddress
from deploy.errors import ExportError, ParityError
from deploy.export import examples as generated
from deploy.export import export_model
from deploy.export.tflite import SHARES, convert
from deploy.goldens.tolerances import Tolerance, narrowest
from deploy.inspection import inspect
from deploy.repository import Repository, read_facts
from deploy.savedmodel import tflite
from deploy.types import ModelRef
from tests.support.modelserver import ROOT, server

pytestmark = pytest.mark.tensorflow

TFLITE = replace(targets.default(), prefers_tflite=True)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("examples") / "pixels.npz"
    np.savez(path, pixels=np.random.default_rng(3).random((64, 784), np.float32))
    return path


@pytest.mark.parametrize("mode", SHARES)
def test_every_mode(models: Path, tmp_path: Path, examples: Path, mode: str) -> None:
    given = {"serving_default": dict(np.load(examples))}
    exported = export_model(models / "mnist", tmp_path / "models", "mnist", examples=given, tflite=mode)
    made = exported.tflite
    assert made is not None
    assert made.path == exported.path / tflite.FILE
    assert made.drift.within
    assert made.drift.cases == exported.goldens == 3  # ours, and two generated ones for the other signature
    assert made.size < made.saved_size
    assert made.latency.keys() == made.saved_latency.keys() == {"serve", "serving_default"}
    found = tflite.read(made.path)
    assert found.contract.keys() == exported.contract.keys()
    assert [str(s) for s in found.contract["serving_default"].inputs] == ["pixels: float32[?, 784]"]
    assert not any(operator.custom for operator in found.operators)
    Repository(tmp_path / "models").verify(exported.model_version)


def test_smaller_with_fewer_bits(models: Path, tmp_path: Path) -> None:
    sizes = {}
    for mode in ("none", "float16", "dynamic"):
        made = export_model(models / "mnist", tmp_path, "mnist", tflite=mode).tflite
        assert made is not None
        sizes[mode] = made.size
    assert sizes["dynamic"] < sizes["float16"] < sizes["none"]


def test_signatures_for_both_runtimes(models: Path, tmp_path: Path) -> None:
    """LiteRT finds all signatures; TensorFlow Serving its own form of those of the first graph, the default's."""
    exported = export_model(models / "two_signatures", tmp_path, "two", tflite="none")
    made = exported.tflite
    assert made is not None
    assert made.served == ("serving_default",)
    assert set(tflite.read(made.path).contract) == {"scale", "serving_default"}
    known = tflite.signature_defs(made.path)["serving_default"]
    assert known.method_name == "tensorflow/serving/predict"
    assert known.inputs["x"].name == tflite.read(made.path).contract["serving_default"].input("x").tensor
    assert any("TensorFlow Serving sees one graph only" in note for note in exported.notes)
    both = export_model(models / "mnist", tmp_path, "mnist", tflite="none").tflite
    assert both is not None
    assert both.served == ("serve", "serving_default")


@pytest.mark.parametrize(("name", "said"), [
    ("classes", "TFLite has no operators for ParseExampleV2"),
    ("vocabulary", "can't be run as TFLite: hashtable"),
])
def test_refused_with_the_reason(models: Path, tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ExportError, match=said):
        export_model(models / name, tmp_path / "models", name, tflite="none")
    assert not Repository(tmp_path / "models").versions(name)


def test_too_far_off(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=r"by more than 1e-09 of the outputs' largest magnitude"):
        export_model(models / "mnist", tmp_path / "models", "mnist", tflite="dynamic", tflite_limit=1e-9)
    assert not Repository(tmp_path / "models").versions("mnist")


def test_no_such_mode(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no TFLite mode 'int4'"):
        convert(tmp_path, None, [], "int4", tmp_path / "x")  # type: ignore[arg-type]


def test_on_the_command_line(models: Path, tmp_path: Path, examples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    device, plot = tmp_path / "device.tflite", tmp_path / "plot.svg"
    assert run(["export", str(models / "mnist"), "--name", "m", "-r", str(tmp_path / "models"), "--tflite", "int8",
                "--tflite-out", str(device), "--tflite-plot", str(plot), "--batch-sizes", "1,4", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["tflite"]["mode"], said["goldens"]) == ("int8", 4)
    assert any("generated examples" in note for note in said["notes"])
    assert device.read_bytes() == (tmp_path / "models" / "m" / "1" / tflite.FILE).read_bytes()
    bars = ET.fromstring(plot.read_text()).iter("{http://www.w3.org/2000/svg}rect")
    assert len(list(bars)) == 1 + 2 * 3
    assert run(["inspect", str(device), "--json", "--calls"]) == 0
    calls = json.loads(capsys.readouterr().out)["calls"]
    for call in calls.values():
        done = subprocess.run([sys.executable, "-c", call["litert"]], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-1000:]
        assert "probs" in done.stdout


def test_options_that_need_a_mode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "x.py:y", "--name", "m", "-r", str(tmp_path), "--tflite-out", "x"]) == 2
    assert "--tflite" in capsys.readouterr().err


def test_a_server_that_prefers_the_sibling_answers_from_it(models: Path, tmp_path: Path) -> None:
    """The same calls as for the SavedModel, and the golden answers within the mode's tolerance."""
    exported = export_model(models / "mnist", tmp_path / "models", "mnist", tflite="dynamic")
    flags = ("--model_name=mnist", f"--model_base_path={tmp_path / 'models' / 'mnist'}", "--prefer_tflite_model")
    with server(tmp_path, *flags) as running, connect(f"127.0.0.1:{running.port}") as client:
        known = read_facts(exported.path)
        ask = regression.on_server(client, ModelRef("mnist"))
        drift = regression.replay(known.goldens, ask, {"default": Tolerance(SHARES["dynamic"])})
        assert drift.within
        assert 1e-6 < max(output.max for output in drift.outputs) < 0.05  # quantized: not the SavedModel's own answers
        address = ServerAddress(f"127.0.0.1:{running.port}", f"http://127.0.0.1:{running.rest_port}")
        calls = inspect(exported.path, exported.model_version, server=address).calls
        for call in calls.values():
            said = subprocess.run(["bash", "-c", call.curl], capture_output=True, text=True, check=True).stdout
            assert "outputs" in said or "predictions" in said
            subprocess.run([sys.executable, "-c", call.python], capture_output=True, check=True, cwd=ROOT)

SERVED = """repository: models
models: [{{name: {name}, versions: 1}}]
server: {{backend: embedded, grpc_port: 0, rest_port: 0, flags: {{prefer_tflite_model: true}}}}
"""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Runs a server that prefers TFLite, by the command line."""
    monkeypatch.chdir(tmp_path)

    def up(name: str) -> None:
        Path("serving.yaml").write_text(SERVED.format(name=name))
        assert run(["up"]) == 0

    yield up
    run(["down"])


def test_answers_of_the_sibling_are_judged_by_the_limit_that_was_accepted(
        models: Path, tmp_path: Path, served: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    exported = export_model(models / "mnist", tmp_path / "models", "mnist", tflite="dynamic")
    manifest = Repository(tmp_path / "models").manifest(exported.model_version)
    accepted = manifest.limits(tflite=True)["serving_default/probs"]
    assert accepted.absolute > 1e-4 > manifest.limits()["default"].absolute
    served("mnist")
    assert [run(["smoke"]), run(["ready"])] == [0, 0], capsys.readouterr().out
    known = smoke.from_repository(Repository(tmp_path / "models"), tflite=True)(exported.model_version)
    assert known is not None and narrowest(known.tolerances, "serving_default", "probs") == accepted


def test_a_version_with_two_graphs_loads_where_tflite_is_preferred(
        models: Path, tmp_path: Path, served: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    exported = export_model(models / "two_signatures", tmp_path / "models", "two", tflite="none")
    assert {golden.signature for golden in goldens.read(exported.path)} == {"serving_default"}
    assert any("No golden answers of the others (scale)" in note for note in exported.notes)
    assert not any(found.rule == "tflite-warmup" for found in checks.check(exported.path, TFLITE).findings)
    served("two")
    assert [run(["smoke"]), run(["ready"])] == [0, 0], capsys.readouterr().out


def test_warm_up_requests_that_the_sibling_can_not_answer(
        models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As older exports wrote them, and as `tfs goldens add` does."""
    exported = export_model(models / "two_signatures", tmp_path / "models", "two", tflite="none")
    cases = generated.cases(None, exported.contract, {}, {})
    edited = regression.add(Repository(tmp_path / "models"), exported.model_version,
                            cases)
    path = edited.published.path
    found, = [f for f in checks.check(path, TFLITE).findings if f.rule == "tflite-warmup"]
    assert found.severity is Severity.ERROR and "no signature 'scale'" in found.message
    milder, = [f for f in checks.check(path).findings if f.rule == "tflite-warmup"]
    assert milder.severity is Severity.WARNING
    assert run(["goldens", "check", str(path)]) == 0
    assert "with --prefer_tflite_model a server refuses the version" in capsys.readouterr().out


def test_the_limit_stays_when_a_version_is_published_again(models: Path, tmp_path: Path) -> None:
    exported = export_model(models / "mnist", tmp_path / "models", "mnist", tflite="float16")
    again = Repository(tmp_path / "other").publish(exported.path, "mnist")
    first = Repository(tmp_path / "models").manifest(exported.model_version)
    assert again.manifest.limits(tflite=True) == first.limits(tflite=True) != first.limits()


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16"])
def test_a_model_that_computes_in_other_floats(tmp_path: Path, policy: str) -> None:
    import keras

    dense = keras.layers.Dense(2, name="h", dtype=policy)
    model = keras.Sequential([keras.Input((4,), name="x"), dense, keras.layers.Dense(1, dtype="float32", name="y")])
    with pytest.raises(ExportError, match=rf"in {policy.removeprefix('mixed_')}: .*; build it with float32"):
        export_model(model, tmp_path, "m", tflite="none")

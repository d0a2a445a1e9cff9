"""A lone .tflite file as a version: published, described, served over both protocols, compared, refused."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

import deploy
from deploy import checks, engine, goldens, regression, smoke
from deploy.checks import targets
from deploy.cli.outcome import run
from deploy.client import connect
from deploy.errors import CheckFailed, ExportError, IncompleteVersion, SpecError
from deploy.export import default_name, export_model
from deploy.inspection import inspect
from deploy.repository import Repository
from deploy.savedmodel import diff, tflite
from deploy.spec import load_spec
from tests.support import checks as make
from tests.support import savedmodel as support
from tests.support.modelserver import server
from tests.support.tflite import half_plus_two, signature

TORCH = {"serving_default": ("args_0", "output_0", "output_1")}
"""What LiteRT's converter for PyTorch writes."""

OTHER = replace(targets.default(), prefers_tflite=True)


def torch() -> bytes:
    return half_plus_two(table=TORCH, x="serving_default_args_0:0", y="StatefulPartitionedCall:0",
                         half="StatefulPartitionedCall:1", free=True)


def written(directory: Path, content: bytes, name: str = "half.tflite") -> Path:
    path = directory / name
    path.write_bytes(content)
    return path


def names(version: Path) -> tuple[list[str], list[str]]:
    """Of inputs and outputs, as a server sees them."""
    only, = tflite.served(version / tflite.FILE).values()
    return [spec.name for spec in only.inputs], [spec.name for spec in only.outputs]


def test_names_of_the_files_signatures_become_those_of_the_server(tmp_path: Path) -> None:
    """Without the metadata a server cuts both outputs' names at the colon, and has one of them only."""
    path = written(tmp_path, torch())
    assert [s.name for s in tflite.served(path)["serving_default"].outputs] == ["StatefulPartitionedCall"]
    exported = export_model(path, tmp_path / "models")
    assert exported.model_version.name == default_name(path) == "half"
    assert names(exported.path) == (["args_0"], ["output_0", "output_1"])
    assert any("args_0, output_0, output_1" in note for note in exported.notes)
    assert any("--prefer_tflite_model" in note for note in exported.notes)
    case = goldens.read(exported.path)[0]
    np.testing.assert_array_equal(case.outputs["output_0"], case.inputs["args_0"] / 2 + 2)
    np.testing.assert_array_equal(case.outputs["output_1"], case.inputs["args_0"] / 2)
    Repository(tmp_path / "models").verify(exported.model_version)
    assert sorted(p.name for p in exported.path.iterdir() if not p.name.startswith(".")) == [
        "assets.extra", "model.tflite"]


@pytest.mark.parametrize(("content", "expected"), [
    (half_plus_two(), (["x"], ["y"])),
    (half_plus_two(x="in:0", y="out:0"), (["in"], ["out"])),
    (half_plus_two({"serving_default": signature({"a": "x:0"}, {"b": "y:0"})}), (["a"], ["b"])),
])
def test_what_a_server_reads_as_it_stands_is_copied_bit_for_bit(tmp_path: Path, content: bytes,
                                                                expected: tuple[list[str], list[str]]) -> None:
    exported = export_model(written(tmp_path, content), tmp_path / "models")
    assert (exported.path / tflite.FILE).read_bytes() == content
    assert names(exported.path) == expected
    assert exported.goldens >= 1
    assert exported.parity.exact


def test_without_signatures_outputs_that_would_collide_are_numbered(tmp_path: Path) -> None:
    exported = export_model(written(tmp_path, half_plus_two(y="Identity:0", half="Identity:1")), tmp_path / "models")
    assert names(exported.path) == (["x"], ["output_0", "output_1"])


def test_outputs_are_renamed(tmp_path: Path) -> None:
    path = written(tmp_path, torch())
    by_place = export_model(path, tmp_path / "models", output_names=["score", "half"])
    assert names(by_place.path)[1] == ["half", "score"]
    assert goldens.read(by_place.path)[0].outputs["half"].sum() < goldens.read(by_place.path)[0].outputs["score"].sum()
    by_name = export_model(path, tmp_path / "models", output_names={"output_1": "half"})
    assert names(by_name.path)[1] == ["half", "output_0"]
    with pytest.raises(ExportError, match="has the outputs output_0, output_1, and the names given are"):
        export_model(path, tmp_path / "models", output_names=["one"])


def test_an_only_signature_becomes_the_default(tmp_path: Path) -> None:
    path = written(tmp_path, half_plus_two(table={"encode": ("text", "vector")}))
    assert list(export_model(path, tmp_path / "models").contract) == ["serving_default"]


def test_labels_behind_the_model_stay_there(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("labels.txt", "cat\ndog\n")
    exported = export_model(written(tmp_path, torch() + archive.getvalue()), tmp_path / "models")
    with zipfile.ZipFile(exported.path / tflite.FILE) as kept:
        assert kept.read("labels.txt") == b"cat\ndog\n"
    assert inspect(exported.path).tflite.associated == ("labels.txt",)  # type: ignore[union-attr]


@pytest.mark.parametrize(("content", "said"), [
    (b"", "it is empty"),
    (half_plus_two()[:300], "half.tflite is no TFLite model, or damaged"),
    (b"\0" * 64, "expected TFL3"),
    (b"LITERTLM" + b"\0" * 64, "a LiteRT-LM bundle"),
])
def test_files_that_are_none(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(IncompleteVersion, match=said):
        export_model(written(tmp_path, content), tmp_path / "models")
    assert not list((tmp_path / "models").glob("*/[0-9]*"))


def test_a_bundle_names_the_models_in_it(tmp_path: Path) -> None:
    for name in ("face.tflite", "face.task"):
        with zipfile.ZipFile(tmp_path / name, "w") as made:
            made.writestr("detector.tflite", half_plus_two())
    with pytest.raises(IncompleteVersion, match=r"a zip archive.*that holds detector\.tflite.*unpack it"):
        export_model(tmp_path / "face.tflite", tmp_path / "models")
    with pytest.raises(ExportError, match="a bundle of LiteRT"):
        export_model(tmp_path / "face.task", tmp_path / "models")


@pytest.mark.parametrize(("custom", "said"), [("FlexErfinv", "Select-TF op Erfinv"), ("Mine", "custom op 'Mine'")])
def test_operators_that_a_server_lacks(tmp_path: Path, custom: str, said: str) -> None:
    with pytest.raises(CheckFailed, match=said):
        export_model(written(tmp_path, half_plus_two(custom=custom)), tmp_path / "models")


def test_options_that_mean_nothing_here(tmp_path: Path) -> None:
    path = written(tmp_path, half_plus_two())
    with pytest.raises(ExportError, match="inputs can't be changed"):
        export_model(path, tmp_path / "models", inputs="x: float32[?]")
    with pytest.raises(ExportError, match="a TFLite model already"):
        export_model(path, tmp_path / "models", tflite="int8")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("alone")
    export_model(written(root, torch(), "torch.tflite"), root / "models", examples={"args_0": np.float32([[1], [3]])})
    export_model(written(root, half_plus_two(), "plain.tflite"), root / "models")
    yield root


def described(root: Path, flags: str) -> Path:
    path = root / "serving.yaml"
    path.write_text(f"repository: models\nmodels: [{{name: torch, versions: 1}}, {{name: plain, versions: 1}}]\n"
                    f"server: {{backend: embedded, grpc_port: 0, rest_port: 0{flags}}}\n")
    return path


def test_a_server_without_the_flag_isnt_started(published: Path) -> None:
    with pytest.raises(SpecError, match=r"prefer_tflite_model: model 'torch': version 1 holds model\.tflite"):
        deploy.up(load_spec(described(published, "")))


def test_served_with_the_flag_over_both_protocols(published: Path) -> None:
    spec = load_spec(described(published, ", flags: {prefer_tflite_model: true}"))
    running = deploy.up(spec)
    try:
        x = np.float32([[4], [10]])
        for address in (running.endpoint.rest_url, running.endpoint.grpc_target):
            with connect(address) as client:
                answer = client.predict("torch", {"args_0": x})
                assert {name: array.ravel().tolist() for name, array in answer.items()} == {
                    "output_0": [4, 7], "output_1": [2, 5]}
        report = smoke.smoke_test(running.endpoint, spec.models, smoke.from_models(spec.models, tflite=True))
        report.raise_if_failed()
        assert report.ok
        assert deploy.ready(spec).ready
    finally:
        deploy.down(spec)


def test_the_real_flags(published: Path) -> None:
    with server(published, "--model_name=torch", f"--model_base_path={published / 'models' / 'torch'}",
                "--prefer_tflite_model=true") as process:
        code, answer = process.rest("/v1/models/torch:predict", {"instances": [[4]]})
        assert (code, answer) == (200, {"predictions": [{"output_0": [4.0], "output_1": [2.0]}]})


def test_inspected_with_calls_that_run(published: Path) -> None:
    known = inspect(published / "models" / "torch" / "1")
    assert [spec.name for spec in known.contract["serving_default"].outputs] == ["output_0", "output_1"]
    assert known.info is None
    assert known.warmup is not None and known.warmup.ok


def test_diff_against_another_and_against_a_savedmodel(published: Path, tmp_path: Path) -> None:
    models = published / "models"
    one, other = (regression.ComparedVersion.of(models / name / "1", name) for name in ("torch", "plain"))
    assert diff.compare(one.subject, other.subject).breaking
    same = regression.compare(one, one)
    assert (same.level, same.asked) == (diff.Level.COMPATIBLE, "1 golden case of torch asked of torch")
    directory = support.save(tmp_path / "1", make.serves("Relu"))
    reasons = diff.compare(diff.Subject.of(directory), other.subject).reasons
    assert [r.what for r in reasons if r.rule == "other-format"] == [
        "it holds a TFLite model, before a SavedModel: only a server with --prefer_tflite_model loads it"]
    assert not [r for r in reasons if r.rule == "new-op"]


def test_confined(published: Path) -> None:
    with engine.confined(published / "models" / "torch" / "1") as child:
        answer = child.ask("serving_default", {"args_0": np.float32([[2]])})
    assert answer["output_0"].tolist() == [[3.0]]


def test_check_and_goldens(published: Path) -> None:
    models = published / "models"
    assert checks.check(models / "torch" / "1", OTHER).findings == ()
    assert run(["goldens", "check", "torch/1", "-r", str(models)]) == 0
    assert run(["goldens", "add", "torch/1", "-r", str(models), "--batch-sizes", "3"]) == 0
    assert [len(case.inputs["args_0"]) for case in goldens.read(models / "torch" / "2")] == [2, 3]

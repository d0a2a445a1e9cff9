"""What TensorFlow 1 and TensorFlow Hub left behind: published, served, asked over both protocols; or one sentence."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy import engine, goldens, savedmodel, smoke
from deploy.checks import Gate, of_server
from deploy.cli.outcome import run
from deploy.client import connect
from deploy.errors import CheckFailed, DeployError, ExportError
from deploy.export import Exported, FrozenGraph, SavedModelDirectory, export_model
from deploy.repository import Repository
from deploy.spec import ServerPart
from deploy.types import CLASSIFY_METHOD, PREDICT_METHOD, REGRESS_METHOD, Endpoint
from tests.support.modelserver import Process, server

pytestmark = pytest.mark.tensorflow
pytest.importorskip("tensorflow")

W = np.array([[1.0, -2.0, 0.5], [3.0, 4.0, -1.0]], np.float32)
B = np.array([0.1, 0.2, 0.3], np.float32)
ROW = np.array([[1.0, 2.0]], np.float32)
WORDS = np.array([b"quick", b"fox"], object)
PROBS = {"inputs": ["x:0"], "outputs": ["tower/probs:0", "tower/best"]}


def softmax(logits: Any) -> Any:
    powers = np.exp(logits)
    return powers / powers.sum(-1, keepdims=True)


@dataclass(frozen=True)
class Source:
    """A path below the built ones, what is said of it, one request for serving_default, and its answer."""

    path: str
    given: dict[str, Any]
    answer: dict[str, Any]
    options: dict[str, Any] | None = None
    fields: dict[str, Any] | None = None
    notes: str = ""

    def export(self, built: Path, repository: Path, name: str) -> Exported:
        path: Any = built / self.path
        options = self.options or {}
        if options:
            path = FrozenGraph(path, **options) if "outputs" in options else SavedModelDirectory(path, **options)
        return export_model(path, repository, name, **(self.fields or {}))


SOURCES = {
    "ref_variables": Source("ref_variables", {"x": ROW}, {"y": ROW @ W + B}),
    "resource_variables": Source("resource_variables", {"x": ROW}, {"y": ROW @ W + B}),
    "partitioned": Source("partitioned", {"x": ROW}, {"y": ROW @ W + B}),
    "no_variables": Source("no_variables", {"x": [1.5]}, {"y": [3.0]}),
    "meta_graphs": Source("meta_graphs", {"x": [1.0]}, {"y": [12.0]}),
    "chosen_graph": Source("meta_graphs", {"x": [1.0]}, {"y": [13.0]}, {"tags": ["gpu", "serve"]},
                           notes="the graph was tagged gpu, serve; it is tagged serve, as the server wants it"),
    "tagged_gpu": Source("tagged_gpu", {"x": [1.0]}, {"y": [13.0]}, {"tags": ("serve", "gpu")}, notes="tagged gpu"),
    "main_op": Source("main_op", {"words": WORDS}, {"ids": [1, 3]}),
    "legacy_init_op": Source("legacy_init_op", {"words": WORDS}, {"ids": [1, 3]}),
    "loops": Source("loops", {"x": [1.0, 2.0]}, {"total": [5.0, 10.0], "shifted": [11.0, 12.0]}),
    "pixels": Source("pixels", {"image": np.full((1, 4, 4, 3), 255, np.uint8)}, {"mean": [1.0]}),
    "receiver": Source("receiver", {"height": [[1.5]], "colour": [[b"red"]]}, {}),
    "named": Source("named", {"x": ROW}, {"score": [3.0]}, {"default_signature": "score"}, notes="is serving_default"),
    "text_form": Source("text_form", {"x": [1.5]}, {"y": [3.0]}),
    "text_file": Source("text_form/saved_model.pbtxt", {"x": [1.5]}, {"y": [3.0]}),
    "frozen": Source("frozen/graph.pb", {"x": ROW}, {"probs": softmax(ROW @ W + B), "best": [0]}, PROBS),
    "frozen_text": Source("frozen/graph.pbtxt", {"pixels": ROW}, {"probs": softmax(ROW @ W + B)},
                          {"inputs": ["pixels=x"], "outputs": ["tower/probs"]},
                          {"inputs": "pixels: float32[?, 2]"}),
    "frozen_inside": Source("frozen/graph.pb", {"y": [[0.0, 0.0, 0.0]]}, {"probs": [[1 / 3] * 3]},
                            {"inputs": ["y"], "outputs": ["tower/probs"]}),
    "hub1": Source("hub1", {"text": WORDS}, {"default": [[2.0, 3.0], [6.0, 7.0]]},
                   notes="signature 'default' is serving_default, too"),
    "hub1_other": Source("hub1_tags", {"text": WORDS}, {"default": [[4.0, 6.0], [12.0, 14.0]]},
                         {"default_signature": "double"}),
    "hub2": Source("hub2", {"x": ROW}, {"output_0": ROW @ W}),
    "hub2_many": Source("hub2_many", {"x": ROW}, {"default": ROW @ W}, fields={"inputs": "x: float32[?, 2]"}),
}


@pytest.fixture(scope="module")
def published(tf1_models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Exported]]:
    root = tmp_path_factory.mktemp("tf1")
    exported = {name: source.export(tf1_models, root, name) for name, source in SOURCES.items()}
    exported["estimator"] = export_model(tf1_models / "estimator", root)
    return root, exported


@pytest.fixture(scope="module")
def running(published: tuple[Path, dict[str, Exported]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    root, exported = published
    where = tmp_path_factory.mktemp("served")
    listed = "\n".join(f'config {{ name: "{name}" base_path: "{root / name}" model_platform: "tensorflow" }}'
                       for name in exported)
    (where / "models.config").write_text(f"model_config_list {{ {listed} }}")
    with server(where, f"--model_config_file={where / 'models.config'}") as process:
        yield process


@pytest.mark.parametrize("name", SOURCES)
def test_it_is_published_and_answers(published: tuple[Path, dict[str, Exported]], name: str) -> None:
    exported, source = published[1][name], SOURCES[name]
    assert exported.parity.exact
    assert exported.goldens == exported.parity.cases > 0
    assert source.notes in "; ".join(exported.notes)
    assert savedmodel.read(exported.path).tags == ("serve",)
    Repository(published[0]).verify(exported.model_version)
    with engine.load(exported.path) as session:
        signature = session.contract["serving_default"]
        dtypes = {spec.name: spec.dtype for spec in signature.inputs}
        answer = session.call(signature, {key: np.asarray(value, object if dtypes[key] == "string" else dtypes[key])
                                          for key, value in source.given.items()})
    for key, expected in source.answer.items():
        np.testing.assert_allclose(answer[key], expected, rtol=1e-5)


def test_all_are_served_and_asked(published: tuple[Path, dict[str, Exported]], running: Process) -> None:
    root, exported = published
    endpoint = Endpoint("127.0.0.1", running.port, running.rest_port)
    report = smoke.smoke_test(endpoint, list(exported), Repository(root))
    assert not report.failed, report
    assert len(report.checks) > 15 * len(exported)


def test_an_estimators_signatures(published: tuple[Path, dict[str, Exported]], running: Process) -> None:
    """classify, regress and predict take tf.Examples, which its feature columns read."""
    exported = published[1]["estimator"]
    assert {name: signature.method_name for name, signature in exported.contract.items()} == {
        "serving_default": CLASSIFY_METHOD, "classification": CLASSIFY_METHOD, "regression": REGRESS_METHOD,
        "predict": PREDICT_METHOD}
    assert {spec.name for spec in savedmodel.read(exported.path).features["input_example_tensor:0"]} >= {"height"}
    recorded = [golden for golden in goldens.read(exported.path) if golden.signature == "classification"]
    with connect(f"http://127.0.0.1:{running.rest_port}") as client:
        answer = client.classify("estimator", [{"height": 1.5, "colour": b"red"}], signature="classification")
    assert recorded
    assert [str(label) for label, _ in answer[0]] == ["a", "b", "c"]


def test_publishing_a_savedmodel_imports_no_tensorflow(tf1_models: Path, tmp_path: Path) -> None:
    code = ("import sys; from deploy.export import SavedModelDirectory, export_model\n"
            f"for name in ('estimator', 'ref_variables'): export_model({str(tf1_models)!r} + '/' + name, 'models')\n"
            f"export_model(SavedModelDirectory({str(tf1_models)!r} + '/tagged_gpu', ['serve', 'gpu']), 'models')\n"
            f"export_model(SavedModelDirectory({str(tf1_models)!r} + '/named', None, 'score'), 'models')\n"
            "assert 'tensorflow' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_a_server_with_other_tags(tf1_models: Path, tmp_path: Path) -> None:
    """With --saved_model_tags the directory is copied as it is, and asked by these tags."""
    gate = Gate(of_server(ServerPart(flags={"saved_model_tags": "serve,gpu"}), bundled=True))
    exported = export_model(tf1_models / "meta_graphs", tmp_path / "models", "m", gate=gate, examples={"x": [1.0]})
    assert goldens.read(exported.path)[0].outputs["y"].tolist() == [13.0]
    assert (exported.path / "saved_model.pb").read_bytes() == (tf1_models / "meta_graphs/saved_model.pb").read_bytes()
    with server(tmp_path, "--model_name=m", f"--model_base_path={tmp_path / 'models/m'}",
                "--saved_model_tags=serve,gpu") as process:
        endpoint = Endpoint("127.0.0.1", process.port, process.rest_port)
        report = smoke.smoke_test(endpoint, ["m"], Repository(tmp_path / "models"))
    assert not report.failed, report


def test_a_name_out_of_the_hubs_cache(tf1_models: Path, tmp_path: Path) -> None:
    exported = export_model(next((tf1_models / "hub_cache").glob("*/")), tmp_path)
    assert str(exported.model_version) == "tiny-dense/1"


REFUSED: dict[str, tuple[str, dict[str, Any] | None, dict[str, Any], type[DeployError], str]] = {
    "no tags": ("tagged_gpu", None, {}, CheckFailed, "publish it with `tfs export --tags`"),
    "other tags": ("meta_graphs", {"tags": ["cpu"]}, {}, ExportError,
                   "no graph tagged cpu: its graphs are tagged serve; gpu, serve; train"),
    "no default": ("named", None, {}, CheckFailed, "--default-signature"),
    "other default": ("named", {"default_signature": "x"}, {}, ExportError, "no signature 'x'; it has embed, score"),
    "many calls": ("hub2_many", None, {}, ExportError,
                   'can be called in 2 ways; say what it takes: --input "x: float32[?, 2]" or --input "x: float32'),
    "other call": ("hub2_many", None, {"inputs": "int32[?, 2]"}, ExportError, "can't be called with int32[?, 2]"),
    "saved already": ("main_op", None, {"inputs": "x: int32[?]"}, ExportError, "is saved already"),
    "a directory": ("frozen", None, {}, ExportError, "a frozen graph is named by its file"),
    "no names": ("frozen/graph.pb", None, {}, ExportError,
                 "placeholders: x; nodes that no other takes: tower/probs, tower/best"),
    "no outputs": ("frozen/graph.pb", {"inputs": ["x"], "outputs": ()}, {}, ExportError, "are outputs"),
    "a wrong name": ("frozen/graph.pb", {"inputs": ["x"], "outputs": ["tower/prob"]}, {}, ExportError,
                     "has no tensor 'tower/prob'; did you mean 'tower/probs'?"),
    "a wrong output": ("frozen/graph.pb", {"inputs": ["x"], "outputs": ["tower/probs:3"]}, {}, ExportError,
                       "its node has fewer outputs"),
    "not fed": ("frozen/graph.pb", {"inputs": ["layer/w/read"], "outputs": ["y"]}, {}, ExportError,
                "need the placeholder 'x', which is none of the inputs"),
    "another shape": ("frozen/graph.pb", PROBS, {"inputs": "x: float32[?, 3]"}, ExportError,
                      "is x: float32[?, 2], and the input spec says x: float32[?, 3]"),
    "no such input": ("frozen/graph.pb", PROBS, {"inputs": "z: float32[?, 2]"}, ExportError, "its inputs are x: "),
    "variables": ("frozen/unfrozen.pb", {"inputs": ["x"], "outputs": ["y"]}, {}, ExportError,
                  "isn't frozen: the value of its variable 'layer/w' stands in a checkpoint"),
    "a SavedModel": ("main_op/saved_model.pb", PROBS, {}, ExportError, "is a SavedModel's graph; name its directory"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_says_what_to_do(tf1_models: Path, tmp_path: Path, what: str) -> None:
    path, options, fields, error, text = REFUSED[what]
    with pytest.raises(error, match=re.escape(text)) as caught:
        Source(path, {}, {}, options, fields).export(tf1_models, tmp_path / "models", "m")
    assert caught.value.hint
    assert not list(tmp_path.glob("models/m/*"))


@pytest.mark.parametrize(("name", "content"), [("text.pb", b"hello\n"), ("empty.pb", b""), ("text.pbtxt", b"hello\n"),
                                               ("bytes.pbtxt", b"\xff\xfe\0"), ("half.pb", None)])
def test_files_that_are_no_graph(tf1_models: Path, tmp_path: Path, name: str, content: bytes | None) -> None:
    whole = (tf1_models / "frozen/graph.pb").read_bytes()
    (tmp_path / name).write_bytes(whole[:len(whole) // 2] if content is None else content)
    with pytest.raises(ExportError, match="is no graph: "):
        export_model(tmp_path / name, tmp_path / "models")


def test_an_asset_that_leads_out(tf1_models: Path, tmp_path: Path) -> None:
    shutil.copytree(tf1_models / "hub1", tmp_path / "hub1")
    graph = tmp_path / "hub1/saved_model.pb"
    graph.write_bytes(graph.read_bytes().replace(b"words.txt", b"../../etc"))
    with pytest.raises(ExportError, match="leads out of assets/"):
        export_model(tmp_path / "hub1", tmp_path / "models")


@pytest.mark.parametrize(("arguments", "code"), [
    (["frozen/graph.pb", "--inputs", "x:0", "--outputs", "probs=tower/probs:0", "--input", "probs: float32[?]"], 3),
    (["frozen/graph.pb", "--inputs", "x:0", "--outputs", "probs=tower/probs:0,tower/best:0", "--input",
      "x: float32[?, 2]"], 0),
    (["hub1_tags", "--tags", "train", "--default-signature", "double"], 0),
    (["hub1", "--inputs", "x", "--tags", "serve"], 2),
])
def test_the_command_line(tf1_models: Path, tmp_path: Path, arguments: Sequence[str], code: int) -> None:
    assert run(["export", str(tf1_models / arguments[0]), *arguments[1:], "--name", "m", "--repository",
                str(tmp_path)]) == code
    assert (tmp_path / "m/1/saved_model.pb").is_file() is (code == 0)

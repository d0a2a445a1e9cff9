"""Recipes all the way: exported, served by the embedded server, asked over REST and gRPC, smoke-tested, inspected."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow
keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

import deploy  # noqa: E402
from deploy import engine, goldens, recipes, savedmodel, smoke  # noqa: E402
from deploy.cli.inspection import to_markdown  # noqa: E402
from deploy.cli.outcome import run  # noqa: E402
from deploy.client.snippets import ServerAddress  # noqa: E402
from deploy.errors import ExportError, Rejected  # noqa: E402
from deploy.export import Exportable, Exported, Predict  # noqa: E402
from deploy.inspection import inspect  # noqa: E402
from deploy.regression import ComparedVersion, compare  # noqa: E402
from deploy.types import All, ServedModel  # noqa: E402
from tests.support.modelserver import ROOT, Process, server  # noqa: E402

LABELS = ["cat", "dog", "owl", "fox", "bat"]
WORDS = ["the", "quick", "fox", "jumps", "naïve"]


def image(height: int = 30, width: int = 40, kind: str = "png", seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    return bytes((tf.io.encode_png if kind == "png" else tf.io.encode_jpeg)(pixels).numpy())


def gif() -> bytes:
    return base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")


def classifier(shape: tuple[int, ...] = (24, 32, 3), dtype: str = "float32") -> Any:
    keras.utils.set_random_seed(1)
    pixels = keras.Input(shape, name="pixels", dtype=dtype)
    rest = keras.layers.Rescaling(1 / 255)(pixels) if dtype == "uint8" else pixels
    probs = keras.layers.Dense(5, activation="softmax", name="probs")(keras.layers.Flatten()(rest))
    return keras.Model(pixels, probs)


def sentences() -> Any:
    keras.utils.set_random_seed(2)
    numbers = keras.Input((6,), name="numbers", dtype="int64")
    embedded = keras.layers.Embedding(20, 3)(numbers)
    return keras.Model(numbers, keras.layers.Dense(2, name="logits")(keras.layers.Flatten()(embedded)))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recipes")


@pytest.fixture(scope="module")
def exported(root: Path) -> dict[str, Exported]:
    """Published once; the tests ask them."""
    (root / "labels.txt").write_text("\n".join(LABELS))
    (root / "words.txt").write_text("\n".join(WORDS) + "\n")
    (root / "cat.jpg").write_bytes(image(kind="jpeg"))
    models: dict[str, tuple[Any, list[object], object]] = {
        "photos": (classifier(), [
            recipes.copy_signature("tensors"), recipes.image_bytes("-1..1"),
            recipes.top_k(3, labels=root / "labels.txt"), recipes.keys("id")], None),
        "small": (classifier(dtype="uint8"), ["image-bytes(fit=crop)", "cast-outputs(float64)"],
                  {"image_bytes": [str(root / "cat.jpg"), np.zeros((9, 5, 3), np.uint8), image()]}),
        "flat": (classifier((12,)), ["image-bytes(scale=imagenet, size=2x2)", "rename-inputs(image_bytes=photo)",
                                     "rename-outputs(probs=p)"], [{"photo": image(seed=1)}, {"photo": image(seed=2)}]),
        "words": (sentences(), [recipes.text(root / "words.txt"), recipes.top_k(1, ["no", "yes"], activation="softmax"),
                                recipes.keys("row: int64")], ["The quick, quick FOX!", "jumps"]),
        "rows": (classifier((4,)), [recipes.copy_signature("predict"), recipes.tf_example(signature="predict"),
                                    recipes.classify(LABELS)], {"pixels": np.eye(4, dtype=np.float32)}),
        "prices": (keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(1)]), [recipes.regress()], None),
    }
    return {name: deploy.export_model(model, root / "models", name, recipes=around, examples=examples)
            for name, (model, around, examples) in models.items()}


@pytest.fixture(scope="module")
def running(exported: dict[str, Exported], root: Path) -> Iterator[Process]:
    listed = "\n".join(f'config {{ name: "{name}" base_path: "{root / "models" / name}" model_platform: "tensorflow" }}'
                       for name in exported)
    (root / "models.config").write_text(f"model_config_list {{ {listed} }}")
    with server(root, f"--model_config_file={root / 'models.config'}") as process:
        yield process


def specs(exported: Exported, signature: str = "serving_default") -> tuple[set[str], set[str]]:
    found = exported.contract[signature]
    return {str(spec) for spec in found.inputs}, {str(spec) for spec in found.outputs}


def test_contracts(exported: dict[str, Exported]) -> None:
    assert specs(exported["photos"]) == ({"image_bytes: string[?]", "id: string[?]"}, {
        "classes: string[?, 3]", "scores: float32[?, 3]", "id: string[?]"})
    assert specs(exported["photos"], "tensors") == ({"pixels: float32[?, 24, 32, 3]"}, {"probs: float32[?, 5]"})
    assert specs(exported["small"]) == ({"image_bytes: string[?]"}, {"probs: float64[?, 5]"})
    assert specs(exported["flat"]) == ({"photo: string[?]"}, {"p: float32[?, 5]"})
    assert specs(exported["words"]) == ({"text: string[?]", "row: int64[?]"}, {
        "classes: string[?, 1]", "scores: float32[?, 1]", "row: int64[?]"})
    assert specs(exported["rows"]) == ({"inputs: string[?]"}, {"classes: string[?, 5]", "scores: float32[?, 5]"})
    assert specs(exported["rows"], "predict") == ({"examples: string[?]"}, {"probs: float32[?, 5]"})
    assert exported["prices"].contract["serving_default"].method_name == "tensorflow/serving/regress"
    assert all(each.parity.worst < 1e-6 and each.parity.cases == each.goldens > 0 for each in exported.values())


def test_images_by_row_by_column_and_over_grpc(running: Process) -> None:
    sent = [image(seed=3), image(50, 20, "jpeg", seed=4)]
    encoded = [{"b64": base64.b64encode(each).decode()} for each in sent]
    rows = [{"image_bytes": each, "id": f"n{index}"} for index, each in enumerate(encoded)]
    status, by_row = running.rest("/v1/models/photos:predict", {"instances": rows})
    assert status == 200, by_row
    _, by_column = running.rest("/v1/models/photos:predict", {"inputs": {"image_bytes": encoded, "id": ["n0", "n1"]}})
    assert isinstance(by_row, dict) and isinstance(by_column, dict)
    assert [row["id"] for row in by_row["predictions"]] == by_column["outputs"]["id"] == ["n0", "n1"]
    pixels = np.stack([tf.image.resize(tf.io.decode_image(each), (24, 32)) / 127.5 - 1 for each in sent])
    expected = classifier()(pixels).numpy()
    with deploy.connect(f"127.0.0.1:{running.port}") as client:
        answer = client.predict("photos", {"image_bytes": sent, "id": ["n0", "n1"]})
        raw = client.predict("photos", {"pixels": pixels}, signature="tensors")
    np.testing.assert_allclose(raw["probs"], expected, rtol=1e-5)
    for index, row in enumerate(by_row["predictions"]):
        best = np.argsort(-expected[index])[:3]
        assert row["classes"] == [LABELS[each] for each in best] == [text.decode() for text in answer["classes"][index]]
        np.testing.assert_allclose(row["scores"], expected[index][best], rtol=1e-5)
        np.testing.assert_allclose(answer["scores"][index], expected[index][best], rtol=1e-5)


def test_an_only_input_of_bytes_is_the_row_itself(running: Process) -> None:
    rows = [{"b64": base64.b64encode(image(seed=each)).decode()} for each in range(3)]
    status, said = running.rest("/v1/models/small:predict", {"instances": rows})
    assert status == 200 and isinstance(said, dict) and np.shape(said["predictions"]) == (3, 5)


@pytest.mark.parametrize(("content", "sentence"), [
    (gif(), "expected a JPEG, PNG or BMP image, got a GIF"), (b"no image", "Unknown image file format"),
    (image(kind="jpeg")[:200], ""), (b"", "")], ids=["gif", "text", "cut", "empty"])
def test_bytes_that_are_no_image(running: Process, content: bytes, sentence: str) -> None:
    body = {"instances": [{"image_bytes": {"b64": base64.b64encode(content).decode()}, "id": "a"}]}
    status, said = running.rest("/v1/models/photos:predict", body)
    assert status == 400 and isinstance(said, dict) and sentence in said["error"], said
    with deploy.connect(f"127.0.0.1:{running.port}") as client, pytest.raises(Rejected) as caught:
        client.predict("photos", {"image_bytes": [content], "id": ["a"]})
    assert sentence in caught.value.message
    assert "INVALID_ARGUMENT" in str(caught.value.code), caught.value


def test_texts(running: Process, root: Path) -> None:
    keras_own = keras.layers.TextVectorization(vocabulary=WORDS, output_sequence_length=6)
    given = ["The quick, quick FOX!", "", "naïve jumps over the lazy dog, again and again", "don't"]
    expected = tf.nn.softmax(sentences()(keras_own(tf.constant(given)))).numpy()
    status, said = running.rest("/v1/models/words:predict", {
        "inputs": {"text": given, "row": [9, 8, 7, 6]}})
    assert status == 200 and isinstance(said, dict), said
    np.testing.assert_allclose(np.ravel(said["outputs"]["scores"]), expected.max(1), rtol=1e-5)
    assert said["outputs"]["row"] == [9, 8, 7, 6]
    assert [each[0] for each in said["outputs"]["classes"]] == [("no", "yes")[index] for index in expected.argmax(1)]
    with deploy.connect(f"127.0.0.1:{running.port}") as client:
        answer = client.predict("words", {"text": given, "row": [9, 8, 7, 6]})
    np.testing.assert_allclose(np.ravel(answer["scores"]), expected.max(1), rtol=1e-5)


def test_examples(running: Process) -> None:
    body = {"examples": [{"pixels": [1.0, 0.0, 0.0, 0.0]}, {"pixels": [0.0, 0.0, 2.0, 0.0]}]}
    status, said = running.rest("/v1/models/rows:classify", body)
    assert status == 200 and isinstance(said, dict)
    expected = classifier((4,))(np.array([[1, 0, 0, 0], [0, 0, 2, 0]], np.float32)).numpy()
    assert [label for label, _ in said["results"][0]] == LABELS
    np.testing.assert_allclose([score for _, score in said["results"][1]], expected[1], rtol=1e-5)
    with deploy.connect(f"127.0.0.1:{running.port}") as client:
        answer = client.classify("rows", body["examples"])
        assert [len(each) for each in answer] == [5, 5]
        assert len(client.regress("prices", [{"x": [1.0, 2.0, 3.0, 4.0]}])) == 1


def test_smoke(running: Process, exported: dict[str, Exported], root: Path) -> None:
    served = [ServedModel(name, str(root / "models" / name), All()) for name in exported]
    for endpoint in (f"127.0.0.1:{running.port}", f"http://127.0.0.1:{running.rest_port}"):
        report = smoke.smoke_test(endpoint, served, deploy.Repository(root / "models"))
        assert report.ok, report.failed


def test_the_manifest_inspect_and_its_calls(running: Process, exported: dict[str, Exported], root: Path,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    manifest = deploy.Repository(root / "models").verify(exported["photos"].model_version)
    assert [record.name for record in manifest.recipes] == ["copy-signature", "image-bytes", "top-k", "keys"]
    shown = "top-k(k=3, labels=labels.txt)"
    assert str(manifest.recipes[2]) == shown
    assert (exported["photos"].path / "assets" / "labels.txt").read_text().split() == LABELS
    addresses = ServerAddress(f"127.0.0.1:{running.port}", f"http://127.0.0.1:{running.rest_port}")
    for name, each in exported.items():
        found = inspect(each.path, each.model_version, server=addresses)
        for signature, calls in found.calls.items():
            said = subprocess.run(["bash", "-c", calls.curl], capture_output=True, text=True, check=True).stdout
            assert json.loads(said).keys() & {"predictions", "outputs", "results"}, (name, signature, calls.curl, said)
        program = "\n".join(calls.python for calls in found.calls.values())
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    assert run(["inspect", "photos", "--repository", str(root / "models"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["manifest"]["recipes"]
    assert told[2]["parameters"] == {"k": 3, "labels": "labels.txt"} and told[2]["digests"]["labels"][:7] == "sha256:"
    assert shown.replace("[", "\\[") in to_markdown(
        inspect(exported["photos"].path, exported["photos"].model_version, server=addresses))
    assert run(["inspect", "photos", "--repository", str(root / "models")]) == 0
    assert "image-bytes(scale=-1..1" in capsys.readouterr().out


def test_diff_says_that_recipes_differ(exported: dict[str, Exported], tmp_path: Path) -> None:
    again = deploy.export_model(classifier(), tmp_path, "photos", recipes=[
        recipes.copy_signature("tensors"), recipes.image_bytes("0..1"), recipes.top_k(3, labels=LABELS[::-1]),
        recipes.keys("id")])
    compared = compare(ComparedVersion.of(exported["photos"].path), ComparedVersion.of(again.path), answers=False)
    assert "recipe-changed" in {reason.rule for reason in compared.verdict.reasons}


def test_a_saved_model_is_wrapped(exported: dict[str, Exported], tmp_path: Path) -> None:
    """Also one that has recipes already: its tables and assets come along."""
    tf.saved_model.save(tf.Module(), str(tmp_path / "empty"))
    wrapped = deploy.export_model(exported["words"].path, tmp_path / "models", "again",
                                  recipes=["rename-outputs(classes=label)", "copy-signature(other)"])
    assert specs(wrapped)[1] == {"label: string[?, 1]", "scores: float32[?, 1]", "row: int64[?]"}
    assert set(wrapped.contract) == {"serving_default", "other"}
    assert wrapped.parity.worst < 1e-6
    assert {path.name for path in (wrapped.path / "assets").iterdir()} == {"words.txt", "labels.txt"}
    twice = deploy.export_model(exported["small"].path, tmp_path / "models", "twice", recipes=["top-k(2)"])
    assert specs(twice) == ({"image_bytes: string[?]"}, {"classes: string[?, 2]", "scores: float32[?, 2]"})


def test_functions_modules_and_layers(tmp_path: Path) -> None:
    vectorizer = keras.layers.TextVectorization(output_sequence_length=4)
    vectorizer.adapt(["a b c", "b c", "c"])

    class Module(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.weight = tf.Variable(2.0)

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.int64, name="numbers")])
        def serve(self, numbers: Any) -> Any:
            return {"y": tf.cast(numbers, tf.float32) * self.weight}

    module = deploy.export_model(Module(), tmp_path, "module", recipes=[recipes.text(vectorizer)],
                                 examples=["c b unknown"])
    assert specs(module) == ({"text: string[?]"}, {"y: float32[?, 4]"})
    assert deploy.Repository(tmp_path).verify(module.model_version).recipes[0].parameters["vocabulary"] == \
        "TextVectorization"
    one = deploy.export_model(lambda colour: {"y": colour * 2}, tmp_path, "lookup", inputs="colour: int32[?]",
                              recipes=["text([red, green], split=none, standardize=lower)"], examples=["RED", "blue"])
    assert goldens_of(one)["y"].tolist() == [2, 0]
    planar = deploy.export_model(lambda x: {"y": tf.reduce_mean(x, [2, 3])}, tmp_path, "planar",
                                 inputs="x: float16[?, 3, 8, 8]",
                                 recipes=["image-bytes(caffe, fit=pad, antialias=yes)"])
    assert specs(planar) == ({"image_bytes: string[?]"}, {"y: float16[?, 3]"})
    with pytest.raises(ExportError, match="has an empty vocabulary"):
        recipes.text(keras.layers.StringLookup())
    with pytest.raises(ExportError, match="the Dense has no vocabulary"):
        recipes.text(keras.layers.Dense(1))


def goldens_of(exported: Exported) -> Any:
    return goldens.read(exported.path)[0].outputs


REFUSED: list[tuple[list[object], str]] = [
    (["top-k(9)"], "k is 9, and the output 'probs' has 5 scores"),
    ([recipes.top_k(1, ["a", "b"])], "labels.txt has 2 labels, and the output 'probs' has 5 scores"),
    (["top-k(1, output=x)"], "has no output 'x'"),
    (["keys(probs)"], "there is an output 'probs' already"),
    (["rename-outputs(x=y)"], "there is no output 'x'"),
    (["cast-outputs(x=float32)"], "there is no output 'x'"),
    (["cast-outputs(probs=string)"], "can't be cast from float32 to string"),
    (["top-k(1)", "top-k(1)"], "has 2 outputs"),
    (["top-k(1)", "top-k(1, output=classes)"], "is string[?, 1], not scores"),
    (["top-k(2, classes=x)", "rename-outputs(x=scores)"], "two outputs would be called 'scores'"),
    (["keys(id)", "classify"], "classify signature 'serving_default' returns"),
    (["text([a])"], "doesn't fit split"),
]


@pytest.mark.parametrize(("around", "sentence"), REFUSED)
def test_refused_while_tracing(around: list[object], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        deploy.export_model(Exportable(classifier(), recipes=around), tmp_path, "x")
    assert sentence in caught.value.message, caught.value
    assert not list(tmp_path.glob("x/[0-9]*"))


def test_top_k_of_a_vector(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"the output 'y' is float32\[\?\], not scores"):
        deploy.export_model(lambda x: {"y": x}, tmp_path, "x", inputs="x: float32[?]", recipes=["top-k(1)"])


def test_tflite_takes_the_raw_signature(tmp_path: Path) -> None:
    around: list[object] = ["image-bytes(scale=0..1)", "top-k(2)"]
    with pytest.raises(ExportError) as caught:
        deploy.export_model(classifier(), tmp_path, "x", recipes=around, tflite="none")
    assert "TFLite can't have the signature 'serving_default': it decodes images" in caught.value.message
    done = deploy.export_model(classifier(), tmp_path, "x", recipes=["copy-signature(raw)", *around], tflite="none")
    assert done.tflite is not None and done.tflite.served == ("raw",)
    assert any("doesn't have the signature 'serving_default'" in note for note in done.notes)
    info = savedmodel.read(done.path)  # which has no golden cases of it, so requests are made up
    generated = goldens.examples.generate(info.contract["serving_default"], 2, features=info.features)
    with engine.load(done.path) as session:
        assert session.call(session.contract["serving_default"], generated)["classes"].shape == (2, 2)


def test_images_are_found_in_graphs_of_others(tmp_path: Path) -> None:
    """A model that decodes by itself gets images, too, whichever way it loops."""

    def decoded(content: Any) -> Any:
        return tf.image.resize(tf.io.decode_jpeg(content, 3), (4, 4))

    done = deploy.export_model({}, tmp_path, "own", signatures={
        "serving_default": Predict(lambda photo: {"y": tf.map_fn(decoded, photo, fn_output_signature=tf.float32)},
                                   "photo: string[?]"),
        "one": Predict(lambda photo: {"y": decoded(tf.reshape(photo, []))[None]}, "photo: string[1]"),
        "text": Predict(lambda photo: {"y": tf.strings.length(photo)}, "photo: string[?]")})
    assert done.goldens == 5
    recorded = {golden.signature: golden.inputs["photo"][0][:4] for golden in goldens.read(done.path)}
    assert recorded["serving_default"] == recorded["one"] == b"\x89PNG" != recorded["text"]


def test_the_command_line(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                          monkeypatch: pytest.MonkeyPatch, exported: dict[str, Exported]) -> None:
    monkeypatch.chdir(root)
    classifier().save(tmp_path / "cats.keras")
    assert run(["export", str(tmp_path / "cats.keras"), "-r", str(tmp_path), "--recipe", "image-bytes(scale=-1..1)",
                "--recipe", "top-k(2, labels=labels.txt)", "--recipe", "keys(id)", "--examples", "cat.jpg"]) == 0
    assert "classes: string[?, 2]" in capsys.readouterr().out
    assert run(["export", str(tmp_path / "cats.keras"), "-r", str(tmp_path), "--recipe", "image-bytes(0..2)"]) == 3
    assert "recipe image-bytes: scale is '0..2'" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "cats")

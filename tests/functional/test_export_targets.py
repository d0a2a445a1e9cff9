"""What a command line names, and what is said when it names nothing."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from deploy.cli.outcome import run
from deploy.errors import ExportError, SpecError
from deploy.export import Exportable, targets
from deploy.export.sources import foreign, keras_files, saved_models
from deploy.export.targets import ModelFile, PythonObject


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved = tmp_path / "digits" / "3"
    saved.mkdir(parents=True)
    (saved / "saved_model.pb").touch()
    with zipfile.ZipFile(tmp_path / "model.keras", "w"):
        pass
    (tmp_path / "notes.txt").touch()
    (tmp_path / "code.py").touch()


@pytest.mark.parametrize(("text", "expected", "name"), [
    ("pkg.module:build", PythonObject("pkg.module", "build"), "module"),
    ("pkg.module:Models.digits", PythonObject("pkg.module", "Models.digits"), "digits"),
    ("code.py:build", PythonObject("code.py", "build"), "code"),
    ("some/where.py:ranking", PythonObject("some/where.py", "ranking"), "ranking"),
    ("model.keras", ModelFile(Path("model.keras"), keras_files.SOURCE), "model"),
    ("digits/3", ModelFile(Path("digits/3"), saved_models.SOURCE), "digits"),
])
def test_targets(text: str, expected: object, name: str) -> None:
    assert targets.parse(text) == expected
    assert targets.default_name(text) == name


@pytest.mark.parametrize(("text", "words"), [
    ("digits", "it is a model's directory with versions 3: name one, digits/3"), ("missing.h5", "there is no file"),
    ("code.py", "code.py:build"), ("notes.txt", "can't be exported by itself"), ("nonsense", "module:attribute"),
    ("module:", "module:attribute"), (":build", "module:attribute"), (".", "without a saved_model.pb"),
])
def test_targets_that_name_nothing(text: str, words: str) -> None:
    with pytest.raises(ExportError) as caught:
        targets.parse(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(("name", "content", "words"), [
    ("m.onnx", b"\x08\x09", "is an ONNX model; convert it: `onnx2tf -i m.onnx -o saved_model`"),
    ("params.msgpack", b"\x81", "is a file of Flax: parameters without a function; load them in a function, and return "
                                "deploy.from_jax(function, params, inputs)"),
    ("m.pt", b"PK\x03\x04", "is a PyTorch file; convert it: `litert_torch.convert"),
    ("m.pth", b"\x80\x02", "is a PyTorch file"),
    ("pytorch_model.bin", b"PK\x03\x04", "is a PyTorch file"),
    ("m.safetensors", b"", "is a file of weights without a model; load it where its model's code is"),
    ("m.pkl", b"\x80\x04", "is a pickle, which is code that loading would run"),
    ("m.joblib", b"\x80\x04", "is a pickle"),
    ("m.keras", b"\x80\x04.", "is a pickle"),
    ("m.keras", b"PK\x03\x04 and no end", "is cut off: it begins as a zip file"),
    ("m.keras", b"hello", "is neither a zip file nor HDF5"),
    ("m.weights.h5", b"\x89HDF", "weights without a model; write a function that builds the model and loads them"),
    ("ckpt-1.index", b"", "part of a TensorFlow checkpoint"),
    ("ckpt-1.data-00000-of-00001", b"", "a TensorFlow checkpoint: weights without a model"),
    ("m.npz", b"PK\x03\x04", "arrays without a model"),
    ("m.task", b"PK\x03\x04", "take the .tflite out of it"),
    ("config.json", b"{}", "model_from_json"),
    ("m.h5", b"\x80\x04.", "is a pickle"),
    ("m.h5", b"hello", "is neither a zip file nor HDF5"),
    ("m.keras", b"", "is empty"),
    ("m.h5", b"", "is empty"),
    ("m.sav", b"\x80\x04.", "is a pickle"),
    ("model", b"\x80\x04.", "is a pickle"),
    ("model", b"\x89HDF\r\n\x1a\n", "an HDF5 file by another name; if Keras wrote it, give it a name that ends in .h5"),
    ("model", b"\x1c\0\0\0TFL3", "a name that ends in .tflite"),
    ("saved.tar.gz", b"\x1f\x8b", "is an archive; unpack it, and name the model in it"),
    ("saved.tar", b"", "is an archive"),
    ("notebook.ipynb", b"{}", "jupyter nbconvert --to script notebook.ipynb"),
    ("checkpoint", b"model_checkpoint_path: 'x'", "part of a TensorFlow checkpoint"),
    ("digits/3/saved_model.pb", b"", "is a SavedModel's graph; name its directory, digits/3"),
])
def test_files_of_other_tools(name: str, content: bytes, words: str) -> None:
    Path(name).write_bytes(content)
    refused(name, words)


@pytest.mark.parametrize(("name", "member", "words"), [
    ("m.keras", "archive/data.pkl", "is a PyTorch file"), ("m.tar", "archive/data.pkl", "is a PyTorch file"),
    ("m.zip", "saved/saved_model.pb", "is an archive; unpack it"), ("model", "a.txt", "is an archive; unpack it"),
    ("m.keras", "a.txt", "is a zip file without config.json, which Keras writes into each .keras file"),
    ("model", "config.json", "is a Keras file by another name; give it a name that ends in .keras"),
])
def test_zip_files_of_other_tools(name: str, member: str, words: str) -> None:
    with zipfile.ZipFile(name, "w") as archive:
        archive.writestr(member, b"")
    refused(name, words)


@pytest.mark.parametrize(("files", "words"), [
    ("web/model.json web/group1-shard1of1.bin", "is a model of TensorFlow.js; go back to the model that it was"),
    ("exported/model.onnx", "is a directory with one model's file; name that file: exported/model.onnx"),
    ("run/checkpoint run/model.ckpt-1.index run/export/best/17/saved_model.pb",
     "the model is further in: name run/export/best/17"),
    ("pipeline/Pusher/model/5/saved_model.pb pipeline/Trainer/model/5/Format-Serving/saved_model.pb",
     "further in: name pipeline/Pusher/model/5"),
    ("bert/config.json bert/tf_model.h5 bert/saved_model/1/saved_model.pb", "name a version, bert/saved_model/1"),
    ("one/saved_model.pb one/variables/variables.index", ""),
])
def test_directories_with_models_further_in(files: str, words: str) -> None:
    names = files.split()
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    top = names[0].partition("/")[0]
    if words:
        refused(top, words)
    else:
        refused(f"{top}/variables", f"{top} is the model's directory: name that one")


@pytest.mark.parametrize(("name", "content"), [
    ("m.tflite", b"\x1c\0\0\0TFL3"), ("M.TFLITE", b"\x1c\0\0\0TFL3"), ("graph.pb", b"\x80\x02"),
    ("m.keras", b"PK\5\6" + bytes(18)), ("m.h5", b"\x89HDF\r\n\x1a\n"),
])
def test_what_is_named_rightly_is_not_refused(name: str, content: bytes) -> None:
    Path(name).write_bytes(content)
    foreign.check(Path(name))


def test_nothing_is_no_target() -> None:
    refused("", "the target is empty")


def test_the_prefix_of_a_checkpoint_and_directories_of_other_tools() -> None:
    for name in ("ckpt/model-1.index", "ckpt/model-1.data-00000-of-00001", "ckpt/checkpoint", "bert/config.json",
                 "bert/model.safetensors", "logged/MLmodel", "unpacked/config.json", "unpacked/metadata.json",
                 "pusher/1700000000/saved_model.pb", "steps/manifest.ocdbt", "orbax/orchestration.pb"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    refused("ckpt/model-1", "is a TensorFlow checkpoint")
    refused("ckpt", "is a directory of TensorFlow checkpoints")
    refused("bert", "is a model of Hugging Face: weights and a description, without a graph; load it in a function "
                    "(from_pretrained('bert'))")
    refused("logged", "in its directory `data`")
    refused("unpacked", "a .keras file that was unpacked")
    refused("steps", "a checkpoint of Orbax: parameters without a function")
    refused("orbax", "an Orbax model, which TensorFlow Serving doesn't load")
    refused("pusher", "it is a model's directory with versions 1700000000: name one, pusher/1700000000")


def refused(name: str, words: str) -> None:
    with pytest.raises(ExportError) as caught:
        targets.load_target(name)
    assert words in str(caught.value)


@pytest.mark.parametrize(("described", "words"), [
    ("nothing", "isn't module:name"), ("no_such_module_here:Layer", "there is no module 'no_such_module_here'"),
    ("json:Layer", "json has no attribute 'Layer'"), ("json:dumpz", "did you mean dump or dumps"),
    ("missing.py:Layer", "there is no file missing.py"),
])
def test_custom_objects_that_are_not_there(described: str, words: str) -> None:
    with pytest.raises(ExportError) as caught:
        targets.load_custom_objects([described])
    assert words in str(caught.value)


def test_custom_objects_come_from_modules_and_files() -> None:
    Path("layers_of_mine.py").write_text("class Scale: pass\n")
    found = targets.load_custom_objects(["layers_of_mine.py:Scale", "json:dumps"])
    assert sorted(found) == ["Scale", "dumps"]
    assert targets.load_custom_objects({"a": 1}) == {"a": 1}
    assert targets.load_custom_objects(None) == {}


def test_a_module_that_fails_tells_where() -> None:
    Path("failing_module.py").write_text("import json\nimport not_installed_anywhere\n")
    for target in ("failing_module:Layer", "failing_module.py:Layer"):
        with pytest.raises(ExportError, match="No module named 'not_installed_anywhere'") as caught:
            targets.load_custom_objects([target])
        assert "import not_installed_anywhere" in str(caught.value.details["traceback"])

        assert "failing_module.py, line 2)" in caught.value.message


def test_the_users_traceback_is_shown_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    Path("failing_module.py").write_text("import json\n\n\ndef build():\n    return json.loads('{')\n")
    assert run(["export", "failing_module.py:build"]) == ExportError.exit_code
    said = capsys.readouterr().err
    assert "Traceback" not in said and [line[:4] for line in said.splitlines()] == ["expo", "tfs:"]
    assert "failing_module.py, line 5)" in said and "--verbose" in said
    assert run(["export", "failing_module.py:build", "--verbose"]) == ExportError.exit_code
    assert "return json.loads" in capsys.readouterr().err


def test_what_the_users_code_prints_is_no_part_of_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    Path("talking.py").write_text("print('epoch 1')\n\n\ndef build():\n    print('built')\n")
    assert run(["export", "talking.py:build", "--json"]) == ExportError.exit_code
    out, err = capsys.readouterr()
    assert "returned None" in json.loads(out)["message"]
    assert "epoch 1" in err and "built" in err


@pytest.mark.parametrize("option", ["--tflite-out", "--tflite-plot"])
def test_places_to_write_to_are_looked_at_first(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("talking.py").write_text("print('epoch 1')\n")
    assert run(["export", "talking.py:build", "--tflite", "none", option, "nowhere/it"]) == SpecError.exit_code
    out, err = capsys.readouterr()
    assert "there is no directory nowhere" in err and "epoch" not in out


@pytest.mark.parametrize(("line", "words"), [
    ("rows = np.zeros(3)", "add `import numpy as np`"),
    ("print(export_path)", "give 'export_path' a value above that line"),
])
def test_names_that_a_snippet_lacks(line: str, words: str) -> None:
    Path("snippet.py").write_text(f"import json\n{line}\n")
    with pytest.raises(ExportError, match="NameError") as caught:
        targets.load_target("snippet.py:model")
    assert words in str(caught.value.hint) and "(snippet.py, line 2)" in caught.value.message


def test_builders() -> None:
    model = Exportable(object())
    assert targets.built(model, "it") is model
    assert targets.built(lambda: model, "it") is model
    assert targets.built(lambda size=3: model, "it") is model

    def function(x: object) -> object:
        return x

    assert targets.built(function, "it") is function
    assert targets.built(lambda: function, "it") is function


@pytest.mark.parametrize(("value", "words"), [
    (3, "it is a int, neither a model nor a function"), (lambda: None, "it returned None"),
    (lambda: 3, "it returned a int"), (PythonObject, "constructor needs arguments"),
    (lambda: 1 / 0, "ZeroDivisionError"),
])
def test_things_that_build_nothing(value: object, words: str) -> None:
    with pytest.raises(ExportError) as caught:
        targets.built(value, "it")
    assert words in str(caught.value)


def test_exiting_is_no_way_to_build() -> None:
    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(ExportError, match="SystemExit: 3"):
        targets.built(leave, "it")


@pytest.mark.parametrize(("text", "said"), [
    (r"models\m.py:build", "write models/m.py:build"), (r"models\m.keras", "write models/m.keras"),
    (r"C:\models\m.py:build", "on this machine"), (r"C:\saved", "on this machine"),
    (r"out\saved\1", "write out/saved/1")])
def test_paths_of_windows(text: str, said: str) -> None:
    with pytest.raises(ExportError, match="paths have / here") as caught:
        targets.parse(text)
    assert said in str(caught.value)


def test_scripts_written_on_windows(tmp_path: Path) -> None:
    script = tmp_path / "m.py"
    script.write_bytes("def build():\r\n    return 'model.keras'\r\n".encode("utf-8-sig"))
    assert targets.load_target(f"{script}:build") == "model.keras"

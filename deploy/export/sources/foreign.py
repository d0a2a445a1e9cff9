"""Models in files of other tools, and weights without a model: nothing that can be loaded, but a way leads here."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Set
from itertools import islice
from pathlib import Path

from deploy import files
from deploy.checks.keras_archives import SUFFIXES
from deploy.errors import ExportError
from deploy.savedmodel import placement
from deploy.savedmodel.reader import GRAPH
from deploy.savedmodel.tflite import FILE

_REBUILD = "write a function that builds the model and loads them ({}), and export that: tfs export script.py:build"
_CHECKPOINT = _REBUILD.format("model.load_weights or tf.train.Checkpoint(model=model).restore")
_TORCH = "convert it: `litert_torch.convert(model, example_inputs).export('model.tflite')` (package litert-torch) " \
    "gives a .tflite, which `tfs export` takes; or torch.onnx.export, then onnx2tf, gives a SavedModel"
_JAX = "load them in a function, and return deploy.from_jax(function, params, inputs): tfs export script.py:build"
_BY_SUFFIX = {  # suffix -> what it is, what to do
    ".onnx": ("an ONNX model", "convert it: `onnx2tf -i {0} -o saved_model`, then `tfs export saved_model`"),
    **dict.fromkeys((".pt", ".pth", ".pt2", ".torchscript"), ("a PyTorch file", _TORCH)),
    ".safetensors": ("a file of weights without a model",
                     "load it where its model's code is (transformers: from_pretrained), and export that model object, "
                     "or, from PyTorch, " + _TORCH),
    **dict.fromkeys((".pkl", ".pickle", ".joblib", ".dill"), (
        "a pickle, which is code that loading would run",
        "load it where you trust it, and export the object from a script: tfs export script.py:build")),
    **dict.fromkeys((".index", ".ckpt", ".meta"), ("part of a TensorFlow checkpoint: weights without a model",
                                                   _CHECKPOINT)),
    **dict.fromkeys((".npz", ".npy"), ("a file of arrays without a model", _REBUILD.format("model.set_weights"))),
    **dict.fromkeys((".gguf", ".mlmodel", ".mlpackage", ".engine", ".plan", ".mar", ".xml", ".pdparams"), (
        "a model for another runtime", "go back to the model that it was converted from, and export that")),
    **dict.fromkeys((".task", ".litertlm"), ("a bundle of LiteRT with more than a model in it",
                                             "take the .tflite out of it: it is a zip file")),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst"), (
        "an archive", "unpack it, and name the model in it")),
    ".msgpack": ("a file of Flax: parameters without a function", _JAX),
    ".ipynb": ("a notebook", "make a script of it, jupyter nbconvert --to script {0}, and name the model in that"),
    ".json": ("a text that can hold a model's layers, but no weights", _REBUILD.format("keras.models.model_from_json")),
}
_TOLD = (".py", ".txt", ".md", ".yaml", ".yml", ".pb", ".pbtxt", ".tflite")  # what these are needs no look at them
_SINGLE = (".onnx", ".pt", ".pth", ".tflite", ".pb")
_AGAIN = "copy it again from where it was saved, or save it again with model.save('name.keras')"
_ZIP, _PICKLE, _HDF5, _GZIP = b"PK\x03\x04", b"\x80", b"\x89HDF", b"\x1f\x8b"
_TFLITE = b"TFL3"  # from its fifth byte on
_MOST = 10_000  # entries of a directory that are looked at
_KERAS_WEIGHTS = ".weights.h5"
_HEAD = 16  # bytes that tell a file's kind


def check(path: Path) -> None:
    """Raises ExportError for a path that is recognised as something which can't be exported."""
    what, advice = _directory(path) if path.is_dir() else _file(path)
    if what:
        raise ExportError(f"{path} is {what}", hint=advice.replace("{0}", str(path)), id="not-exportable")


def _file(path: Path) -> tuple[str, str]:
    by_name = _weights(path)
    if by_name[0] or not path.is_file():
        return by_name
    suffix = path.suffix.lower()
    if path.name == GRAPH:
        return "a SavedModel's graph", f"name its directory, {path.parent}"
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[".pt" if suffix in (".zip", ".tar") and _is_torch(path) else suffix]
    return _by_content(path) if suffix not in _TOLD else ("", "")


def _weights(path: Path) -> tuple[str, str]:
    """Weights without a model, by their names; a checkpoint's is the prefix of its files."""
    name = path.name.lower()
    if name.endswith(_KERAS_WEIGHTS):
        return "a file of weights without a model", _REBUILD.format(f"model.load_weights('{path}')")
    if ".data-0" in name or path.with_name(f"{path.name}.index").is_file():
        return "a TensorFlow checkpoint: weights without a model", _CHECKPOINT
    return _BY_SUFFIX[".index"] if name == "checkpoint" and path.is_file() else ("", "")


def _by_content(path: Path) -> tuple[str, str]:
    """What a suffix that several tools use, or none, doesn't tell."""
    with files.open_regular(path) as file:
        head = file.read(_HEAD)
    if head.startswith(_PICKLE):
        return _BY_SUFFIX[".pkl"]
    if head.startswith(_ZIP) and (path.suffix.lower() == ".bin" or _is_torch(path)):
        return _BY_SUFFIX[".pt"]
    return _of_keras(path, head) if path.suffix.lower() in SUFFIXES else _misnamed(path, head)


def _of_keras(path: Path, head: bytes) -> tuple[str, str]:
    """What is wrong with a file that is named as Keras's are."""
    if not head:
        return "empty", _AGAIN
    if head.startswith(_HDF5) or zipfile.is_zipfile(path):
        return "", ""
    if head.startswith(_ZIP):
        return "cut off: it begins as a zip file and doesn't end as one", _AGAIN
    return "no file that Keras wrote: it is neither a zip file nor HDF5", _AGAIN


def _misnamed(path: Path, head: bytes) -> tuple[str, str]:
    """A file whose name doesn't tell what is in it."""
    if head.startswith(_HDF5):
        return "an HDF5 file by another name", "if Keras wrote it, give it a name that ends in .h5"
    if head[4:8] == _TFLITE:
        return "a TFLite model by another name", "give it a name that ends in .tflite"
    if head.startswith(_ZIP):
        keras = "config.json" in _members(path)
        return ("a Keras file by another name", "give it a name that ends in .keras") if keras else _BY_SUFFIX[".zip"]
    return _BY_SUFFIX[".gz"] if head.startswith(_GZIP) else ("", "")


def _members(path: Path) -> list[str]:
    try:
        with files.open_regular(path) as file, zipfile.ZipFile(file) as archive:
            return archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return []


def _is_torch(path: Path) -> bool:
    """Whether it is a zip file as torch.save writes it."""
    return any(name.endswith("data.pkl") for name in _members(path))


def _directory(path: Path) -> tuple[str, str]:
    try:
        with os.scandir(path) as entries:
            names = {entry.name for entry in islice(entries, _MOST)}
    except OSError:
        return "", ""
    if {GRAPH, FILE} & names or placement.not_a_version(path):
        return "", ""  # the latter says more: which directory to name instead
    single = [name for name in names if Path(name).suffix.lower() in (*SUFFIXES, *_SINGLE)]
    by_names = next((words for recognises, words in _DIRECTORIES if recognises(names)), ("", ""))
    if len(single) == 1 and not by_names[0]:
        return "a directory with one model's file", f"name that file: {path / single[0]}"
    return by_names


def _is_hugging_face(names: Set[str]) -> bool:
    return "config.json" in names and any(name.endswith((".safetensors", ".h5", ".bin", ".msgpack")) for name in names)


def _is_checkpoints(names: Set[str]) -> bool:
    return "checkpoint" in names or any(name.endswith(".index") for name in names)


_DIRECTORIES: tuple[tuple[Callable[[Set[str]], bool], tuple[str, str]], ...] = (  # by the names in it
    (_is_hugging_face, (
        "a model of Hugging Face: weights and a description, without a graph",
        "load it in a function (from_pretrained('{0}')) and export what that returns: tfs export script.py:build")),
    ({"manifest.ocdbt"}.issubset, ("a checkpoint of Orbax: parameters without a function", _JAX)),
    ({"orchestration.pb"}.issubset, (
        "an Orbax model, which TensorFlow Serving doesn't load",
        "save it with export_version=ExportModelType.TF_SAVEDMODEL, and export that directory")),
    (_is_checkpoints, ("a directory of TensorFlow checkpoints: weights without a model", _CHECKPOINT)),
    ({"metadata.json", "config.json"}.issubset, (
        "a .keras file that was unpacked", "pack it again: cd {0} && zip -r ../model.keras .")),
    ({"MLmodel"}.issubset, ("a model of MLflow", "give the SavedModel or the Keras file in its directory `data`")),
    ({"model.json"}.issubset, (
        "a model of TensorFlow.js", "go back to the model that it was converted from, and export that")),
)

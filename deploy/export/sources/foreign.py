"""Models in files of other tools, and weights without a model: nothing that can be loaded, but a way leads here."""

from __future__ import annotations

import os
import zipfile
from itertools import islice
from pathlib import Path

from deploy import files
from deploy.errors import ExportError

_REBUILD = "write a function that builds the model and loads them ({}), and export that: tfs export script.py:build"
_CHECKPOINT = _REBUILD.format("model.load_weights or tf.train.Checkpoint(model=model).restore")
_TORCH = "convert it: `litert_torch.convert(model, example_inputs).export('model.tflite')` (package litert-torch) " \
    "gives a .tflite, which `tfs export` takes; or torch.onnx.export, then onnx2tf, gives a SavedModel"
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
    ".json": ("a text that can hold a model's layers, but no weights", _REBUILD.format("keras.models.model_from_json")),
}
_ZIP, _PICKLE, _HDF5 = b"PK\x03\x04", b"\x80", b"\x89HDF"
_MOST = 10_000  # entries of a directory that are looked at
_KERAS_WEIGHTS = ".weights.h5"
_HEAD = 16  # bytes that tell a file's kind


def check(path: Path) -> None:
    """Raises ExportError for a path that is recognised as something which can't be exported."""
    what, advice = _directory(path) if path.is_dir() else _file(path)
    if what:
        raise ExportError(f"{path} is {what}", hint=advice.format(path))


def _file(path: Path) -> tuple[str, str]:
    name = path.name.lower()
    if name.endswith(_KERAS_WEIGHTS):
        return "a file of weights without a model", _REBUILD.format(f"model.load_weights('{path}')")
    if ".data-0" in name or path.with_name(f"{path.name}.index").is_file():
        return "a TensorFlow checkpoint: weights without a model", _CHECKPOINT
    if path.suffix.lower() in _BY_SUFFIX and path.is_file():
        return _BY_SUFFIX[path.suffix.lower()]
    return _by_content(path) if path.suffix in (".keras", ".bin") and path.is_file() else ("", "")


def _by_content(path: Path) -> tuple[str, str]:
    """What a suffix that several tools use doesn't tell."""
    with files.open_regular(path) as file:
        head = file.read(_HEAD)
    if path.suffix == ".bin":
        return ("a PyTorch file", _TORCH) if head.startswith(_ZIP) else ("", "")
    if head.startswith(_PICKLE):
        return _BY_SUFFIX[".pkl"]
    if zipfile.is_zipfile(path) or head.startswith(_HDF5):
        return "", ""
    what = "cut off: it begins as a zip file and doesn't end as one" if head.startswith(_ZIP) else \
        "no file that Keras wrote: it is neither a zip file nor HDF5"
    return what, "copy it again from where it was saved, or save it again with model.save('name.keras')"


def _directory(path: Path) -> tuple[str, str]:
    try:
        with os.scandir(path) as entries:
            names = {entry.name for entry in islice(entries, _MOST)}
    except OSError:
        return "", ""
    if "saved_model.pb" in names:
        return "", ""
    if "config.json" in names and any(name.endswith((".safetensors", ".h5", ".bin", ".msgpack")) for name in names):
        return "a model of Hugging Face: weights and a description, without a graph", \
            "load it in a function (from_pretrained('{0}')) and export what that returns: tfs export script.py:build"
    if any(name.endswith(".index") for name in names) or "checkpoint" in names:
        return "a directory of TensorFlow checkpoints: weights without a model", _CHECKPOINT
    if "metadata.json" in names and "config.json" in names:
        return "a .keras file that was unpacked", "pack it again: cd {0} && zip -r ../model.keras ."
    mlflow = "a model of MLflow", "give the SavedModel or the Keras file in its directory `data`"
    return mlflow if "MLmodel" in names else ("", "")

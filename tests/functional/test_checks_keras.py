"""Keras files: what their author may name, what nobody may, and what is left of a damaged one."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from deploy import checks
from deploy.errors import ExportError

PLAIN = {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": []}}


def archive(path: Path, config: object = PLAIN, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        for name, content in members.items():
            made.writestr(name, content)
    return path


def layer(**node: object) -> dict[str, object]:
    return {"module": "keras", "class_name": "Sequential", "config": {"layers": [node]}}


def rules(path: Path) -> set[str]:
    return {finding.rule for finding in checks.check(path).findings}


@pytest.mark.parametrize("node", [
    {"module": "numpy", "class_name": "load", "config": {"file": "x"}, "registered_name": None},
    {"module": "numpy", "class_name": "load", "config": {"file": "x"}, "registered_name": "mine>load"},
    {"module": "numpy.testing", "class_name": "function", "config": "runstring", "registered_name": "function"},
    {"module": "setuptools.archive_util", "class_name": "function", "config": "unpack_archive"},
    {"module": "some_package", "class_name": "Runner", "config": {}},
    {"module": "keras.config", "class_name": "function", "config": "enable_unsafe_deserialization"},
    {"module": "keras.config", "class_name": "enable_unsafe_deserialization", "config": {}},
    {"module": "keras.utils", "class_name": "function", "config": "get_file"},
    {"module": "keras.utils", "class_name": "get_file", "config": {"origin": "http://x"}},
    {"module": "keras.src.utils.file_utils.os", "class_name": "function", "config": "system"},
    {"module": "keras.src.utils.file_utils", "class_name": "os.system", "config": {}},
    {"module": "keras.src.layers.core.subprocess", "class_name": "Popen", "config": {}},
    {"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {"module": "gAR="}},
    {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/x"}},
    {"class_name": "TFSMLayer", "config": {"filepath": "/x"}},
    {"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}},
    {"module": "keras.models", "class_name": "function", "config": "load_model"},
    {"module": "keras.saving", "class_name": "function", "config": "load_model"},
    {"module": "builtins", "class_name": "function", "config": "os.system"},
])
def test_gadgets_are_refused(tmp_path: Path, node: dict[str, object]) -> None:
    assert rules(archive(tmp_path / "m.keras", layer(**node))) == {"keras-code"}


@pytest.mark.parametrize("node", [
    {"module": "keras.layers", "class_name": "Dense", "config": {"activation": "relu"}, "registered_name": None},
    {"module": "keras.src.ops.numpy", "class_name": "Add", "config": {"name": "add"}, "registered_name": "Add"},
    {"module": "keras.activations", "class_name": "function", "config": "relu"},
    {"module": "builtins", "class_name": "function", "config": "my_activation", "registered_name": "function"},
    {"module": "builtins", "class_name": "function", "config": "act", "registered_name": "mine>act"},
    {"module": "my_package.layers", "class_name": "Scale", "config": {}, "registered_name": "mine>Scale"},
    {"module": "my_package.layers", "class_name": "Scale", "config": {}, "registered_name": "Scale"},
    {"module": "__main__", "class_name": "Scale", "config": {}, "registered_name": "Scale"},
    {"module": None, "class_name": "Scale", "config": {}, "registered_name": "mine>Scale"},
    {"module": "keras_hub.src.models.bert", "class_name": "BertBackbone", "config": {}},
    {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}},
    {"module": "keras.random", "class_name": "SeedGenerator", "config": {}},
    {"class_name": "Dense", "config": {}},
])
def test_models_are_not(tmp_path: Path, node: dict[str, object]) -> None:
    assert rules(archive(tmp_path / "m.keras", layer(**node))) == set()


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("true",)


def _weights(tmp_path: Path, kind: str) -> bytes:
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("fine", data=np.zeros(3))
        if kind == "link":
            file["x"] = h5py.ExternalLink("/etc/passwd", "/")
        elif kind == "storage":
            file.create_dataset("x", (10,), "u1", external=[("/etc/passwd", 0, 10)])
        elif kind == "circle":
            file.create_group("a")["up"] = file["/"]
    return path.read_bytes()


@pytest.mark.parametrize(("kind", "expected"), [("plain", set()), ("circle", set()), ("link", {"keras-code"}),
                                                ("storage", {"keras-code"})])
def test_weights_that_lead_elsewhere(tmp_path: Path, kind: str, expected: set[str]) -> None:
    path = archive(tmp_path / "m.keras", PLAIN, **{"model.weights.h5": _weights(tmp_path, kind)})
    assert rules(path) == expected


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_any_protocol(tmp_path: Path, protocol: int) -> None:
    assert rules(archive(tmp_path / "m.keras", state=pickle.dumps(_Evil(), protocol))) == {"keras-pickle"}


def test_objects_in_arrays(tmp_path: Path) -> None:
    objects, records, plain = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez(objects, a=np.array([{}], object))
    np.save(records, np.zeros(1, [("a", object)]), allow_pickle=True)
    np.savez(plain, a=np.zeros(2))
    assert rules(archive(tmp_path / "m.keras", **{"model.weights.npz": objects.getvalue()})) == {"keras-pickle"}
    assert rules(archive(tmp_path / "n.keras", **{"model.npy": records.getvalue()})) == {"keras-pickle"}
    assert rules(archive(tmp_path / "o.keras", **{"model.weights.npz": plain.getvalue()})) == set()
    assert rules(archive(tmp_path / "p.keras", **{"assets/vocabulary.txt": b"cat\ndog\nthe\n"})) == set()


@pytest.mark.parametrize("config", ["x", '"x"', "null", "[1]", "[" * 100_000, '{"a":' * 50_000, "", "{", "\x00",
                                    "1e999"])
def test_damaged_configurations(tmp_path: Path, config: str) -> None:
    with pytest.raises(ExportError, match="no model file"):
        checks.check(archive(tmp_path / "m.keras", config))


def test_damaged_archives(tmp_path: Path) -> None:
    whole = archive(tmp_path / "m.keras", layer(module="keras.layers", class_name="Dense", config={}),
                    **{"metadata.json": b"{}"}).read_bytes()
    path = tmp_path / "d.keras"
    for at in range(len(whole)):
        for value in (whole[at] ^ 0x01, whole[at] ^ 0x80):
            path.write_bytes(whole[:at] + bytes([value]) + whole[at + 1:])
            try:
                checks.check(path)
            except ExportError as error:
                assert str(path) in error.message
        path.write_bytes(whole[:at])
        with pytest.raises(ExportError):
            checks.check(path)


def test_bombs(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras", **{"model.weights.h5": bytes(100 << 20)})
    assert rules(path) == {"archive-path"}
    with pytest.raises(ExportError, match="more than"):
        checks.check(archive(tmp_path / "n.keras", " " * (65 << 20) + "{}"))

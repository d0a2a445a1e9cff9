"""What a server with --prefer_tflite_model makes of the model.tflite in a version."""

from __future__ import annotations

from pathlib import Path

from deploy.savedmodel import tflite
from deploy.types import Contract
from deploy.wire.contracts import contract_from_map


def served(path: str | Path) -> Contract:
    """The signatures that TensorFlow Serving sees in the file: those of its metadata, else one that it makes up.

    Raises IncompleteVersion, BadReply for a dtype that TensorFlow doesn't define.
    """
    try:
        found = tflite.signature_defs(path)
    except ModuleNotFoundError:  # without flatbuffers: signatures of the first graph are those that `tfs export` names
        return tflite.read(path, first=True).contract
    return contract_from_map(found) if found else tflite.read(path, invented=True).contract


def served_beside(version_dir: Path, contract: Contract) -> Contract:
    """The part of a version's contract that a server has which prefers its model.tflite; all without such a file."""
    path = version_dir / tflite.FILE
    if not path.is_file():
        return contract
    found = served(path)
    return Contract(tuple(contract.get(name) or signature for name, signature in found.items()))

"""A lone TFLite file as a version: model.tflite, with the names of its signatures where TensorFlow Serving reads them.

Converters for PyTorch and Keras write a table of signatures that LiteRT reads. TensorFlow Serving reads SignatureDefs
in the file's metadata instead, of the first graph only; without them it takes the tensors' names up to the colon, so
that of `StatefulPartitionedCall:0` and `StatefulPartitionedCall:1` one output is lost. Here such metadata is written.
Source: tensorflow_serving/servables/tensorflow/tflite_session.cc.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploy.errors import ExportError, RepositoryError
from deploy.export import specs
from deploy.export.options import Exportable, OutputNames
from deploy.export.sources.saved_models import model_name
from deploy.export.sources.source import CustomObjects, ModelSource, stem
from deploy.extras import require
from deploy.savedmodel import tflite, tflite_alone
from deploy.savedmodel.tflite import TfliteInfo
from deploy.types import DEFAULT_SIGNATURE, PREDICT_METHOD, Contract, Signature, TensorSpec

SUFFIX = ".tflite"


@dataclass(frozen=True, slots=True)
class _Described:
    """The signatures that go into the file's metadata; none if it stays as it is. notes: what became of them."""

    signatures: Mapping[str, Signature]
    notes: tuple[str, ...] = ()


def check_options(source: Exportable, origin: Path) -> None:
    """What can't be said of a file that is converted already. Raises ExportError."""
    if source.recipes:
        raise ExportError(f"recipes can't be put around {origin}, which TensorFlow can't load",
                          hint="export the model that it was converted from, with --tflite", id="tflite-unchangeable")
    given = [key for key in ("inputs", "signatures", "custom_objects") if getattr(source, key)]
    if given:
        raise ExportError(f"{given[0]} can't be changed in {origin}, which is converted already",
                          hint="convert it again; only outputs can be renamed: output_names", id="tflite-unchangeable")


def place(origin: Path, directory: Path, output_names: OutputNames | None = None) -> tuple[str, ...]:
    """Write `origin` as the version's model.tflite. Returns what should be said of it.

    output_names: as Predict.outputs, for a file with one signature.
    Raises IncompleteVersion for a damaged file, ExportError, RepositoryError if it can't be written.
    """
    described = _described(origin, output_names)
    target = directory / tflite.FILE
    try:
        if described.signatures:
            require("tflite", "naming a TFLite model's signatures")
            target.write_bytes(_with_metadata(origin, described.signatures))
        else:
            shutil.copyfile(origin, target)
    except OSError as error:
        raise RepositoryError(f"{origin} can't be copied to the repository: {error.strerror}",
                              hint="make room, or name another repository", id="disk-full") from error
    return described.notes


def _described(origin: Path, output_names: OutputNames | None) -> _Described:
    info, first = tflite.read(origin), tflite.read(origin, first=True)
    written, served = tflite.signature_defs(origin), tflite.served(origin)
    if written and output_names is None:
        return _Described({})
    contract = served if written else first.contract if first.named else Contract((_distinct(info),))
    notes = _unserved(info.contract, first.contract) if info.named and not written else ()
    renamed = _renamed(contract, output_names, origin)
    if not first.named and not written and _names(renamed) == _names(served):
        return _Described({}, notes)
    if info.outside:
        if output_names is not None:
            raise ExportError(f"{origin} keeps weights behind its 2 GiB, so nothing in it can be named",
                              hint="leave the output names out", id="tflite-unchangeable")
        return _Described({}, (*notes, "its signatures' names can't be written into a file of this size: the server "
                                       f"calls its tensors {', '.join(_names(served)[DEFAULT_SIGNATURE])}"))
    signatures = {name: replace(signature, method_name=signature.method_name or PREDICT_METHOD)
                  for name, signature in _default(renamed).items()}
    listed = "; ".join(f"{name} ({', '.join(s.name for s in (*each.inputs, *each.outputs))})"
                       for name, each in signatures.items())
    return _Described(signatures, (*notes, f"names were written into its metadata, where servers look: {listed}"))


def _distinct(info: TfliteInfo) -> Signature:
    """Each tensor's name up to its colon, as the server has it; where that is no name of its own, its place."""
    sides: list[tuple[TensorSpec, ...]] = []
    for kind, tensors in zip(("input", "output"), info.first, strict=True):
        cut = [spec.name.partition(":")[0] for spec in tensors]
        usable = all(cut) and len(set(cut)) == len(cut)
        names = cut if usable else specs.positional(kind, len(tensors))
        sides.append(tuple(replace(spec, name=name) for spec, name in zip(tensors, names, strict=True)))
    return Signature(DEFAULT_SIGNATURE, sides[0], sides[1])


def _default(contract: Contract) -> dict[str, Signature]:
    """By name; an only one is what a request without a name asks for."""
    if len(contract) == 1:
        return {DEFAULT_SIGNATURE: replace(next(iter(contract.values())), name=DEFAULT_SIGNATURE)}
    return dict(contract)


def _unserved(contract: Contract, first: Contract) -> tuple[str, ...]:
    rest = sorted(set(contract) - set(first))
    if not rest:
        return ()
    return (f"signatures {', '.join(rest)} aren't served: a server has the first graph of a TFLite model only",)


def _renamed(contract: Contract, output_names: OutputNames | None, origin: Path) -> Contract:
    if output_names is None:
        return contract
    if len(contract) != 1:
        raise ExportError(f"{origin} has the signatures {', '.join(contract)}: whose outputs are renamed?",
                          hint="leave the output names out", id="tflite-unchangeable")
    signature = next(iter(contract.values()))
    old = [spec.name for spec in signature.outputs]
    given = [output_names] if isinstance(output_names, str) else output_names
    by_name = dict(given) if isinstance(given, Mapping) else dict(zip(old, given, strict=False))
    wrong = sorted(set(by_name) - set(old)) or ([] if isinstance(given, Mapping) or len(given) == len(old) else old)
    new = [str(by_name.get(name, name)) for name in old]
    if wrong or len(set(new)) != len(old) or any(":" in name for name in new):
        raise ExportError(f"{origin} has the outputs {', '.join(old)}, and the names given are {output_names!r}",
                          hint="give one name for each, in this order, or {old: new}; a dtype can't be changed",
                          id="tflite-unchangeable")
    outputs = tuple(replace(spec, name=name) for spec, name in zip(signature.outputs, new, strict=True))
    return Contract((replace(signature, outputs=outputs),))


def _names(contract: Contract) -> dict[str, list[str]]:
    return {name: [spec.name for spec in (*each.inputs, *each.outputs)] for name, each in contract.items()}


def _with_metadata(origin: Path, signatures: Mapping[str, Signature]) -> bytes:
    """The file with these SignatureDefs. What is appended to it, as associated files are, stays at its end."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    data = origin.read_bytes()
    appended = _appended(origin, data)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0))
    kept = [entry for entry in model.metadata or () if _text(entry.name) != tflite.SIGNATURES]
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = tflite.metadata_of(signatures)
    entry.name, entry.buffer = tflite.SIGNATURES, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*kept, entry]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output()) + appended


def _appended(origin: Path, data: bytes) -> bytes:
    """A zip archive behind the model: labels and vocabularies that its metadata names."""
    if not zipfile.is_zipfile(origin):
        return b""
    with zipfile.ZipFile(origin) as archive:
        start = min((member.header_offset for member in archive.infolist()), default=len(data))
    return data[start:]


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _recognises(path: Path) -> bool:
    return (path.suffix.lower() == SUFFIX and path.is_file()) or tflite_alone(path)


def _load(path: Path, custom_objects: CustomObjects) -> object:  # noqa: ARG001
    return path


def _model_name(path: Path) -> str:
    return stem(path) if path.is_file() else model_name(path)


SOURCE = ModelSource("a .tflite file", _recognises, _load, _model_name, as_it_is=True)

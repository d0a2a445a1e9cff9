"""SavedModel directories: published as they are, or one of their graphs, with other tags or another default signature.

Decided from the file's bytes, without TensorFlow. Directories of TensorFlow Hub's first format hold no op that restores
variables, which only TensorFlow can add: see `sessions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from deploy import files
from deploy.errors import ExportError, IncompleteVersion
from deploy.export.options import SavedModelDirectory
from deploy.export.sources.source import CustomObjects, ModelSource
from deploy.savedmodel.reader import GRAPH
from deploy.savedmodel.scanning import LIMIT
from deploy.types import DEFAULT_SIGNATURE
from deploy.wire.model_pb2 import MetaGraphDef, SavedModel

TEXT = "saved_model.pbtxt"
HUB = "tfhub_module.pb"
_HUB_DEFAULT = "default"  # what TensorFlow Hub's first format calls the signature that is asked for without a name
_DESCRIPTOR, _DESCRIBED = ".descriptor.txt", 4096


@dataclass(frozen=True, slots=True)
class Changes:
    """What the published copy has that the directory hasn't.

    index: of the meta graph that is published; None: all of them, as they are. tags: how it is tagged.
    default: the signature that serving_default is a second name of; empty: none. text: it is in text form.
    session: it has variables and nothing that restores them. notes: sentences about all of it.
    """

    index: int | None = None
    tags: frozenset[str] = frozenset()
    default: str = ""
    text: bool = False
    session: bool = False
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.index is not None or self.text


def changes(source: SavedModelDirectory, served: frozenset[str]) -> Changes:
    """What has to be changed for a server that loads the graph tagged `served`. Raises ExportError."""
    path = source.path
    text, hub = not (path / GRAPH).is_file(), (path / HUB).is_file()
    if text or not (hub or source.tags is not None or source.default_signature):
        return Changes(text=text, tags=served)
    graphs = list(_read(path).meta_graphs)
    index = _chosen(path, [frozenset(graph.meta_info_def.tags) for graph in graphs], source.tags, served, hub=hub)
    graph = graphs[index]
    default = _default(path, sorted(graph.signature_def), source.default_signature, hub=hub)
    session = not graph.saver_def.restore_op_name and (path / "variables" / "variables.index").is_file()
    tags = frozenset(graph.meta_info_def.tags)
    notes = [f"signature {default!r} is {DEFAULT_SIGNATURE}, too"] if default else []
    if tags != served:
        notes.append(f"the graph was tagged {listed(tags)}; it is tagged {listed(served)}, as the server wants it")
    return Changes(index, served, default, session=session, notes=tuple(notes))


def apply(change: Changes, directory: Path) -> None:
    """Change the saved_model.pb in a copy. fingerprint.pb, a digest of it, is removed."""
    saved = _read(directory)
    if change.index is not None:
        chosen = MetaGraphDef()
        chosen.CopyFrom(saved.meta_graphs[change.index])
        del saved.meta_graphs[:]
        _change(chosen, change)
        saved.meta_graphs.append(chosen)
    (directory / GRAPH).write_bytes(saved.SerializeToString(deterministic=True))
    (directory / "fingerprint.pb").unlink(missing_ok=True)


def _change(graph: MetaGraphDef, change: Changes) -> None:
    del graph.meta_info_def.tags[:]
    graph.meta_info_def.tags.extend(sorted(change.tags))
    if change.default:
        graph.signature_def[DEFAULT_SIGNATURE].CopyFrom(graph.signature_def[change.default])


def _read(path: Path) -> SavedModel:
    try:
        return SavedModel.FromString(files.read_bytes(path / GRAPH, LIMIT))
    except (DecodeError, OSError, ValueError) as error:
        raise IncompleteVersion(f"{path / GRAPH} is truncated or no SavedModel: {error}",
                                hint="copy or export it again") from error


def _chosen(path: Path, tagged: Sequence[frozenset[str]], asked: Sequence[str] | None, served: frozenset[str], *,
            hub: bool) -> int:
    wanted = frozenset(asked) if asked is not None else served
    if wanted in tagged:
        return tagged.index(wanted)
    if hub and asked is None and frozenset() in tagged:  # its graph for inference
        return tagged.index(frozenset())
    several = f"its graphs are tagged {'; '.join(listed(tags) for tags in tagged)}"
    raise ExportError(f"{path} has no graph tagged {listed(wanted)}: {several}",
                      hint=f"name the tags of one: --tags {','.join(sorted(tagged[0])) or repr('')}",
                      id="choose-signature")


def _default(path: Path, names: Sequence[str], asked: str, *, hub: bool) -> str:
    if asked and asked not in names:
        raise ExportError(f"{path} has no signature {asked!r}", hint=f"it has {', '.join(names) or 'none'}",
                          id="choose-signature")
    if asked or not hub or DEFAULT_SIGNATURE in names:
        return asked if asked != DEFAULT_SIGNATURE else ""
    if _HUB_DEFAULT not in names and len(names) != 1:
        raise ExportError(f"{path} has the signatures {', '.join(names) or '(none)'}, and none is the default",
                          hint="name one: --default-signature NAME", id="choose-signature")
    return _HUB_DEFAULT if _HUB_DEFAULT in names else names[0]


def listed(tags: frozenset[str]) -> str:
    """`gpu, serve`; `with nothing` for no tags."""
    return ", ".join(sorted(tags)) or "with nothing"


def model_name(path: Path) -> str:
    """The directory's, or above a version number; the address's, where TensorFlow Hub's cache has it under a hash."""
    path = _directory(path).resolve()
    descriptor = path.with_name(path.name + _DESCRIPTOR)
    if descriptor.is_file():
        first = descriptor.read_bytes()[:_DESCRIBED].decode(errors="replace").splitlines()[:1]
        parts = [part for part in (first or [""])[0].partition("Module: ")[2].split("?")[0].split("/") if part]
        if named := next((part for part in reversed(parts) if not part.isdecimal()), ""):
            return named
    return path.parent.name if path.name.isdecimal() else path.name


def _directory(path: Path) -> Path:
    """Of a SavedModel that is named by its file, too."""
    return path.parent if path.name in (GRAPH, TEXT) else path


def _recognises(path: Path) -> bool:
    return any((_directory(path) / name).is_file() for name in (GRAPH, TEXT))


def _load(path: Path, custom_objects: CustomObjects) -> object:  # noqa: ARG001
    return SavedModelDirectory(_directory(path))


SOURCE = ModelSource("a SavedModel directory", _recognises, _load, model_name, as_it_is=True)

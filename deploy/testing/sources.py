"""What a test's server is started from, as a spec: a serving.yaml, a repository, a SavedModel, a model object."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deploy.errors import SpecError
from deploy.export import export_model
from deploy.files import check_letters
from deploy.naming import is_name
from deploy.repository import Repository
from deploy.savedmodel import placement
from deploy.serving.resolving import with_needed_flags
from deploy.spec import Spec, load_spec, parse
from deploy.wire.model_config import by_version

_YAML = (".yaml", ".yml")
_MODEL = "model"


def server_of(path: str | Path, server: str = "") -> Spec:
    """The spec at `path`; of one with several servers that of `server`. Raises SpecError."""
    spec = _loaded(Path(path))
    if not spec.servers and not server:
        return spec
    names = [member.short_name for member in spec.servers]
    if server not in names:
        has = f"it has {', '.join(names)}" if names else "it names no `servers`: leave --tfs-server out"
        raise SpecError(f"{spec.path.name} has no server {server!r}" if server else
                        f"{spec.path.name} names {len(names)} servers, and tests ask one", path="servers",
                        hint=has if server else f"name it: --tfs-server, one of {', '.join(names)}",
                        id="several-servers")
    return spec.servers[names.index(server)]


def readable(path: str | Path, error: Callable[[str], BaseException], server: str = "") -> Spec:
    """As `server_of`; for a spec that doesn't read `error` is raised, with its one sentence."""
    try:
        return server_of(path, server)
    except SpecError as broken:
        raise error(str(broken)) from None


def as_spec(source: object, scratch: Path, *, name: str = "", labels: Mapping[str, Mapping[str, int]] | None = None
            ) -> Spec:
    """A spec that serves `source`.

    source: a Spec; the path of a serving.yaml; a repository or its directory; the directory of one model's versions; a
        mapping from model names to such directories or to what follows; a SavedModel directory, a model file, or an
        object that `export_model` takes: those are published into scratch/models first.
    name: of a single model that has none; by default its directory's or file's, `model` for objects.
    labels: model -> label -> version, for what isn't a spec.
    Raises SpecError for what is none of these, and what `load_spec` and `export_model` raise.
    """
    if isinstance(source, Spec):
        return source
    path = Path(source).absolute() if isinstance(source, str | Path) else None
    if path is not None and path.suffix in _YAML:
        return _loaded(path)
    if isinstance(source, Repository):
        path = source.root
    models = _of_directory(path) if path is not None and path.is_dir() else None
    if models is None:
        given = source if isinstance(source, Mapping) else {name or _name(path): source}
        models = [_versions_in(one, model) or publish(one, model, scratch / "models") for model, one in given.items()]
    for model in models:
        model["labels"] = dict((labels or {}).get(model["name"], {}))
    return with_needed_flags(parse(json.dumps({"name": "tests", "models": models}), scratch / "serving.yaml"))


def _loaded(path: Path) -> Spec:
    """As `load_spec`, and what is written and printed of it can be. Raises SpecError."""
    check_letters(path.absolute())
    spec = load_spec(path)
    check_letters(spec.repository, *(model.base_path for model in spec.models))
    return spec


def _name(path: Path | None) -> str:
    stem = path.stem if path is not None else ""
    return stem if is_name(stem) and ":" not in stem else _MODEL


def _of_directory(path: Path) -> list[dict[str, Any]] | None:
    """The models of a repository, or the one model whose versions these are; None if it is a SavedModel itself."""
    if placement.is_version(path):
        return None
    if (model := _versions_in(path, _name(path))) is not None:
        return [model]
    names = Repository(path).models()
    if not names:
        raise SpecError(f"there is no model in {path}", hint=placement.not_a_repository(path) or
                        "give a serving.yaml, a repository, a SavedModel directory, or a model object",
                        id="not-a-repository")
    return [{"name": name, "base_path": str(path / name), "versions": "all"} for name in names]


def _versions_in(source: object, name: str) -> dict[str, Any] | None:
    """The model of this name whose versions lie in a directory; None if that isn't what `source` is."""
    path = Path(source) if isinstance(source, str | Path) else None
    if path is None or not path.is_dir() or placement.is_version(path):
        return None
    if not by_version(entry.name for entry in path.iterdir() if entry.is_dir()):
        return None
    return {"name": name, "base_path": str(path.absolute()), "versions": "all"}


def publish(model: object, name: str, repository: Path) -> dict[str, Any]:
    """A list of objects becomes versions 1, 2, ... of a repository that is made if it isn't there."""
    repository.mkdir(parents=True, exist_ok=True)
    for each in model if isinstance(model, list | tuple) else [model]:
        export_model(each, repository, name)
    return {"name": name, "base_path": str(repository / name), "versions": "all"}

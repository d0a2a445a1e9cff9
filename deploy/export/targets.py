"""`pkg.module:attribute`, `path.py:attribute`, or a file or directory that a model comes in -> an object."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from deploy.checks.keras_archives import SUFFIXES
from deploy.errors import ExportError
from deploy.export import jax_models, quiet, registries, sources
from deploy.export.failures import user_error
from deploy.export.options import Classify, Exportable, FrozenGraph, Predict, Regress, SavedModelDirectory
from deploy.export.sources import ModelSource
from deploy.savedmodel import placement

_FORMS = f"name pkg.module:attribute, path.py:attribute, or a model: {sources.NAMES}"
_RELATIVE = "check the path; it is relative to the working directory"
_NAMED_AGAIN = 5  # targets that builders may name in turn
_PACKAGES = {"keras", "tensorflow", "tf_keras"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PythonObject:
    """`module`: a dotted name or a .py file. `attribute`: perhaps dotted."""

    module: str
    attribute: str

    def __str__(self) -> str:
        return f"{self.module}:{self.attribute}"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file or directory of one of the kinds in export.sources."""

    path: Path
    source: ModelSource


Target = PythonObject | ModelFile


def parse(text: str | Path) -> Target:
    """What `text` names, without loading it. Raises ExportError if it names nothing that can be exported."""
    if text == "":
        raise ExportError("the target is empty", hint=_FORMS, id="bad-target")
    path = Path(text)
    source = sources.find(path)
    if source is not None:
        return ModelFile(path, source)
    if path.is_dir():
        raise _no_model_in(path)
    if not path.exists():
        _check_separators(str(text))
    if path.suffix.lower() in SUFFIXES:
        raise ExportError(f"there is no file {text}", hint=_RELATIVE, id="bad-target")
    module, colon, attribute = str(text).rpartition(":")
    if colon and module and attribute:
        return PythonObject(module, attribute)
    if path.is_file():
        hint = f"name what in it: {text}:build" if path.suffix == ".py" else _FORMS
        raise ExportError(f"{text} is a file that can't be exported by itself", hint=hint, id="bad-target")
    raise ExportError(f"{str(text)!r} is neither a file nor a directory, nor module:attribute", hint=_FORMS,
                      id="bad-target")


def loading(model: object) -> str:
    """What is done with a model before it is traced, for people who wait for it."""
    shown = str(model) if isinstance(model, str | Path) else "the model"
    source = sources.find(Path(model)) if isinstance(model, str | Path) else None
    slow = "tensorflow" not in sys.modules and not (source and source.as_it_is)
    return f"loading {shown}{'; importing TensorFlow takes a few seconds' * slow}"


def _check_separators(text: str) -> None:
    """Paths as Windows writes them, where they mean nothing. Raises ExportError."""
    if "\\" in text and os.sep != "\\" and not Path(text.rpartition(":")[0]).is_file():
        drive = re.match(r"[A-Za-z]:\\", text)
        hint = "give the path that it has on this machine" if drive else "write " + text.replace("\\", "/")
        raise ExportError(f"there is no {text}: paths have / here, not \\", hint=hint, id="bad-target")


def load_target(text: str | Path, custom_objects: Mapping[str, object] | Sequence[str] | None = None) -> object:
    """What `text` names: a model, an Exportable, or the path of what is published as it is. Builders are called.

    custom_objects: for Keras files: name -> class or function, or `pkg.module:Class` strings.
    Raises ExportError; an exception of the user's own code is in its details (`traceback`).
    """
    target = parse(text)
    if isinstance(target, ModelFile):
        if custom_objects:
            quiet.tensorflow()  # before the user's modules import it with all its chatter
        return target.source.load(target.path, load_custom_objects(custom_objects))
    quiet.tensorflow()
    load_custom_objects(custom_objects)  # a builder may not need them; a wrong name is told all the same
    with importing(target.module):
        return built(_attribute(target), str(target))


def resolve(described: Exportable) -> Exportable:
    """With the object, or the Path of what is published as it is, where the model is named. Raises ExportError."""
    for _ in range(_NAMED_AGAIN):
        target = described.model
        if isinstance(target, SavedModelDirectory):
            return replace(described, model=replace(target, path=_directory(target.path)))
        if not isinstance(target, str | Path):
            return described
        model = load_target(target, described.custom_objects)
        if isinstance(model, Path) and model == target:  # it is published as it is
            return described
        described = described.filled(model if isinstance(model, Exportable) else Exportable(model))
    raise ExportError(f"{described.model} names another target, again and again", hint="name the model itself",
                      id="bad-target")


def _directory(path: Path) -> Path:
    """That of a SavedModel. Raises ExportError for anything else."""
    model = load_target(path)
    if not isinstance(model, SavedModelDirectory):
        raise ExportError(f"{path} is no SavedModel directory, and has no tags or signatures to choose",
                          hint="leave --tags and --default-signature out", id="bad-target")
    return model.path


def load_custom_objects(described: Mapping[str, object] | Sequence[str] | None) -> dict[str, object]:
    """Custom objects by name; `pkg.module:Class` strings are imported. Raises ExportError."""
    if described is None or isinstance(described, Mapping):
        return dict(described or {})
    by_name = {}
    for text in described:
        module, colon, attribute = text.rpartition(":")
        if not colon or not module or not attribute:
            raise ExportError(f"custom object {text!r} isn't module:name",
                              hint="for example my_package.layers:CustomDense", id="custom-object-missing")
        with importing(module):
            by_name[attribute.rpartition(".")[2]] = _attribute(PythonObject(module, attribute))
    return by_name


def built(found: object, where: str) -> object:
    """`found`, or what it returns if it is a function without required parameters. Raises ExportError."""
    if exportable(found):
        return found
    if not callable(found):
        raise ExportError(f"{where} is a {type(found).__name__}, neither a model nor a function that builds one",
                          hint="name a Keras model, a tf.Module, a tf.function, or a function that returns one",
                          id="bad-target")
    if _needs_arguments(found):
        if inspect.isclass(found):
            raise ExportError(f"{where} is a class whose constructor needs arguments",
                              hint="name a function that builds it", id="bad-target")
        return found  # a function of tensors: exported itself, with the caller's input specs
    result = _run(f"building {where}", found)
    if exportable(result) or (callable(result) and not inspect.isclass(result)):
        return result
    raise ExportError(f"{where} returned {_what(result)}, which is no model",
                      hint="return the Keras model, tf.Module, tf.function or deploy.export.Exportable",
                      id="bad-target")


def exportable(value: object) -> bool:
    """Whether it is a model, or stands for one. Told by its classes' modules, so TensorFlow isn't needed."""
    if isinstance(value, Exportable | Predict | Classify | Regress | SavedModelDirectory | FrozenGraph | str | Path):
        return True
    return jax_models.recognises(value) or any(base.__module__.split(".")[0] in _PACKAGES
                                               for base in type(value).__mro__)


@contextlib.contextmanager
def importing(module: str) -> Iterator[None]:
    """The working directory (and a file's own) on sys.path while the user's code runs, as if python had started it."""
    own = Path(module).resolve().parent if module.endswith(".py") else Path.cwd()
    added = [str(own), str(Path.cwd())]
    sys.path[:0] = added
    try:
        yield
    finally:
        for entry in added:
            with contextlib.suppress(ValueError):
                sys.path.remove(entry)


def _no_model_in(path: Path) -> ExportError:
    if graphs := sorted(each.name for each in path.glob("*.pb")):
        hint = f"a frozen graph is named by its file: {path / graphs[0]}"
    else:
        hint = placement.not_a_version(path) or "name the directory that tf.saved_model.save wrote"
    return ExportError(f"{path} is a directory without a saved_model.pb", hint=hint, id="bad-target")


def _attribute(target: PythonObject) -> object:
    value: object = _module(target.module)
    for name in target.attribute.split("."):
        if not hasattr(value, name):
            public = [n for n in dir(value) if not n.startswith("_")]
            close = difflib.get_close_matches(name, public, 3)
            hint = f"did you mean {' or '.join(close)}?" if close else f"it has: {', '.join(public[:12]) or 'nothing'}"
            raise ExportError(f"{target.module} has no attribute {target.attribute!r}", hint=hint, id="bad-target")
        value = getattr(value, name)
    return value


def _module(name: str) -> ModuleType:
    if name.endswith(".py"):
        return _module_of_file(Path(name))
    try:
        return _run(f"importing {name}", lambda: importlib.import_module(name), ModuleNotFoundError)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ExportError(f"there is no module {name!r}",
                              hint="looked for in the working directory and among the installed packages",
                              id="bad-target") from None
        raise user_error(f"importing {name}", error) from error


def _module_of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ExportError(f"there is no file {path}", hint=_RELATIVE, id="bad-target")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(path.stem)
    sys.modules[path.stem] = module  # dataclasses and Keras's registry look their module up
    loader = spec.loader
    try:
        _run(f"running {path}", lambda: loader.exec_module(module))
    except ExportError:
        sys.modules.pop(path.stem)
        if before is not None:
            sys.modules[path.stem] = before
        raise
    return module


def _run(doing: str, call: Callable[[], T], passing: type[Exception] = ExportError) -> T:
    try:
        return call()
    except (ExportError, passing):
        raise
    except (Exception, SystemExit) as error:
        raise user_error(doing, error) from error


def _needs_arguments(function: Callable[..., object]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)


def _what(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def default_name(text: str | Path) -> str:
    """A model name for a target: the file's or directory's (above a version number), or the function's."""
    if registries.is_reference(text):
        return registries.name_in(str(text))
    target = parse(text)
    if isinstance(target, PythonObject):
        stem = Path(target.module).stem if target.module.endswith(".py") else target.module.rpartition(".")[2]
        last = target.attribute.rpartition(".")[2]
        return stem if last in {"build", "model", "make", "create", "build_model", "make_model", "get_model"} else last
    return target.source.model_name(target.path)

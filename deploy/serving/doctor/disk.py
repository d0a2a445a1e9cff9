"""What lies in a base path, on this machine or as the server sees it: through a container's mounts, or in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from deploy import checks, files, savedmodel
from deploy.backends.inspecting import Inside
from deploy.checks import Target
from deploy.errors import DeployError, SpecError
from deploy.repository.naming import names, taken, version_paths
from deploy.serving import preflight
from deploy.serving.doctor.evidence import ModelEvidence, There
from deploy.wire import config_pb2
from deploy.wire import serving_pb2 as pb
from deploy.wire.flags import Parsed
from deploy.wire.model_config import by_version, policy_of, select, version_number
from deploy.wire.text import from_text

# What keeps a version from loading; other findings of `tfs check` don't
_FATAL = frozenset({"unknown-op", "unknown-attribute", "graph-version", "serve-tag", "batching", "warm-up"})
_GRAPHS = ("saved_model.pb", "saved_model.pbtxt", "model.tflite")
_OTHER_FORMS = (".keras", ".h5", ".hdf5", ".onnx", ".pt", ".pth", ".tflite", ".pb", ".zip", ".tar", ".tar.gz", ".tgz")
_MOST_NAMES = 100  # of a directory that somebody else filled
_FILES: Mapping[str, type] = {"monitoring_config_file": pb.MonitoringConfig,
                              "batching_parameters_file": pb.BatchingParameters,
                              "platform_config_file": pb.PlatformConfigMap}


def host_path(path: str, mounts: Mapping[str, str]) -> str | None:
    """Where a container's path lies on this machine; None if no mount covers it."""
    for source, target in sorted(mounts.items(), key=lambda m: -len(m[1])):
        if PurePosixPath(path).is_relative_to(target):
            return str(Path(source) / PurePosixPath(path).relative_to(target))
    return None


class Files:
    """The files that a server sees: this machine's, or those of a container.

    mounts: directory of this machine -> where it is in the container; None for a process of this machine.
    inside: looks into the container itself, for what is no mount of a directory that is here.
    """

    def __init__(self, mounts: Mapping[str, str] | None, inside: Callable[[str], Inside] | None = None) -> None:
        self.mounts, self._inside = mounts, inside

    def here(self, path: str) -> Path | None:
        """Where a path of the server's lies on this machine; None if it doesn't."""
        host = path if self.mounts is None else host_path(path, self.mounts)
        return Path(host) if host is not None and Path(host).is_absolute() else None

    def mounted(self, path: str) -> bool:
        return self.mounts is None or host_path(path, self.mounts) is not None

    def inside(self, path: str) -> Inside | None:
        """What the container has there; None if nobody can look."""
        return self._inside(path) if self._inside is not None and path.startswith("/") else None

    def read(self, path: str) -> str:
        """A config file's text. Raises SpecError that says why it can't be used."""
        here = self.here(path)
        inside = self.inside(path) if here is None or not here.exists() else None
        if inside is not None and inside.kind == "file":
            return _decoded(inside.text)
        if (inside is not None and inside.kind == "directory") or (here is not None and here.is_dir()):
            raise SpecError(f"{path} is a directory: Docker makes one where the file that it should mount doesn't exist"
                            if self.mounts is not None else f"{path} is a directory", id="file-unusable")
        if here is None:
            raise SpecError(f"nothing is mounted at {path}" if not self.mounted(path) else f"{path} doesn't exist",
                            id="file-unusable")
        try:
            return _decoded(files.read_bytes(here, files.MOST_TEXT))
        except FileNotFoundError:
            raise SpecError(f"{path} doesn't exist", id="file-unusable") from None
        except OSError as e:
            raise SpecError(f"{path}: {files.reason(e)}", id="file-unusable") from None


def _decoded(data: bytes) -> str:
    """Text as protobuf reads it. Raises SpecError for what editors on Windows may have made of it."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise SpecError("it is UTF-16 (as PowerShell's > writes): save it as UTF-8", id="file-unusable")
    try:
        return data.decode("utf-8-sig")  # protobuf's reader passes over a byte order mark, too
    except UnicodeDecodeError as e:
        raise SpecError(f"it isn't UTF-8 (byte {e.start})", id="file-unusable") from None


def looked_at(model: ModelEvidence, user: str | None, target: Target | None = None) -> ModelEvidence:
    """The model with what is on disk.

    user: `uid:gid` of a container; None for this process; "" if it can read everything, or nobody knows.
    target: also says which versions it wouldn't load.
    """
    path = Path(model.path)
    there: There = "directory" if path.is_dir() else "file" if path.exists() else "missing"
    if there != "directory":
        return replace(model, there=there, found=frozenset(), beside=_holders(path.parent), above=_holds(path.parent))
    try:
        spelled = taken(path)
    except OSError:
        return replace(model, there=there, found=frozenset(), unreadable=str(path))
    paths = {v: path / name for v, name in sorted(spelled.items()) if (path / name).is_dir()}
    chosen = {v: paths[v] for v in select(model.policy, paths)}
    bad = preflight.unreadable(path, chosen.values(), user) if user != "" else None
    broken = {} if bad else _broken(chosen)
    whole = {v: p for v, p in chosen.items() if v not in broken}
    refused = _refused(whole, target) if target and not bad else {}
    evidence = replace(model, there=there, found=frozenset(paths), unreadable=str(bad or ""), broken=broken,
                       refused=refused, unexpected=tuple(spelled[v] for v in sorted(spelled.keys() - paths.keys())),
                       is_version=any((path / name).exists() for name in _GRAPHS))
    return evidence if paths else _without_versions(evidence, path)


def _without_versions(model: ModelEvidence, path: Path) -> ModelEvidence:
    """What lies there instead of versions."""
    children = _children(path)
    deeper = [f"{name}/{below}" for name in children for below in _holders(path / name)]
    return replace(model, nested=(*_holders(path), *deeper[:_MOST_NAMES]),
                   unnumbered=tuple(n for n in children if any((path / n / graph).exists() for graph in _GRAPHS)),
                   others=tuple(n for n in _names(path) if n.endswith(_OTHER_FORMS)))


def _names(path: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(names(path))[:_MOST_NAMES])
    except OSError:
        return ()


def _children(path: Path) -> tuple[str, ...]:
    return tuple(name for name in _names(path) if (path / name).is_dir())


def _holders(path: Path) -> tuple[str, ...]:
    """The directories in it that hold versions."""
    return tuple(name for name in _children(path) if _holds(path / name))


def _holds(path: Path) -> bool:
    """Whether a directory holds versions."""
    try:
        return bool(version_paths(path))
    except OSError:
        return False


def _broken(paths: Mapping[int, Path]) -> dict[int, str]:
    reasons = {}
    for version, path in paths.items():
        try:
            savedmodel.check_complete(path)
        except DeployError as e:
            reasons[version] = e.message
    return reasons


def _refused(paths: Mapping[int, Path], target: Target) -> dict[int, tuple[str, ...]]:
    refusals = {}
    for version, path in paths.items():
        try:
            findings = checks.check(path, target).findings
        except DeployError:
            continue
        messages = tuple(f.message for f in findings if f.rule in _FATAL and f.refuses)
        if messages:
            refusals[version] = messages
    return refusals


def named_files(flags: Parsed, files: Files) -> dict[str, str]:
    """Flag -> why its file can't be used."""
    reasons = {}
    for flag, message in _FILES.items():
        path = str(flags.values[flag])
        try:
            if path:
                from_text(files.read(path), message, path)
        except SpecError as e:
            reasons[flag] = str(e)
    return reasons


def configured(flags: Parsed, files: Files) -> tuple[tuple[ModelEvidence, ...], str]:
    """The models that a command line names, and why its config file can't be used."""
    file, base = str(flags.values["model_config_file"]), str(flags.values["model_base_path"])
    if not file:
        return ((ModelEvidence(str(flags.values["model_name"]), base),) if base else ()), ""
    try:
        config = from_text(files.read(file), config_pb2.ModelServerConfig, file)
    except SpecError as e:
        return (), str(e)
    return tuple(_entry(e) for e in config.model_config_list.config), ""


def _entry(e: config_pb2.ModelConfig) -> ModelEvidence:
    platform = e.model_platform or ("tensorflow" if e.model_type == config_pb2.TENSORFLOW else "")
    return ModelEvidence(e.name, e.base_path, policy=policy_of(e), labels=dict(e.version_labels), platform=platform)


def located(model: ModelEvidence, files: Files, user: str | None) -> ModelEvidence:
    """The model with what the server sees of it: on this machine's disk, or in the container."""
    if not model.base_path.startswith("/"):
        return model
    here = files.here(model.base_path)
    if here is not None and (here.exists() or files.inside(model.base_path) is None):
        evidence = looked_at(replace(model, path=str(here)), user)
        return replace(evidence, engine_lacks=_lacking(evidence, files))
    directory = files.inside(model.base_path)
    if directory is not None and directory.kind != "missing":
        return _of_inside(model, directory)
    if files.mounted(model.base_path) and (here is not None or directory is not None):
        return looked_at(replace(model, path=str(here)), user) if here is not None else \
            replace(model, there="missing", found=frozenset())
    if files.mounted(model.base_path):
        return model
    parent = PurePosixPath(model.base_path).parent
    around = files.inside(str(parent)) if len(parent.parts) > 1 else None
    beside = _of_inside(model, around).nested if around is not None and around.kind == "directory" else ()
    return replace(model, there="unmounted", found=frozenset(), beside=beside)


def _lacking(model: ModelEvidence, files: Files) -> str:
    """A version of this machine that isn't in the container: its engine is on another machine."""
    if files.mounts is None or not model.found or model.unreadable:
        return ""
    path = list(version_paths(Path(model.path)).values())[-1:]  # its name may be `007`
    directory = files.inside(f"{model.base_path}/{path[0].name}") if path else None
    return str(path[0]) if directory is not None and directory.kind == "missing" else ""


def _of_inside(model: ModelEvidence, directory: Inside) -> ModelEvidence:
    """By the names that were read; of a large model these aren't all."""
    if directory.kind == "file":
        return replace(model, there="file", found=frozenset())
    top = {PurePosixPath(name).parts[0] for name in directory.names}
    versions = frozenset(by_version(top))
    if not directory.complete:  # what wasn't read may well be there
        return replace(model, found=versions | model.named or model.found)
    if versions:
        return replace(model, found=versions)
    parts = [PurePosixPath(name).parts for name in sorted(directory.names)]
    return replace(model, found=versions, is_version=bool(top & {*_GRAPHS}),
                   nested=tuple(dict.fromkeys(p[0] for p in parts if len(p) > 1 and version_number(p[1]) is not None)),
                   unnumbered=tuple(dict.fromkeys(p[0] for p in parts if len(p) > 1 and p[1] in _GRAPHS)))

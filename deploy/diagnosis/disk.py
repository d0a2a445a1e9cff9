"""What lies in a base path: the part of the evidence that is read from disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from deploy import checks, savedmodel
from deploy.checks import Target
from deploy.diagnosis.evidence import Model, There
from deploy.errors import DeployError, SpecError
from deploy.modelserver.flags import Parsed
from deploy.repository.naming import names, taken, version_paths
from deploy.serving import preflight
from deploy.serving.drift import read_config
from deploy.wire import config_pb2
from deploy.wire import serving_pb2 as pb
from deploy.wire.text import from_text

# What keeps a version from loading; other findings of `tfs check` don't
_FATAL = frozenset({"unknown-op", "unknown-attribute", "graph-version", "serve-tag", "batching", "warm-up"})
_FILES: Mapping[str, type] = {"monitoring_config_file": pb.MonitoringConfig,
                              "batching_parameters_file": pb.BatchingParameters,
                              "platform_config_file": pb.PlatformConfigMap}


def host_path(path: str, mounts: Mapping[str, str]) -> str | None:
    """Where a container's path lies on this machine; None if no mount covers it."""
    for source, target in sorted(mounts.items(), key=lambda m: -len(m[1])):
        if PurePosixPath(path).is_relative_to(target):
            return str(Path(source) / PurePosixPath(path).relative_to(target))
    return None


def looked_at(model: Model, user: str | None, target: Target | None = None) -> Model:
    """The model with what is on disk. target: also says which versions it wouldn't load."""
    path = Path(model.path)
    there: There = "directory" if path.is_dir() else "file" if path.exists() else "missing"
    if there != "directory":
        return replace(model, there=there, found=frozenset())
    try:
        paths, odd = version_paths(path), taken(path)
    except OSError:
        return replace(model, there=there, found=frozenset(), unreadable=str(path))
    chosen = {v: p for v, p in paths.items() if v in model.wanted} if model.wanted is not None else \
        dict(list(paths.items())[-1:])
    bad = preflight.unreadable(path, chosen.values(), user)
    broken = {} if bad else _broken(chosen.values())
    whole = {v: p for v, p in chosen.items() if v not in broken}
    refused = _refused(whole, target) if target and not bad else {}
    return replace(model, there=there, found=frozenset(paths), unreadable=str(bad or ""), broken=broken,
                   refused=refused, strange=tuple(odd[v] for v in sorted(odd.keys() - paths.keys())),
                   is_version=(path / "saved_model.pb").exists(),
                   nested=tuple(n for n in sorted(names(path)) if not paths and _holds_versions(path / n)))


def _holds_versions(path: Path) -> bool:
    """Whether a directory holds versions."""
    try:
        return bool(version_paths(path))
    except OSError:
        return False


def _broken(paths: Iterable[Path]) -> dict[int, str]:
    found = {}
    for path in paths:
        try:
            savedmodel.check_complete(path)
        except DeployError as e:
            found[int(path.name)] = e.message
    return found


def _refused(paths: Mapping[int, Path], target: Target) -> dict[int, tuple[str, ...]]:
    found = {}
    for version, path in paths.items():
        try:
            findings = checks.check(path, target).findings
        except DeployError:
            continue
        said = tuple(f.message for f in findings if f.rule in _FATAL and f.refuses)
        if said:
            found[version] = said
    return found


def named_files(flags: Parsed, to_host: Mapping[str, str] | None) -> dict[str, str]:
    """Flag -> why its file can't be used. to_host: a container's mounts; None for a process of this machine."""
    found = {}
    for flag, message in _FILES.items():
        path = str(flags.values[flag])
        if not path:
            continue
        here = path if to_host is None else host_path(path, to_host)
        if here is None:
            found[flag] = f"nothing is mounted at {path}"
            continue
        try:
            from_text(Path(here).read_text(), message, path)
        except OSError as e:
            found[flag] = f"{path}: {e.strerror}"
        except (SpecError, UnicodeDecodeError) as e:
            found[flag] = str(e)
    return found


def configured(flags: Parsed, mounts: Mapping[str, str] | None) -> tuple[tuple[Model, ...], str]:
    """The models that a command line names, and why its config file can't be used."""
    file, base = str(flags.values["model_config_file"]), str(flags.values["model_base_path"])
    if not file:
        return ((Model(str(flags.values["model_name"]), base),) if base else ()), ""
    here = file if mounts is None else host_path(file, mounts)
    if here is None:
        return (), f"nothing is mounted at {file}"
    try:
        config = read_config(Path(here))
    except SpecError as e:
        return (), str(e)
    if config is None:
        return (), f"{file} doesn't exist"
    return tuple(_entry(e) for e in config.model_config_list.config), ""


def _entry(e: config_pb2.ModelConfig) -> Model:
    policy = e.model_version_policy
    wanted = frozenset(policy.specific.versions) if policy.WhichOneof("policy_choice") == "specific" else None
    platform = e.model_platform or ("tensorflow" if e.model_type == config_pb2.TENSORFLOW else "")
    return Model(e.name, e.base_path, wanted=wanted, labels=dict(e.version_labels), platform=platform)


def located(model: Model, mounts: Mapping[str, str] | None, user: str | None) -> Model:
    """The model with what is on this machine's disk, if it is on this machine's disk."""
    if not model.base_path.startswith("/"):
        return model
    here = model.base_path if mounts is None else host_path(model.base_path, mounts)
    if here is None:
        return replace(model, there="unmounted", found=frozenset())
    if not Path(here).is_absolute():  # a volume of the engine's
        return model
    return looked_at(replace(model, path=here), user)



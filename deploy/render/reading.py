"""An existing models.config as a spec: the way in for people who have a server already."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec
import yaml

from deploy import files
from deploy.errors import SpecError
from deploy.naming import check_name
from deploy.spec import ModelSpec, SpecFile
from deploy.spec.constraints import local
from deploy.types import All, Specific
from deploy.wire import serving_pb2 as pb
from deploy.wire.model_config import policy_of
from deploy.wire.text import from_text


def spec_file(models_config: str | Path) -> SpecFile:
    """The spec that renders to the same served models. Raises SpecError naming file and place."""
    path = Path(models_config)
    try:
        text = files.read_text(path)
    except OSError as e:
        raise SpecError(f"can't read the config file {path}: {files.reason(e)}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path} isn't text", hint="name a models.config in protobuf's text format") from None
    config = from_text(text, pb.ModelServerConfig, str(path))
    if config.WhichOneof("config") != "model_config_list":
        raise SpecError("expected a model_config_list", path=str(path), hint="custom model configs can't be converted")
    entries = config.model_config_list.config
    models = [_model(entry, f"{path}: config/{i}") for i, entry in enumerate(entries)]
    roots = {str(PurePosixPath(entry.base_path).parent) for entry in entries}
    # PurePosixPath makes one slash of the two in an address
    remote = any(":/" in e.base_path for e in entries)
    in_one_root = len(roots) == 1 and not remote and all(PurePosixPath(e.base_path).name == e.name for e in entries)
    if in_one_root:
        models = [msgspec.structs.replace(m, base_path=None) for m in models]
    return SpecFile(models=models, repository=roots.pop() if in_one_root else "models")


def not_local(file: SpecFile) -> Iterator[str]:
    """A sentence for each model whose base path is no directory of this machine, so that nothing here can serve it."""
    for i, model in enumerate(file.models):
        try:
            local(model.base_path or ".", f"models/{i}/base_path")
        except SpecError as e:
            yield str(e)


def to_yaml(file: SpecFile) -> str:
    """The file's text, without what is default anyway."""
    return str(yaml.safe_dump(msgspec.to_builtins(file), sort_keys=False))


def _model(entry: pb.ModelConfig, where: str) -> ModelSpec:
    check_name(entry.name, f"{where}: model name")
    if entry.model_platform not in ("", "tensorflow"):
        raise SpecError(f"platform {entry.model_platform!r} is not supported", path=f"{where}/model_platform",
                        hint="only tensorflow is")
    policy = policy_of(entry)
    versions: int | list[int] | str | dict[str, int] = "latest"
    if isinstance(policy, All):
        versions = "all"
    elif isinstance(policy, Specific):
        versions = list(policy.versions)
    elif policy.count > 1:
        versions = {"latest": policy.count}
    return ModelSpec(name=entry.name, versions=versions, labels=dict(entry.version_labels), base_path=entry.base_path)

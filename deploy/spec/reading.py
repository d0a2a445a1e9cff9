"""From the text of a serving.yaml to a checked Spec: names, versions, labels and duplicates need more than a type."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

import msgspec

from deploy import files
from deploy.errors import SpecError
from deploy.naming import check_name, check_version
from deploy.spec.format import ComparePart, ModelSpec, RolloutPart, ServerPart, SmokePart, Spec, SpecFile
from deploy.spec.messages import readable, unknown_keys, unusable
from deploy.spec.paths import directory, state_root
from deploy.spec.server import checked_server
from deploy.spec.yaml_text import MOST_BYTES, read_yaml
from deploy.types import All, Latest, ServedModel, Specific, VersionPolicy

_PLAIN = re.compile(r"""^(name|state):[ \t]*["']?([^"'#\r\n]+?)["']?[ \t]*(?:#.*)?$""", re.MULTILINE)


def load_spec(path: str | Path) -> Spec:
    """Read and check a serving.yaml. Raises SpecError naming the file and the path in it."""
    path = Path(path).absolute()
    try:
        text = files.read_given(path, MOST_BYTES)
    except OSError as e:
        raise SpecError(f"can't read the spec {path}: {files.reason(e)}",
                        hint="name one with --spec, or write one with `tfs init`") from None
    try:
        return parse(text, path)
    except SpecError as e:
        raise SpecError(f"{path.name}: {e.message}", hint=e.hint, details={**e.details, "path": e.path}) from None


def parse(text: bytes | str, path: Path) -> Spec:
    """As `load`, of text that stands (or would stand) at `path`. Raises SpecError."""
    data = read_yaml(text)
    if not isinstance(data, dict):
        raise SpecError(f"expected a mapping with `models`, got {_kind(data)}")
    for problem in chain(unknown_keys(data, SpecFile, ""), unusable(data)):
        raise problem
    try:
        file = msgspec.convert(data, SpecFile)
    except msgspec.ValidationError as e:
        raise readable(e, data) from None
    return checked(file, path)


def checked(file: SpecFile, path: Path) -> Spec:
    """The rules that types can't say. Raises SpecError at the first one broken."""
    name = _name(file, path)
    repository = directory(file.repository, path.parent, "repository")
    models = tuple(_model(m, repository, path.parent, f"models/{i}") for i, m in enumerate(file.models))
    if not models:
        raise SpecError("no model is named", path="models", hint="list at least one: - name: my_model")
    seen: dict[str, int] = {}
    for i, model in enumerate(models):
        if model.name in seen:
            raise SpecError(f"model {model.name!r} stands here and at models/{seen[model.name]}",
                            path=f"models/{i}/name", hint="give each model one entry; list its versions there")
        seen[model.name] = i
    server = checked_server(file.server, path.parent)
    return Spec(name=name, path=path, repository=repository, models=models, server=server, smoke=file.smoke,
                rollout=_rollout(file.rollout, path),
                allow={model.name: dict(model.allow) for model in file.models if model.allow},
                state=state_root(file.state, path))


def bare(path: str | Path) -> Iterator[Spec]:
    """What a spec that can't be read any more may have been, without its models: by the names that it may have had."""
    path = Path(path).absolute()
    try:
        text = files.read_bytes(path, MOST_BYTES).decode(errors="replace")
    except OSError:
        text = ""
    found = dict(_PLAIN.findall(text))
    root = state_root(found.get("state"), path)
    for name in dict.fromkeys((found.get("name"), path.stem)):
        with suppress(SpecError):
            if name is not None:
                yield Spec(name=check_name(name), path=path, repository=path.parent, models=(), server=ServerPart(),
                           smoke=SmokePart(), state=root)


def _name(file: SpecFile, path: Path) -> str:
    """What the server is called: two specs in one directory are two servers, also if neither says its name."""
    if file.name is not None:
        _at("name", check_name, file.name, "name")
        return file.name
    try:
        return check_name(path.stem, "name")
    except SpecError:
        raise SpecError(f"the file's name {path.stem!r} can't be the server's", path="name",
                        hint="give the server another one: `name: my-server`") from None


def _rollout(part: RolloutPart, path: Path) -> RolloutPart:
    _at("rollout/label", check_name, part.label, "label")
    if part.canary_label is not None:
        _at("rollout/canary", check_name, part.canary_label, "label")
    if part.canary_label == part.label:
        raise SpecError(f"the canary needs a label of its own, got {part.label!r} twice", path="rollout/canary")
    compare = part.compare
    if isinstance(compare, ComparePart) and compare.requests is not None:
        requests = str((path.parent / compare.requests).resolve())
        return msgspec.structs.replace(part, compare=msgspec.structs.replace(compare, requests=requests))
    return part


def _model(model: ModelSpec, repository: Path, beside: Path, where: str) -> ServedModel:
    _at(f"{where}/name", check_name, model.name)
    policy = _policy(model.versions, f"{where}/versions")
    for label, version in model.labels.items():
        here = f"{where}/labels/{label}"
        _at(here, check_name, label, "label")
        _at(here, check_version, version)
        if isinstance(policy, Specific) and version not in policy.versions:
            raise SpecError(f"version {version} is not served", path=here,
                            hint=f"add it to {where}/versions, or point the label to one of "
                                 f"{', '.join(map(str, policy.versions))}")
    base = (repository / model.name if model.base_path is None else
            directory(model.base_path, beside, f"{where}/base_path"))
    return ServedModel(model.name, str(base), policy, dict(model.labels))


def _policy(versions: int | str | list[int] | dict[str, int], where: str) -> VersionPolicy:
    if versions == "latest":
        return Latest(1)
    if versions == "all":
        return All()
    if isinstance(versions, dict):
        if set(versions) != {"latest"}:
            raise SpecError(f"expected {{latest: N}}, got {{{', '.join(versions)}: ...}}", path=where)
        return Latest(versions["latest"])
    numbers = versions if isinstance(versions, list) else [int(versions)]
    if not numbers:
        raise SpecError("the list is empty, so the model would never be served", path=where,
                        hint="name at least one version, or use latest")
    for i, number in enumerate(numbers):
        here = f"{where}/{i}" if isinstance(versions, list) else where
        _at(here, check_version, number)
        if number in numbers[:i]:
            raise SpecError(f"version {number} stands in the list twice", path=here, hint="name each version once")
    return Specific(tuple(numbers))


def _at(path: str, check: Callable[..., object], *values: object) -> None:
    """Run a check of deploy.types; its message gets this path."""
    try:
        check(*values)
    except SpecError as e:
        raise SpecError(e.message, path=path, hint=e.hint) from None


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"

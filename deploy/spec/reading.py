"""From a file's text to a checked Spec.

YAML as people mean it: a key that stands twice, or isn't text, is a mistake with a line, not a lost value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import yaml

from deploy import files
from deploy.addresses import Address
from deploy.errors import SpecError
from deploy.naming import check_name, check_version
from deploy.spec import freeze, servers
from deploy.spec.constraints import checked_lock, checked_server, directory, local_repository, state_root
from deploy.spec.format import ComparePart, ModelSpec, RolloutPart, SmokePart, Spec, SpecFile
from deploy.spec.messages import readable, unknown_keys, unusable
from deploy.spec.remote import check_models
from deploy.spec.server import ServerPart
from deploy.spec.servers import ServerEntry
from deploy.types import All, Latest, ServedModel, Specific, VersionPolicy

MOST_BYTES = 1 << 20  # a thousand models take about 100 kB

_PLAIN = re.compile(r"""^(name|state):[ \t]*["']?([^"'#\r\n]+?)["']?[ \t]*(?:#.*)?$""", re.MULTILINE)


def read_yaml(text: bytes | str) -> Any:
    """The data of one YAML document. Raises SpecError naming line and column."""
    if len(text) > MOST_BYTES:
        raise SpecError(f"expected at most {MOST_BYTES:,} bytes, got {len(text):,}", hint="is it the right file?",
                        id="not-yaml")
    try:
        return yaml.load(text, _Loader)  # noqa: S506 -- a SafeLoader
    except yaml.reader.ReaderError as e:
        encoding = getattr(e, "encoding", "")
        raise SpecError(f"not valid YAML: it isn't text in {'UTF-8' if 'utf' not in encoding else encoding.upper()}",
                        hint="save it as UTF-8", id="not-yaml") from None
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise SpecError(f"not valid YAML: {where}{_problem(e)}", id="not-yaml") from None
    except RecursionError:
        raise SpecError("not valid YAML: it is nested too deeply", id="not-yaml") from None
    except (ValueError, OverflowError) as e:  # a number of thousands of digits, a 13th month
        raise SpecError(f"not valid YAML: {str(e).partition(';')[0]}", id="not-yaml") from None


def _problem(error: yaml.YAMLError) -> str:
    problem = str(getattr(error, "problem", None) or error)
    return f"{problem}; indent with spaces" if r"'\t'" in problem else problem


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses what it would lose."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: Any) -> Any:
        made = super().construct_yaml_int(node)
        if re.fullmatch(r"[-+]?(0[0-9_]+|[0-9_]+(:[0-5]?[0-9])+)", node.value):
            raise SpecError(f"line {node.start_mark.line + 1}: YAML reads {node.value} as the number {made}",
                            hint=f"write {made}, or put it in quotes if it is text: '{node.value}'", id="yaml-type")
        return made


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _check_keys(node: yaml.MappingNode) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise SpecError(f"line {line}: expected a name as key, got a {key.id}", id="not-yaml")
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        if key.tag != "tag:yaml.org,2002:str":
            kind = key.tag.rpartition(":")[2].replace("bool", "true or false").replace("null", "nothing")
            raise SpecError(f"line {line}: the key {key.value} isn't text: YAML reads it as {kind}",
                            hint=f"put it in quotes: '{key.value}'", id="yaml-type")
        if key.value in lines:
            raise SpecError(f"line {line}: the key {key.value!r} stands in line {lines[key.value]} already",
                            hint="one of the two would be lost; merge them", id="duplicate-key")
        lines[key.value] = line


def load_spec(path: str | Path) -> Spec:
    """Read and check a serving.yaml. Raises SpecError naming the file and the path in it."""
    path = Path(path).absolute()
    try:
        text = files.read_given(path, MOST_BYTES)
    except OSError as e:
        raise SpecError(f"can't read the spec {path}: {files.reason(e)}",
                        hint="name one with --spec, or write one with `tfs init`", id="no-spec") from None
    try:
        return parse(text, path)
    except SpecError as e:
        raise SpecError(f"{path.name}: {e.message}", hint=e.hint, id=e.id,
                        details={**e.details, "path": e.path}) from None


def parse(text: bytes | str, path: Path) -> Spec:
    """As `load`, of text that stands (or would stand) at `path`. Raises SpecError."""
    data = read_yaml(text)
    if not isinstance(data, dict):
        raise SpecError(f"expected a mapping with `models`, got {_kind(data)}", id="wrong-value")
    file = _converted(data)
    spec = checked(file, path)
    if file.servers is None:
        return spec
    servers.check_entries(file.servers)
    members = tuple(_member(data, i, entry, spec) for i, entry in enumerate(file.servers))
    servers.check_addresses([member.server for member in members])
    return msgspec.structs.replace(spec, servers=members)


def _member(data: dict[str, Any], number: int, entry: ServerEntry, fleet: Spec) -> Spec:
    """The spec of one server of several."""
    with servers.rebased(f"servers/{number}", within=("server", "repository", "mirror", "name")):
        alone = servers.merged(data, data["servers"][number], f"{fleet.name}.{entry.name}")
        member = checked(_converted(alone), fleet.path)
    return msgspec.structs.replace(member, fleet=fleet.name, groups=tuple(entry.groups))


def _converted(data: dict[str, Any]) -> SpecFile:
    for problem in chain(unknown_keys(data, SpecFile, ""), unusable(data)):
        raise problem
    try:
        return msgspec.convert(data, SpecFile)
    except msgspec.ValidationError as e:
        raise readable(e, data) from None


def checked(file: SpecFile, path: Path) -> Spec:
    """The rules that types can't say. Raises SpecError at the first one broken."""
    name = _name(file, path)
    remote = Address.parse(file.repository, "repository")
    state = state_root(file.state, path)
    repository = local_repository(file, remote, state, path.parent)
    models = tuple(_model(m, repository, path.parent, f"models/{i}") for i, m in enumerate(file.models))
    if not models:
        raise SpecError("no model is named", path="models", hint="list at least one: - name: my_model",
                        id="no-model-named")
    seen: dict[str, int] = {}
    for i, model in enumerate(models):
        if model.name in seen:
            raise SpecError(f"model {model.name!r} stands here and at models/{seen[model.name]}",
                            path=f"models/{i}/name", hint="give each model one entry; list its versions there",
                            id="duplicate-key")
        seen[model.name] = i
    server = checked_server(file.server, path.parent, shared=file.servers is not None)
    if server.remote is not None:
        check_models(server.remote, seen)
    return Spec(name=name, path=path, repository=repository, models=models, server=server, smoke=file.smoke,
                rollout=_rollout(file.rollout, path),
                allow={model.name: dict(model.allow) for model in file.models if model.allow},
                state=state, remote=str(remote) if remote else None,
                signed_by=tuple((path.parent / signer).resolve() for signer in file.signed_by))


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
                        hint="give the server another one: `name: my-server`", id="bad-name") from None


def _rollout(part: RolloutPart, path: Path) -> RolloutPart:
    _at("rollout/label", check_name, part.label, "label")
    if part.canary_label is not None:
        _at("rollout/canary", check_name, part.canary_label, "label")
    if part.canary_label == part.label:
        raise SpecError(f"the canary needs a label of its own, got {part.label!r} twice", path="rollout/canary",
                        id="wrong-value")
    freeze.check(part.freeze, "rollout/freeze")
    servers.check_waves(part.waves)
    if part.lock is not None:
        part = msgspec.structs.replace(part, lock=checked_lock(part.lock, path.parent))
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
                                 f"{', '.join(map(str, policy.versions))}", id="version-not-served")
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
            raise SpecError(f"expected {{latest: N}}, got {{{', '.join(versions)}: ...}}", path=where, id="wrong-value")
        return Latest(versions["latest"])
    numbers = versions if isinstance(versions, list) else [int(versions)]
    if not numbers:
        raise SpecError("the list is empty, so the model would never be served", path=where,
                        hint="name at least one version, or use latest", id="no-model-named")
    for i, number in enumerate(numbers):
        here = f"{where}/{i}" if isinstance(versions, list) else where
        _at(here, check_version, number)
        if number in numbers[:i]:
            raise SpecError(f"version {number} stands in the list twice", path=here, hint="name each version once",
                            id="duplicate-key")
    return Specific(tuple(numbers))


def _at(path: str, check: Callable[..., object], *values: object) -> None:
    """Run a check of deploy.types; its message gets this path."""
    try:
        check(*values)
    except SpecError as e:
        raise SpecError(e.message, path=path, hint=e.hint, id=e.id) from None


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"

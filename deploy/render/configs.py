"""What a server reads: its config files as protobuf text, its command line, and where it finds things; and an existing
models.config as a spec, the way in for people who have a server already.

The one place that writes tensorflow_model_server's flags. Same values, same bytes; each text is parsed back and
compared before anyone gets to see it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import msgspec
import yaml
from google.protobuf.message import Message

from deploy.errors import SpecError
from deploy.files import read_text, reason
from deploy.naming import check_name
from deploy.spec import Batching, ModelSpec, ServerPart, Spec, SpecFile
from deploy.spec.constraints import local
from deploy.types import All, ServedModel, Specific
from deploy.wire import serving_pb2 as pb
from deploy.wire.model_config import policy_of, set_served
from deploy.wire.text import from_text, to_text

MODELS, BATCHING, MONITORING, PLATFORM = "models.config", "batching.config", "monitoring.config", "platform.config"
TLS = "ssl.config"  # with a private key in it, so it is none of `files`
_ADAPTER = "type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig"
PROGRAM = "/usr/bin/tensorflow_model_server"  # in an image
GRPC_PORT, REST_PORT = 8500, 8501  # inside of a container; outside it's the spec's
MODELS_MOUNT = PurePosixPath("/models")
CONFIG_MOUNT = PurePosixPath("/etc/tfs")
# Without these a version that can't load keeps both ports closed for five minutes, then ends the server anyway.
# The server's own limit of 4 calls per core refuses those beyond it at once: on 2 cores 8 clients see that. Threads
# start when calls come, so a high limit costs nothing.
_DEFAULT_FLAGS: Mapping[str, object] = {"max_num_load_retries": 0, "file_system_poll_wait_seconds": 1,
                                        "grpc_max_threads": 256}


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths as the server sees them.

    base_paths: model name -> directory of its version directories.
    config_dir: directory of the rendered files.
    """

    base_paths: Mapping[str, str]
    config_dir: str

    def config(self, name: str) -> str:
        return f"{self.config_dir}/{name}"


def host_layout(spec: Spec, config_dir: str | Path) -> Layout:
    """For a process on this machine: the models where they are."""
    return Layout({m.name: m.base_path for m in spec.models}, str(config_dir))


def mounted_layout(spec: Spec) -> Layout:
    """For a container: each model below /models, the rendered files in /etc/tfs."""
    return Layout({m.name: str(MODELS_MOUNT / m.name) for m in spec.models}, str(CONFIG_MOUNT))


def files(spec: Spec, layout: Layout) -> dict[str, str]:
    """File name -> text of every config file that this spec needs."""
    messages: dict[str, Message] = {MODELS: models_config(spec.models, layout.base_paths)}
    server = spec.server
    if server.platform_file:
        messages[PLATFORM] = _platform(spec)
    elif server.batching:
        messages[BATCHING] = _batching(server.batching)
    if server.monitoring:
        messages[MONITORING] = pb.MonitoringConfig(prometheus_config=pb.PrometheusConfig(
            enable=server.monitoring.enable, path=server.monitoring.path))
    return {name: _header(name, spec) + _text(message, name) for name, message in messages.items()}


def models_config(models: Iterable[ServedModel], base_paths: Mapping[str, str]) -> pb.ModelServerConfig:
    """The message for --model_config_file and for a reload. The list is there even if it is empty:
    the server takes an empty list, but refuses a config without one."""
    config = pb.ModelServerConfig()
    config.model_config_list.SetInParent()
    for model in models:
        entry = config.model_config_list.config.add(
            name=model.name, base_path=base_paths[model.name], model_platform="tensorflow")
        set_served(entry, model.versions, model.labels)
    return config


def ssl_config(certificate: str, key: str, client_ca: str | None) -> str:
    """The text of the SSLConfig file, from PEM texts. client_ca: whose clients are let in; None: any, without one."""
    return _text(pb.SSLConfig(server_cert=certificate, server_key=key, custom_ca=client_ca or "",
                              client_verify=client_ca is not None), TLS)


def _batching(batching: Batching) -> pb.BatchingParameters:
    message = pb.BatchingParameters(allowed_batch_sizes=batching.allowed_batch_sizes,
                                    pad_variable_length_inputs=batching.pad_variable_length_inputs)
    for name in ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"):
        value = getattr(batching, name)
        if value is not None:
            getattr(message, name).value = value
    return message


def _platform(spec: Spec) -> pb.PlatformConfigMap:
    """What the flags would say, as the session config of the platform `tensorflow`."""
    adapter = pb.SavedModelBundleSourceAdapterConfig()
    session, server = adapter.legacy_config, spec.server
    session.enable_model_warmup = True  # as without the file; its own default is no warm-up
    session.session_config.intra_op_parallelism_threads = server.threads.intra_op or 0
    session.session_config.inter_op_parallelism_threads = server.threads.inter_op or 0
    if server.resources.gpu_memory_fraction:
        session.session_config.gpu_options.per_process_gpu_memory_fraction = server.resources.gpu_memory_fraction
    if server.batching:
        session.batching_parameters.CopyFrom(_batching(server.batching))
    platforms = pb.PlatformConfigMap()
    source = platforms.platform_configs["tensorflow"].source_adapter_config
    source.type_url, source.value = _ADAPTER, adapter.SerializeToString(deterministic=True)
    return platforms


def _text(message: Message, name: str) -> str:
    text = to_text(message)
    if from_text(text, type(message), name) != message:  # a bug of ours, and the last moment to notice it
        raise AssertionError(f"{name} doesn't parse back to what was rendered")
    return text


def _header(name: str, spec: Spec) -> str:
    return f"# {name} of {spec.name!r}, rendered by tfs from {spec.path.name}: edit that file, not this one.\n"


def argv(spec: Spec, layout: Layout, grpc_port: int, rest_port: int) -> list[str]:
    """The flags, sorted as they are written here; no program name.

    `--flag=value` throughout: the server takes `--flag value` for an unknown flag and goes on without it.
    """
    flags = {**_DEFAULT_FLAGS, **dict(_flags(spec, layout, grpc_port, rest_port)), **spec.server.flags}
    return [flag_text(name, value) for name, value in flags.items()]


def flag_text(name: str, value: object) -> str:
    """One argument."""
    return f"--{name}={str(value).lower() if isinstance(value, bool) else value}"


def _flags(spec: Spec, layout: Layout, grpc_port: int, rest_port: int) -> Iterator[tuple[str, object]]:
    server, threads = spec.server, spec.server.threads
    yield "port", grpc_port
    yield "rest_api_port", rest_port
    yield "model_config_file", layout.config(MODELS)
    # Labels are refused at start otherwise, even for versions about to load; and a rollout may have added some since
    yield "allow_version_labels_for_unavailable_models", True
    if server.tls:
        yield "ssl_config_file", layout.config(TLS)
    if server.platform_file:
        yield "platform_config_file", layout.config(PLATFORM)
    else:
        yield from _session_flags(spec, layout)
    if server.monitoring:
        yield "monitoring_config_file", layout.config(MONITORING)
    for name, value in (("rest_api_num_threads", threads.rest), ("grpc_max_threads", threads.grpc_max),
                        ("num_load_threads", threads.load)):
        if value is not None:
            yield name, value


def _session_flags(spec: Spec, layout: Layout) -> Iterator[tuple[str, object]]:
    server, threads = spec.server, spec.server.threads
    if server.batching:
        yield "enable_batching", True
        yield "batching_parameters_file", layout.config(BATCHING)
    for name, value in (("tensorflow_intra_op_parallelism", threads.intra_op),
                        ("tensorflow_inter_op_parallelism", threads.inter_op),
                        ("per_process_gpu_memory_fraction", server.resources.gpu_memory_fraction)):
        if value is not None:
            yield name, value


def spec_file(models_config: str | Path) -> SpecFile:
    """The spec that renders to the same served models. Raises SpecError naming file and place."""
    path = Path(models_config)
    try:
        text = read_text(path)
    except OSError as e:
        raise SpecError(f"can't read the config file {path}: {reason(e)}",
                        hint="name a server's models.config; without one: `tfs init`", id="config-unreadable") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path} isn't text", hint="name a models.config in protobuf's text format",
                        id="config-unreadable") from None
    config = from_text(text, pb.ModelServerConfig, str(path))
    if config.WhichOneof("config") != "model_config_list":
        raise SpecError("expected a model_config_list", path=str(path), hint="custom model configs can't be converted",
                        id="config-unreadable")
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


_EXPLAINED = {
    "repository": "where the versions are: <repository>/<model>/<version>/; relative to this file",
    "name": "what clients ask for: POST /v1/models/{name}:predict",
    "versions": "[3]: exactly that one; latest: the newest there is; all: every one",
    "labels": "names for versions: clients ask for {name}@stable, and `tfs rollout` moves it",
    "base_path": "the directory of its version directories",
}


def to_yaml(file: SpecFile) -> str:
    """The file's text, without what is default anyway, and with what each key means where it stands first."""
    data, explained = msgspec.to_builtins(file), dict(_EXPLAINED)
    models, server = data.pop("models"), ServerPart()
    if not all("base_path" in model for model in models):
        data = {"repository": file.repository, **data}
    lines = ["# What is served, and how. Edit it, then: tfs up. All keys: tfs schema", ""]
    lines += [_entry("", key, value, explained, "") for key, value in data.items()] + [""] * bool(data) + ["models:"]
    for model in models:
        begins = ["  - ", *["    "] * len(model)]
        lines += [_entry(start, key, value, explained, model["name"])
                  for start, (key, value) in zip(begins, model.items(), strict=False)]
    lines += ["", "# Defaults; take the # away to change them", "# server:"] + [
        f"{f'#   {key}: {value}':<33} # {why}" for key, value, why in (
            ("backend", server.backend, "a container if Docker and the image are there, else embedded; or process"),
            ("image", server.image, ""), ("grpc_port", server.grpc_port, "0: any free one; `tfs status` tells which"),
            ("rest_port", server.rest_port, ""))]
    return "\n".join(line.removesuffix("# ").rstrip() for line in lines) + "\n"


def _entry(start: str, key: str, value: object, explained: dict[str, str], name: str) -> str:
    """One key with its value on one line, explained the first time."""
    text = yaml.safe_dump({key: value}, default_flow_style=True, width=float("inf"), allow_unicode=True).strip()[1:-1]
    comment = explained.pop(key, "").format(name=name)
    return f"{start + text:<33} # {comment}" if comment else start + text


def _model(entry: pb.ModelConfig, where: str) -> ModelSpec:
    check_name(entry.name, f"{where}: model name")
    if entry.model_platform not in ("", "tensorflow"):
        raise SpecError(f"platform {entry.model_platform!r} is not supported", path=f"{where}/model_platform",
                        hint="only tensorflow is", id="config-unreadable")
    policy = policy_of(entry)
    versions: int | list[int] | str | dict[str, int] = "latest"
    if isinstance(policy, All):
        versions = "all"
    elif isinstance(policy, Specific):
        versions = list(policy.versions)
    elif policy.count > 1:
        versions = {"latest": policy.count}
    return ModelSpec(name=entry.name, versions=versions, labels=dict(entry.version_labels), base_path=entry.base_path)

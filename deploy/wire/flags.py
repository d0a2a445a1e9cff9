"""tensorflow_model_server's command line: every flag that it knows (2.20), typed values, and how it parses them.

Flags that begin with `tfs_` are the embedded server's own: what it does better is off by default. `docs/modelserver.md`
has the table of them. Parsing is TensorFlow's: `--name=value`, and `--name` alone for true. A boolean takes true, false
(in any case), 1 and 0. The first argument that is no flag, or stands behind a `--`, is reported, the others are ignored
without a word. Source: xla/tsl/util/command_line_flags.cc.

It stands here, and not in spec/, since the embedded server's image has neither msgspec nor YAML.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
Value = bool | int | float | str
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. Its type is its default's. `ignored`: accepted, but without effect here."""

    name: str
    default: Value
    help: str
    ignored: bool = False

    @property
    def kind(self) -> str:
        return {bool: "bool", int: "int", float: "float", str: "string"}[type(self.default)]


@dataclass(frozen=True, slots=True)
class Parsed:
    """The values of all flags, and what was wrong: whether to end with the usage text, arguments that are no flags."""

    values: Mapping[str, Value]
    given: frozenset[str]
    bad: bool
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Options:
    """The flags' values; a field's name is the flag's."""

    port: int = 8500
    grpc_socket_path: str = ""
    rest_api_port: int = 0
    rest_api_num_threads: int = 4 * CPUS
    rest_api_timeout_in_ms: int = 30000
    rest_api_enable_cors_support: bool = False
    enable_batching: bool = False
    allow_version_labels_for_unavailable_models: bool = False
    batching_parameters_file: str = ""
    enable_per_model_batching_parameters: bool = False
    model_config_file: str = ""
    model_config_file_poll_wait_seconds: int = 0
    model_name: str = "default"
    model_base_path: str = ""
    num_load_threads: int = 0
    num_unload_threads: int = 0
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    file_system_poll_wait_seconds: int = 1
    tensorflow_session_parallelism: int = 0
    tensorflow_intra_op_parallelism: int = 0
    tensorflow_inter_op_parallelism: int = 0
    tensorflow_session_config_file: str = ""
    use_alts_credentials: bool = False
    ssl_config_file: str = ""
    saved_model_tags: str = "serve"
    grpc_channel_arguments: str = ""
    grpc_max_threads: int = 4 * CPUS
    enable_model_warmup: bool = True
    num_request_iterations_for_warmup: int = 0
    version: bool = False
    monitoring_config_file: str = ""
    platform_config_file: str = ""
    prefer_tflite_model: bool = False
    xla_cpu_compilation_enabled: bool = False
    num_tflite_pools: int = CPUS
    enable_signature_method_name_check: bool = False
    enable_grpc_healthcheck_service: bool = False
    enable_serialization_as_tensor_content: bool = False
    tfs_bind_address: str = "127.0.0.1"
    tfs_drain_seconds: float = 0.0
    tfs_fail_on_taken_port: bool = False
    tfs_loader: str = "engine"
    tfs_grpc_max_held_bytes: int = 0
    tfs_grpc_max_connections: int = 0
    tfs_grpc_stall_seconds: int = 60
    tfs_rest_max_body_bytes: int = 256 << 20
    tfs_rest_max_held_bytes: int = 1 << 30
    tfs_rest_max_values: int = 1 << 24
    tfs_rest_max_connections: int = 8192
    tfs_rest_head_seconds: int = 60
    tfs_rest_idle_seconds: int = 600
    tfs_rest_stall_seconds: int = 60

    @classmethod
    def of(cls, values: Mapping[str, Value]) -> Options:
        """From parsed flags; those without effect are left out."""
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})  # type: ignore[arg-type]


_HELP = {
    "port": "TCP port of the gRPC API; 0: none (then --grpc_socket_path is needed)",
    "grpc_socket_path": "UNIX socket of the gRPC API, beside the TCP port",
    "rest_api_port": "TCP port of the REST API; 0: no REST API. Must differ from --port",
    "rest_api_num_threads": "threads that answer REST requests",
    "rest_api_timeout_in_ms": "longest run of a REST request",
    "rest_api_enable_cors_support": "add CORS headers to REST replies",
    "enable_batching": "collect requests into batches",
    "allow_version_labels_for_unavailable_models": "let new labels point to versions that are not loaded",
    "batching_parameters_file": "text protobuf BatchingParameters",
    "enable_per_model_batching_parameters": "read batching_params.pbtxt in each version's directory",
    "model_config_file": "text protobuf ModelServerConfig; --model_name and --model_base_path are ignored then",
    "model_config_file_poll_wait_seconds": "seconds between two looks at --model_config_file; 0: only at the start",
    "model_name": "name of the only model",
    "model_base_path": "directory with the version directories of the only model",
    "num_load_threads": "threads that load versions; 0: one after the other",
    "num_unload_threads": "threads that unload versions; 0: one after the other",
    "max_num_load_retries": "how often a failed load is tried again",
    "load_retry_interval_micros": "pause before a failed load is tried again",
    "file_system_poll_wait_seconds": "seconds between two looks at the base paths; 0: only at the start; < 0: never",
    "tensorflow_session_parallelism": "threads of a session, for both intra and inter op parallelism",
    "tensorflow_intra_op_parallelism": "threads within one op",
    "tensorflow_inter_op_parallelism": "ops that run at the same time",
    "tensorflow_session_config_file": "text protobuf ConfigProto; of it, the numbers of threads count here",
    "use_alts_credentials": "Google ALTS (refused here)",
    "ssl_config_file": "text protobuf SSLConfig: TLS for gRPC",
    "saved_model_tags": "comma-separated tags of the meta graph to load",
    "grpc_channel_arguments": "key=value,... for gRPC; here grpc.so_reuseport and limits (docs/modelserver.md)",
    "grpc_max_threads": "limit of gRPC calls that run at the same time, plus one",
    "enable_model_warmup": "replay assets.extra/tf_serving_warmup_requests before a version is available",
    "num_request_iterations_for_warmup": "how often each warm-up request is replayed",
    "version": "print versions and end",
    "monitoring_config_file": "text protobuf MonitoringConfig: Prometheus page on the REST port",
    "platform_config_file": "text protobuf PlatformConfigMap, in place of the flags for sessions, batching and warm-up",
    "xla_cpu_compilation_enabled": "run what XLA has to compile: models of JAX, functions with jit_compile",
    "prefer_tflite_model": "serve model.tflite where a version has one",
    "num_tflite_pools": "TFLite interpreters per version: runs of it that go on at the same time",
    "enable_signature_method_name_check": "classify and regress need a signature with that method",
    "enable_grpc_healthcheck_service": "offer grpc.health.v1.Health",
    "enable_serialization_as_tensor_content": "reply with tensor_content instead of typed values (gRPC)",
    "tfs_bind_address": "address to listen on",
    "tfs_drain_seconds": "on SIGTERM, finish running requests for up to so many seconds, then exit with 0",
    "tfs_fail_on_taken_port": "end with an error if a port is taken, also by a server that shares it",
    "tfs_loader": "engine: serve models; echo: answer with the inputs, without TensorFlow",
    "tfs_grpc_max_held_bytes": "bytes of gRPC requests and replies that are kept at a time; 0: a quarter of the memory",
    "tfs_grpc_max_connections": "gRPC connections at a time; 0: 4096, or half of the open files that are allowed",
    "tfs_grpc_stall_seconds": "longest time in which a gRPC client takes nothing of its replies; 0: any",
    "tfs_rest_max_body_bytes": "longest body of a REST request; 0: any",
    "tfs_rest_max_held_bytes": "bytes of all REST requests that have arrived and aren't answered yet; 0: any",
    "tfs_rest_max_values": "most numbers and strings in a REST request; 0: any",
    "tfs_rest_max_connections": "most REST connections at the same time, files permitting; 0: any",
    "tfs_rest_head_seconds": "longest time for a REST request's headers to arrive; 0: any",
    "tfs_rest_idle_seconds": "longest pause between two requests of a REST connection; 0: any",
    "tfs_rest_stall_seconds": "longest time in which nothing of a REST body arrives, or of a reply is read; 0: any",
}

# Accepted, since the real server does, but without a counterpart here.
_IGNORED: Mapping[str, tuple[Value, str]] = {
    "flush_filesystem_caches": (True, "drop file caches after loading"),
    "per_process_gpu_memory_fraction": (0.0, "share of GPU memory"),
    "remove_unused_fields_from_bundle_metagraph": (True, "save memory"),
    "num_tflite_interpreters_per_pool": (1, "TFLite interpreters per pool"),
    "xla_gpu_compilation_enabled": (False, "XLA:GPU JIT"),
    "enable_profiler": (True, "profiler service"),
    "thread_pool_factory_config_file": ("", "text protobuf ThreadPoolConfig"),
    "mixed_precision": ("", "mixed precision mode"),
    "skip_initialize_tpu": (False, "no TPU initialization"),
    "enforce_session_run_timeout": (False, "end session runs at the request's deadline"),
}

_DEFAULTS = Options()
FLAGS = (*(Flag(name, getattr(_DEFAULTS, name), text) for name, text in _HELP.items()),
         *(Flag(name, default, text, ignored=True) for name, (default, text) in _IGNORED.items()))


class BadValue(Exception):
    """A known flag with a value that isn't one."""


def parse(arguments: Sequence[str], flags: Sequence[Flag]) -> Parsed:
    """Read `arguments` (without the program's name). Never raises."""
    values: dict[str, Value] = {f.name: f.default for f in flags}
    end = arguments.index("--") if "--" in arguments else len(arguments)
    given, unknown, bad = set(), [], False
    for argument in arguments[:end]:
        try:
            match = _match(argument, flags)
        except BadValue:
            bad = True
            continue
        if match:
            values[match[0]] = match[1]
            given.add(match[0])
        else:
            unknown.append(argument)
    unknown += arguments[end:]
    bad = bad or unknown[:1] == ["--help"]
    return Parsed(values, frozenset(given), bad, tuple(unknown))


def _match(argument: str, flags: Sequence[Flag]) -> tuple[str, Value] | None:
    for flag in flags:
        rest = argument.removeprefix(f"--{flag.name}")
        if rest == argument:
            continue
        if not rest and isinstance(flag.default, bool):
            return flag.name, True
        if rest.startswith("="):
            return flag.name, _convert(flag.default, rest[1:])
    return None


def _convert(default: Value, text: str) -> Value:
    if isinstance(default, str):
        return text
    if isinstance(default, bool):
        if text.lower() not in _BOOLEANS:
            raise BadValue(text)
        return _BOOLEANS[text.lower()]
    number = r"\s*[+-]?\d+" if isinstance(default, int) else r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
    if not re.fullmatch(number, text, re.ASCII):
        raise BadValue(text)
    return type(default)(text)


def usage(program: str, flags: Sequence[Flag]) -> str:
    """The text that is printed when arguments can't be read."""
    lines = [f"usage: {program}", "Flags:"]
    for flag in flags:
        shown = f'"{flag.default}"' if isinstance(flag.default, str) else str(flag.default).lower()
        lines.append(f"\t--{flag.name}={shown}\t{flag.kind}\t{flag.help}{' (no effect here)' if flag.ignored else ''}")
    return "\n".join(lines) + "\n"

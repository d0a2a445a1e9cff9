"""tensorflow_model_server's command line. This is the one place that writes its flags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from deploy.render.configs import BATCHING, MODELS, MONITORING, PLATFORM, TLS
from deploy.render.layout import Layout
from deploy.spec import Spec

# Without these a version that can't load keeps both ports closed for five minutes, then ends the server anyway.
# The server's own limit of 4 calls per core refuses those beyond it at once: on 2 cores 8 clients see that. Threads
# start when calls come, so a high limit costs nothing.
_DEFAULTS: Mapping[str, object] = {"max_num_load_retries": 0, "file_system_poll_wait_seconds": 1,
                                   "grpc_max_threads": 256}


def argv(spec: Spec, layout: Layout, grpc_port: int, rest_port: int) -> list[str]:
    """The flags, sorted as they are written here; no program name.

    `--flag=value` throughout: the server takes `--flag value` for an unknown flag and goes on without it.
    """
    flags = {**_DEFAULTS, **dict(_flags(spec, layout, grpc_port, rest_port)), **spec.server.flags}
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

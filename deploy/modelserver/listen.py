"""Opens the two ports: which operation answers which call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from ssl import SSLContext

from deploy.modelserver import config as configs
from deploy.modelserver import grpc_api, info, tensors
from deploy.modelserver.calls import Calls, reload
from deploy.modelserver.core import Core
from deploy.modelserver.examples import Examples
from deploy.modelserver.grpc_api import method, stepwise
from deploy.modelserver.loops import open_files
from deploy.modelserver.metrics import Metrics
from deploy.modelserver.rest import encode, routes
from deploy.modelserver.rest import examples as rest_examples
from deploy.modelserver.rest.http import RestServer
from deploy.modelserver.rpc.server import GrpcServer, Handler
from deploy.modelserver.rpc.sockets import tls_context
from deploy.net.http1.limits import Limits
from deploy.net.http1.messages import Response
from deploy.net.http2 import limits
from deploy.wire import config_pb2, methods
from deploy.wire import serving_pb2 as pb
from deploy.wire.flags import Options

log = logging.getLogger("modelserver")
_LEAST_HELD, _MOST_HELD, _MOST_CONNECTIONS, _MANY, _MOST_INT = 256 << 20, 2 << 30, 4096, 1 << 16, 2**31 - 1
DEFAULT_METRICS_PATH = "/monitoring/prometheus/metrics"


def listen_grpc(core: Core, metrics: Metrics, options: Options, port: int) -> GrpcServer:
    """port: 0 for any free one, if the flags want a port at all.

    Raises StatusError if the port can't be had, or a file that is needed for it can't be read.
    """
    addresses = [f"{options.tfs_bind_address}:{port}"] if options.port else []
    if options.grpc_socket_path:
        addresses.append(f"unix:{options.grpc_socket_path}")
    arguments = channel_arguments(options.grpc_channel_arguments)
    bounds = _limits(arguments, options)
    share = arguments.pop("grpc.so_reuseport", 1) != 0 and not options.tfs_fail_on_taken_port
    if arguments:
        log.warning("--grpc_channel_arguments: %s have no effect here", ", ".join(arguments))
    return GrpcServer(_handlers(core, metrics, options), addresses, max_threads=options.grpc_max_threads, share=share,
                      limits=bounds, tls=_tls(options.ssl_config_file))


def _limits(arguments: dict[str, int], options: Options) -> limits.Limits:
    """What clients may ask: gRPC's own arguments (taken out of `arguments`), and flags."""
    held = options.tfs_grpc_max_held_bytes or max(_LEAST_HELD, min(_MOST_HELD, limits.available_memory() // 4))
    most = options.tfs_grpc_max_connections or max(16, min(_MOST_CONNECTIONS, ((open_files() or _MANY) - 128) // 2))
    message = arguments.pop("grpc.max_receive_message_length", held // 4)
    block = max(arguments.pop("grpc.max_metadata_size", 0), arguments.pop("grpc.absolute_max_metadata_size", 0))
    default = limits.Limits()
    return limits.Limits(
        streams=min(max(0, arguments.pop("grpc.max_concurrent_streams", default.streams)), _MOST_INT),
        message=message if 0 <= message <= _MOST_INT else _MOST_INT, block=block or default.block,
        held=held // 2, held_by_all=held, connections=most,
        handshake=_seconds(arguments.pop("grpc.server_handshake_timeout_ms", None), default.handshake),
        idle=_seconds(arguments.pop("grpc.max_connection_idle_ms", None), default.idle),
        stall=options.tfs_grpc_stall_seconds)


def _seconds(milliseconds: int | None, default: int) -> int:
    """Whole seconds, one at least. gRPC says "never" by the highest number."""
    return default if milliseconds is None else max(1, milliseconds // 1000)


def _handlers(core: Core, metrics: Metrics, options: Options) -> dict[str, Handler]:
    encode = tensors.as_content if options.enable_serialization_as_tensor_content else tensors.typed
    calls = Calls(core, Examples(options.enable_signature_method_name_check), metrics, encode)
    handlers = {
        methods.PREDICT: stepwise(calls.predict, pb.PredictRequest),
        methods.CLASSIFY: method(calls.classify, pb.ClassificationRequest),
        methods.REGRESS: method(calls.regress, pb.RegressionRequest),
        methods.MULTI_INFERENCE: method(calls.multi_inference, pb.MultiInferenceRequest),
        methods.GET_MODEL_METADATA: method(partial(info.model_metadata, core), pb.GetModelMetadataRequest),
        methods.GET_MODEL_STATUS: method(partial(info.model_status, core), pb.GetModelStatusRequest),
        methods.HANDLE_RELOAD_CONFIG_REQUEST: method(reload(core), pb.ReloadConfigRequest),
    }
    if options.enable_grpc_healthcheck_service:
        handlers[grpc_api.HEALTH_CHECK] = grpc_api.health
    return handlers


def channel_arguments(text: str) -> dict[str, int]:
    """`key=value,...` as gRPC takes it, those of whole numbers."""
    pairs = [part.split("=", 1) for part in text.split(",") if "=" in part]
    return {key: int(value) for key, value in pairs if value.removeprefix("-").isdecimal()}


def _tls(file: str) -> SSLContext | None:
    """TLS as an SSLConfig file describes it: PEM texts. Raises StatusError."""
    if not file:
        return None
    config = configs.read_text_proto(file, config_pb2.SSLConfig)
    return tls_context(config.server_key.encode(), config.server_cert.encode(), config.custom_ca.encode() or None,
                       config.client_verify)


def listen_rest(core: Core, metrics: Metrics, options: Options, port: int) -> RestServer:
    """Raises OSError if the port can't be had, StatusError if the monitoring file can't be read."""
    examples = Examples(options.enable_signature_method_name_check)
    calls = {"predict": routes.predict(core, method_check=examples.method_check),
             "classify": rest_examples.classify(core, examples), "regress": rest_examples.regress(core, examples)}
    api = routes.Api(core, metrics, calls, _pages(metrics, options), options.rest_api_enable_cors_support)
    late = Response(504, encode.error("Timed out waiting for notification"))
    timeout = max(0.0, options.rest_api_timeout_in_ms / 1000)

    return RestServer(options.tfs_bind_address, port, api.steps, threads=options.rest_api_num_threads, timeout=timeout,
                      late=late, refusal=api.refusal, limits=_rest_limits(options))


def _rest_limits(options: Options) -> Limits:
    return Limits(body=options.tfs_rest_max_body_bytes, bodies=options.tfs_rest_max_held_bytes,
                  values=options.tfs_rest_max_values, connections=options.tfs_rest_max_connections,
                  head=options.tfs_rest_head_seconds, idle=options.tfs_rest_idle_seconds,
                  stall=options.tfs_rest_stall_seconds)


def _pages(metrics: Metrics, options: Options) -> Mapping[str, Callable[[], bytes]]:
    if not options.monitoring_config_file:
        return {}
    config = configs.read_text_proto(options.monitoring_config_file, config_pb2.MonitoringConfig).prometheus_config
    return {config.path or DEFAULT_METRICS_PATH: metrics.page} if config.enable else {}

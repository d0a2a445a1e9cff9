"""Puts the parts together as the flags say: loader, core, the two ports. `Server` also runs in-process, for tests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from ssl import SSLContext
from threading import Thread

from deploy.modelserver.batching import BatchingLoader, Scheduler
from deploy.modelserver.config import read_text_proto
from deploy.modelserver.core import Core
from deploy.modelserver.examples import Examples
from deploy.modelserver.grpc_api import handlers as grpc_handlers
from deploy.modelserver.grpc_server import GrpcServer
from deploy.modelserver.lifecycle import Lifecycle, Retries
from deploy.modelserver.listening import open_files, tls_context
from deploy.modelserver.loader import Loader
from deploy.modelserver.metrics import Metrics
from deploy.modelserver.rest import encode, routes
from deploy.modelserver.rest.http import RestServer
from deploy.modelserver.source import Look, Poller, look_at_all
from deploy.modelserver.status import Code, Fatal, StatusError, invalid
from deploy.modelserver.warmup import WarmingLoader, reserve
from deploy.net.http1.limits import Limits
from deploy.net.http1.messages import Response
from deploy.net.http2 import limits
from deploy.wire import config_pb2
from deploy.wire.flags import CPUS, Options

log = logging.getLogger("modelserver")
_LEAST_HELD, _MOST_HELD, _MOST_CONNECTIONS, _MANY, _MOST_INT = 256 << 20, 2 << 30, 4096, 1 << 16, 2**31 - 1
DEFAULT_METRICS_PATH = "/monitoring/prometheus/metrics"


def check(options: Options) -> None:
    """Raises StatusError for flags that don't go together, in the real server's order."""
    if not options.port and not options.grpc_socket_path:
        raise invalid("At least one of server_options.grpc_port or server_options.grpc_socket_path must be set.")
    if options.use_alts_credentials and options.ssl_config_file:
        raise invalid("Either use_alts_credentials must be false or ssl_config_file must be empty")
    if not options.model_base_path and not options.model_config_file:
        raise invalid("Both server_options.model_base_path and server_options.model_config_file are empty!")
    if options.platform_config_file:
        return
    if options.batching_parameters_file and not options.enable_batching:
        raise invalid("server_options.batching_parameters_file is set without setting server_options.enable_batching "
                      "to true.")
    if min(options.tensorflow_session_parallelism, options.tensorflow_intra_op_parallelism,
           options.tensorflow_inter_op_parallelism) > 0:
        raise invalid("Either configure server_options.tensorflow_session_parallelism or (server_options."
                      "tensorflow_intra_op_parallelism, server_options.tensorflow_inter_op_parallelism) separately. "
                      "You cannot configure all.")


def check_threads(flag: str, threads: int, least: int) -> None:
    """Raises Fatal for fewer than `least`: the real server's thread pools end it then."""
    if threads < least:
        raise Fatal(f"Check failed: num_threads >= {least} ({threads} vs. {least}): --{flag}={threads} is too low")


class ModelServer:
    """The whole server. Call `load`, then `listen`, then `stop`; `stop` may come at any time.

    loader, look: replaced by tests (a loader without TensorFlow, versions that aren't on disk).
    batching: its parameters, if they aren't in a file of their own.
    free_ports: listen on any free ports, whatever the options say.
    """

    def __init__(self, options: Options, loader: Loader, look: Look = look_at_all, *, free_ports: bool = False,
                 batching: config_pb2.BatchingParameters | None = None) -> None:
        self.options, self.metrics, self._free_ports = options, Metrics(), free_ports
        self._scheduler: Scheduler | None = None
        if options.enable_batching:
            loader = self._batching(loader, batching)
        check_threads("num_load_threads", options.num_load_threads, 0)
        check_threads("num_unload_threads", options.num_unload_threads, 0)
        warming = WarmingLoader(loader, Examples(options.enable_signature_method_name_check), self.metrics,
                                options.enable_model_warmup, options.num_request_iterations_for_warmup)
        self.lifecycle = Lifecycle(warming, load_threads=options.num_load_threads,
                               unload_threads=options.num_unload_threads,
                               retries=Retries(options.max_num_load_retries, options.load_retry_interval_micros / 1e6),
                               reserve=reserve if look is look_at_all else None)
        self.poller = Poller(self.lifecycle, options.file_system_poll_wait_seconds, look)
        self.core = Core(self.lifecycle, self.poller,
                         any_labels=options.allow_version_labels_for_unavailable_models)
        self.grpc: GrpcServer | None = None
        self.rest: RestServer | None = None

    def _batching(self, loader: Loader, parameters: config_pb2.BatchingParameters | None) -> Loader:
        if parameters is None:
            file = self.options.batching_parameters_file
            read = read_text_proto(file, config_pb2.BatchingParameters) if file else None
            parameters = read or config_pb2.BatchingParameters()
        threads = parameters.num_batch_threads.value if parameters.HasField("num_batch_threads") else CPUS
        if threads < 1:
            raise invalid(f"num_batch_threads must be positive; was {threads}")
        self._scheduler = Scheduler(threads, self.metrics)
        return BatchingLoader(loader, self._scheduler, parameters, self.options.enable_per_model_batching_parameters)

    def load(self, config: config_pb2.ModelServerConfig) -> None:
        """Serve the configured models; returns when all are available. Raises StatusError."""
        self.core.reload(config)

    def listen(self) -> None:
        """Open the ports. A REST port that can't be had is only logged, unless --tfs_fail_on_taken_port.

        Raises StatusError, Fatal.
        """
        if self._free_ports:
            self.grpc = listen_grpc(self.core, self.metrics, self.options, port=0)
            self.rest = listen_rest(self.core, self.metrics, self.options, port=0)
            return
        check_threads("grpc_max_threads", self.options.grpc_max_threads, 1)
        self.grpc = listen_grpc(self.core, self.metrics, self.options, self.options.port)
        log.info("Running gRPC ModelServer at %s:%s ...", self.options.tfs_bind_address, self.options.port)
        if not self.options.rest_api_port:
            return
        if self.options.rest_api_port == self.options.port:
            log.error("server_options.http_port cannot be same as grpc_port. Please use a different port for HTTP/REST "
                      "API. Skipped exporting HTTP/REST API.")
            return
        check_threads("rest_api_num_threads", self.options.rest_api_num_threads, 1)
        try:
            self.rest = listen_rest(self.core, self.metrics, self.options, self.options.rest_api_port & 0xFFFF)
        except OSError as error:
            log.error("Failed to start HTTP Server at localhost:%s: %s", self.options.rest_api_port, error)
            if self.options.tfs_fail_on_taken_port:
                text = f"Failed to start HTTP Server at localhost:{self.options.rest_api_port}"
                raise StatusError(Code.UNAVAILABLE, text) from error
            return
        log.info("Exporting HTTP/REST API at:localhost:%s ...", self.options.rest_api_port)

    def stop(self, grace: float = 0.0) -> None:
        """Close the ports, give running requests `grace` seconds, free the models."""
        stopping = [Thread(target=part.stop, args=(grace,)) for part in (self.grpc, self.rest) if part is not None]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()
        self.core.close()
        if self._scheduler is not None:
            self._scheduler.close()


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
    return GrpcServer(grpc_handlers(core, metrics, options), addresses, max_threads=options.grpc_max_threads,
                      share=share, limits=bounds, tls=_tls(options.ssl_config_file))


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


def channel_arguments(text: str) -> dict[str, int]:
    """`key=value,...` as gRPC takes it, those of whole numbers."""
    pairs = [part.split("=", 1) for part in text.split(",") if "=" in part]
    return {key: int(value) for key, value in pairs if value.removeprefix("-").isdecimal()}


def _tls(file: str) -> SSLContext | None:
    """TLS as an SSLConfig file describes it: PEM texts. Raises StatusError."""
    if not file:
        return None
    config = read_text_proto(file, config_pb2.SSLConfig)
    return tls_context(config.server_key.encode(), config.server_cert.encode(), config.custom_ca.encode() or None,
                       config.client_verify)


def listen_rest(core: Core, metrics: Metrics, options: Options, port: int) -> RestServer:
    """Raises OSError if the port can't be had, StatusError if the monitoring file can't be read."""
    examples = Examples(options.enable_signature_method_name_check)
    calls = {"predict": routes.predict(core, method_check=examples.method_check),
             "classify": routes.classify(core, examples), "regress": routes.regress(core, examples)}
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
    config = read_text_proto(options.monitoring_config_file, config_pb2.MonitoringConfig).prometheus_config
    return {config.path or DEFAULT_METRICS_PATH: metrics.page} if config.enable else {}

"""Puts the parts together: loader, core, and the two protocols. `Server` is also what runs in-process for tests."""

from __future__ import annotations

import logging
from threading import Thread
from typing import TYPE_CHECKING

from deploy.modelserver.batching import BatchingLoader, Scheduler
from deploy.modelserver.config import read_text_proto
from deploy.modelserver.core import Core, Look, Poller
from deploy.modelserver.examples import Examples
from deploy.modelserver.lifecycle import Lifecycle, Retries
from deploy.modelserver.listen import listen_grpc, listen_rest
from deploy.modelserver.loader import Loader
from deploy.modelserver.metrics import Metrics
from deploy.modelserver.resources import reserve
from deploy.modelserver.source import look_at_all
from deploy.modelserver.status import Code, Fatal, StatusError, invalid
from deploy.modelserver.warmup import WarmingLoader
from deploy.wire import config_pb2
from deploy.wire.flags import CPUS, Options

if TYPE_CHECKING:
    from deploy.modelserver.rest.http import RestServer
    from deploy.modelserver.rpc.server import GrpcServer

log = logging.getLogger("modelserver")


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

"""The process: flags, start, signals, exit codes."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

from deploy import engine
from deploy.modelserver.config import read_config, with_config_files
from deploy.modelserver.echo import EchoLoader
from deploy.modelserver.loader import EngineLoader, Loader, TfliteLoader
from deploy.modelserver.server import ModelServer, check
from deploy.modelserver.status import Fatal, StatusError, failed_precondition, invalid
from deploy.wire.flags import FLAGS, Options, parse, usage

FAILED = 255  # the real server's exit code for everything that goes wrong at the start
log = logging.getLogger("modelserver")


def main(arguments: Sequence[str]) -> int:
    """Run until a signal comes. Returns the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    logging.basicConfig(format="%(asctime)s: %(levelname).1s %(message)s", level=logging.INFO, stream=sys.stderr)
    parsed = parse(arguments, FLAGS)
    options = Options.of(parsed.values)
    if parsed.bad:
        print(usage("tensorflow_model_server", FLAGS), end="", flush=True)  # noqa: T201
        return FAILED
    if options.version:
        print(versions(), flush=True)  # noqa: T201
        return 0
    if parsed.unknown:
        print(f"unknown argument: {parsed.unknown[0]}\n{usage('tensorflow_model_server', FLAGS)}",  # noqa: T201
              end="", flush=True)
    for flag in FLAGS:
        if flag.ignored and flag.name in parsed.given:
            log.warning("--%s is accepted, but has no effect here", flag.name)
    return serve(options)


def versions() -> str:
    """What --version prints: two versions, each a word."""
    def of(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "none"

    tensorflow = next((v for p in ("tensorflow", "tensorflow-cpu") if (v := of(p)) != "none"), "none")
    return f"TensorFlow ModelServer: {of('tfs-deploy')}+tfs-deploy\nTensorFlow Library: {tensorflow}"


def serve(options: Options) -> int:
    """Load, listen, wait. Once gRPC listens, what else goes wrong is told, but doesn't end the process."""
    engine.keep_freed()
    stopping, server = threading.Event(), None
    if options.tfs_drain_seconds > 0:
        signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    try:
        check(options)
        config = read_config(options)
        options, batching = with_config_files(options)
        loader = make_loader(options)
        set_up(options)
        server = ModelServer(options, loader, batching=batching)
        server.load(config)
        server.listen()
    except StatusError as error:
        print(f"Failed to start server. Error: {error}", flush=True)  # noqa: T201
        if server is None or server.grpc is None or options.tfs_fail_on_taken_port:
            return FAILED
    except Fatal as error:
        _abort(error)
    watch_config(server, options)
    stopping.wait()
    server.stop(options.tfs_drain_seconds)
    return 0


def _abort(error: Fatal) -> NoReturn:
    log.critical("%s", error)
    os.abort()


def watch_config(server: ModelServer, options: Options) -> None:
    """Apply the config file every so many seconds, if asked for; an unusable one is logged and passed over."""
    if not options.model_config_file or options.model_config_file_poll_wait_seconds <= 0:
        return

    def poll() -> None:
        pause = threading.Event()
        while not pause.wait(options.model_config_file_poll_wait_seconds):
            try:
                config = read_config(options)
            except StatusError as error:
                log.error("Failed to read ModelServerConfig file: %s", error.message)
                continue
            try:
                server.core.reload(config)
            except StatusError as error:
                log.error("PollFilesystemAndReloadConfig failed to ReloadConfig: %s", error.message)
            except Fatal as error:
                _abort(error)

    threading.Thread(target=poll, name="config", daemon=True).start()


def run() -> None:
    """`python -m deploy.modelserver`. Ends at once, whatever threads still do."""
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def set_up(options: Options) -> None:
    """What holds for the whole process, and can't be taken back."""
    if options.tfs_loader == "engine" and not options.xla_cpu_compilation_enabled and not engine.available():
        engine.disable_xla()


def make_loader(options: Options) -> Loader:
    """Raises StatusError if the engine can't be used here."""
    if options.tfs_loader == "echo":
        return EchoLoader()
    if options.tfs_loader != "engine":
        raise invalid(f"--tfs_loader={options.tfs_loader}: there are 'engine' and 'echo'")
    engine.quiet()
    if (problem := engine.available()) and not options.prefer_tflite_model:  # LiteRT doesn't need it
        raise failed_precondition(problem)
    intra_op, inter_op = options.tensorflow_intra_op_parallelism, options.tensorflow_inter_op_parallelism
    if max(intra_op, inter_op) <= 0:  # else this one counts for nothing
        intra_op = inter_op = options.tensorflow_session_parallelism
    loader = EngineLoader(tuple((options.saved_model_tags or "serve").split(",")), intra_op, inter_op)
    return TfliteLoader(loader, options.num_tflite_pools, intra_op) if options.prefer_tflite_model else loader

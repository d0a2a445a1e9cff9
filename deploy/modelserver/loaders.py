"""The loader that the flags ask for."""

from __future__ import annotations

from deploy import engine
from deploy.modelserver.echo import EchoLoader
from deploy.modelserver.loader import EngineLoader, Loader
from deploy.modelserver.status import failed_precondition, invalid
from deploy.modelserver.tflite import TfliteLoader
from deploy.wire.flags import Options


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

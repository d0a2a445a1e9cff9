"""--platform_config_file: how models are loaded and batched, in one file in place of the flags for it; and the
smaller --tensorflow_session_config_file, beside them.

With this file those flags count for nothing, not even where the file is silent; without warm-up in it there is none.
Source: tensorflow_serving/model_servers/server.cc, session_bundle_config.proto.
"""

from __future__ import annotations

from dataclasses import replace

from google.protobuf.message import DecodeError

from deploy.modelserver.config import TENSORFLOW, read_text_proto
from deploy.modelserver.status import invalid
from deploy.wire import config_pb2, session_pb2
from deploy.wire.flags import Options

_ADAPTER = "SavedModelBundleSourceAdapterConfig"


def applied(options: Options) -> tuple[Options, config_pb2.BatchingParameters | None]:
    """The flags as the file would have set them, and its batching parameters. Raises StatusError."""
    if not options.platform_config_file:
        return _with_session(options), None
    bundle = _session_bundle(options.platform_config_file)
    session = bundle.session_config
    batching = bundle.batching_parameters if bundle.HasField("batching_parameters") else None
    return replace(
        options,
        tensorflow_session_parallelism=0,
        tensorflow_intra_op_parallelism=session.intra_op_parallelism_threads,
        tensorflow_inter_op_parallelism=session.inter_op_parallelism_threads,
        saved_model_tags=",".join(bundle.saved_model_tags) or "serve",
        enable_batching=batching is not None,
        batching_parameters_file="",
        enable_per_model_batching_parameters=False,
        enable_model_warmup=bundle.enable_model_warmup,
        num_request_iterations_for_warmup=bundle.model_warmup_options.num_request_iterations.value,
        prefer_tflite_model=bundle.prefer_tflite_model,
        num_tflite_pools=bundle.num_tflite_pools,
    ), batching


def _with_session(options: Options) -> Options:
    """With the numbers of threads in --tensorflow_session_config_file, where the flags for them are silent."""
    if not options.tensorflow_session_config_file or options.tensorflow_session_parallelism:
        return options
    session = read_text_proto(options.tensorflow_session_config_file, session_pb2.ConfigProto)
    return replace(
        options,
        tensorflow_intra_op_parallelism=options.tensorflow_intra_op_parallelism or session.intra_op_parallelism_threads,
        tensorflow_inter_op_parallelism=options.tensorflow_inter_op_parallelism or session.inter_op_parallelism_threads)


def _session_bundle(file: str) -> config_pb2.SessionBundleConfig:
    platforms = read_text_proto(file, config_pb2.PlatformConfigMap).platform_configs
    if TENSORFLOW not in platforms:
        raise invalid(f"{file} has no platform_configs for {TENSORFLOW!r}, the only platform that can be served")
    packed = platforms[TENSORFLOW].source_adapter_config
    if packed.type_url.rpartition(".")[2] != _ADAPTER:
        raise invalid(f"{file}: expected a source_adapter_config of type {_ADAPTER}, seen {packed.type_url!r}")
    try:
        return config_pb2.SavedModelBundleSourceAdapterConfig.FromString(packed.value).legacy_config
    except DecodeError as error:
        raise invalid(f"{file}: the source_adapter_config can't be read") from error

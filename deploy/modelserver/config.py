"""Configuration files, read and checked in the real server's order: what is monitored, how models are loaded.

ModelServerConfig becomes what the source monitors. --platform_config_file says how models are loaded and batched, in
one file in place of the flags for it: with it those flags count for nothing, not even where the file is silent; without
warm-up in it there is none. The smaller --tensorflow_session_config_file stands beside the flags.
Source: tensorflow_serving/model_servers/server.cc, session_bundle_config.proto.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from deploy.errors import SpecError
from deploy.modelserver.source import Monitored
from deploy.modelserver.status import invalid, not_found
from deploy.wire import config_pb2, session_pb2, text
from deploy.wire import config_pb2 as pb
from deploy.wire.flags import Options
from deploy.wire.model_config import policy_of

TENSORFLOW = "tensorflow"
log = logging.getLogger("modelserver")
M = TypeVar("M", bound=Message)
_ADAPTER = "SavedModelBundleSourceAdapterConfig"


def read_text_proto(path: str, message_type: type[M]) -> M:
    """The message in a text file. Raises StatusError (NOT_FOUND, INVALID_ARGUMENT)."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise not_found(f"{path}; {os.strerror(error.errno or 0)}") from error
    try:
        return text.from_text(content.decode("utf-8", "replace"), message_type, path)
    except SpecError as error:
        log.error("Error parsing text-format tensorflow.serving.%s: %s", message_type.DESCRIPTOR.name, error.message)
        raise invalid(f"Invalid protobuf file: '{path}'") from error


def single_model(name: str, base_path: str) -> pb.ModelServerConfig:
    """The configuration that --model_name and --model_base_path stand for."""
    config = pb.ModelServerConfig()
    config.model_config_list.config.add(name=name, base_path=base_path, model_platform=TENSORFLOW)
    return config


def read_config(options: Options) -> pb.ModelServerConfig:
    """The configuration that the flags name. Raises StatusError."""
    if options.model_config_file:
        return read_text_proto(options.model_config_file, pb.ModelServerConfig)
    return single_model(options.model_name, options.model_base_path)


def check_list(models: pb.ModelConfigList) -> None:
    """Raises StatusError for a name that is there twice, or a relative base path."""
    names = set()
    for model in models.config:
        if model.name in names:
            raise invalid(f"Illegal to list model {model.name} multiple times in config list")
        names.add(model.name)
    for model in models.config:
        if not model.base_path.startswith("/") and not re.match(r"[A-Za-z][A-Za-z0-9.]*://", model.base_path):
            raise invalid(f"Expected model {model.name} to have an absolute path or URI; "
                          f"got base_path()={model.base_path}")


def platform_of(model: pb.ModelConfig) -> str:
    """The model's platform, also from the old model_type. Raises StatusError if there is none, or both."""
    if model.model_type and model.model_platform:
        raise invalid("Illegal setting both ModelServerConfig::model_type (deprecated) and "
                      "ModelServerConfig::model_platform.")
    platform = {0: "", pb.TENSORFLOW: TENSORFLOW}.get(model.model_type, "other") or model.model_platform
    if not platform:
        raise invalid("Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                      "ModelServerConfig::model_platform.")
    return platform


def check_platforms_unchanged(old: pb.ModelConfigList, new: pb.ModelConfigList) -> None:
    """Raises StatusError if a model that stays has another platform than before."""
    before = {model.name: platform_of(model) for model in old.config}
    for model in new.config:
        if model.name in before and (platform := platform_of(model)) != before[model.name]:
            raise invalid(f"Illegal to change a model's platform. For model {model.name} platform was "
                          f"{before[model.name]} and new platform requested is {platform}")


def check_platforms(models: pb.ModelConfigList) -> None:
    """Raises StatusError for a platform that can't be served."""
    for model in models.config:
        if (platform := platform_of(model)) != TENSORFLOW:
            raise invalid(f"Model {model.name} requests unsupported platform {platform}")


def monitored(models: pb.ModelConfigList) -> dict[str, Monitored]:
    """What the source has to look for, by model name."""
    return {m.name: Monitored(m.name, m.base_path, policy_of(m)) for m in models.config}


def check_logging(models: pb.ModelConfigList) -> None:
    """Raises StatusError for a request log: the released server has no collector for one either."""
    for model in models.config:
        if model.HasField("logging_config"):
            collector = model.logging_config.log_collector_config.type
            raise not_found(f"Cannot find LogCollector::Factory for type: {collector}")


def with_config_files(options: Options) -> tuple[Options, config_pb2.BatchingParameters | None]:
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

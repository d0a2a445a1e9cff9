"""ModelServerConfig: read, checked in the real server's order, and turned into what the source monitors."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import Message

from deploy.errors import SpecError
from deploy.modelserver.source import Monitored
from deploy.modelserver.status import invalid, not_found
from deploy.wire import config_pb2 as pb
from deploy.wire import text
from deploy.wire.flags import Options
from deploy.wire.model_config import policy_of

TENSORFLOW = "tensorflow"
log = logging.getLogger("modelserver")
M = TypeVar("M", bound=Message)


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
            kind = model.logging_config.log_collector_config.type
            raise not_found(f"Cannot find LogCollector::Factory for type: {kind}")

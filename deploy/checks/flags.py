"""Flags by release: which of today's flags an older tensorflow_model_server lacks, as far as that is proven.

Read in tensorflow/serving's tensorflow_serving/model_servers/main.cc at commits that RELEASE.md lists under a release:
what such a commit lacks, all releases before that one lack, too. For 2.4 it is a fork's state of January 2021, after
its branch was cut; for 1.10 and 1.12 the release notes' word that a flag was added. Between the two releases of an
entry nobody has looked, and nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from deploy.checks.targets import version_key

_OFFICIAL = re.compile(r"(?:.*/)?tensorflow/serving:(\d+)\.(\d+)(?:\.\d+)?(?:-.*)?")

# The newest release that is known to lack them, the oldest one that is known to have them
_BETWEEN: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("1.10", "1.11"): ("max_num_load_retries",),
    ("1.12", "1.13"): ("tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism"),
    ("1.14", "1.15"): ("allow_version_labels_for_unavailable_models", "model_config_file_poll_wait_seconds",
                       "remove_unused_fields_from_bundle_metagraph"),
    ("2.2", "2.3"): ("prefer_tflite_model",),
    ("2.2", "2.6"): ("enable_signature_method_name_check",),
    ("2.4", "2.6"): ("enable_profiler", "grpc_max_threads", "num_load_threads", "num_tflite_interpreters_per_pool",
                     "num_tflite_pools", "num_unload_threads", "rest_api_enable_cors_support",
                     "thread_pool_factory_config_file", "use_alts_credentials", "xla_cpu_compilation_enabled"),
    ("2.7", "2.8"): ("num_request_iterations_for_warmup", "tensorflow_session_config_file"),
    ("2.10", "2.11"): ("enable_per_model_batching_parameters",),
    ("2.14", "2.15"): ("enable_grpc_healthcheck_service", "mixed_precision", "skip_initialize_tpu"),
    ("2.17", "2.18"): ("xla_gpu_compilation_enabled",),
    ("2.17", "2.20"): ("enable_serialization_as_tensor_content", "enforce_session_run_timeout"),
}
LACKING: Mapping[str, tuple[str, str]] = {flag: between for between, flags in _BETWEEN.items() for flag in flags}
"""Flag -> the newest release that is known to lack it, the oldest one that is known to have it."""


def release_of(image: str) -> str | None:
    """The release in an official image, as `2.8`; None for a tag without one, and for an image of anybody else's: what
    its tag counts, nobody knows. Stricter than `targets.of_image`, since a server is refused for it."""
    match = _OFFICIAL.fullmatch(image.partition("@")[0])
    return f"{int(match[1])}.{int(match[2])}" if match else None


def lacked(flag: str, release: str) -> tuple[str, str] | None:
    """What LACKING says of a flag that a release is known to lack; None for one that it has, or may have."""
    between = LACKING.get(flag)
    return between if between and version_key(release) <= version_key(between[0]) else None

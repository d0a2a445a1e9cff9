"""The server's config files as protobuf text: models, batching, monitoring, platform.

Same values, same bytes. Each text is parsed back and compared before anyone gets to see it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from google.protobuf.message import Message

from deploy.render.layout import Layout
from deploy.spec import Batching, Spec
from deploy.types import ServedModel
from deploy.wire import serving_pb2 as pb
from deploy.wire.model_config import set_served
from deploy.wire.text import from_text, to_text

MODELS, BATCHING, MONITORING, PLATFORM = "models.config", "batching.config", "monitoring.config", "platform.config"
TLS = "ssl.config"  # with a private key in it, so it is none of `files`
_ADAPTER = "type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig"


def files(spec: Spec, layout: Layout) -> dict[str, str]:
    """File name -> text of every config file that this spec needs."""
    messages: dict[str, Message] = {MODELS: models_config(spec.models, layout.base_paths)}
    server = spec.server
    if server.platform_file:
        messages[PLATFORM] = _platform(spec)
    elif server.batching:
        messages[BATCHING] = _batching(server.batching)
    if server.monitoring:
        messages[MONITORING] = pb.MonitoringConfig(prometheus_config=pb.PrometheusConfig(
            enable=server.monitoring.enable, path=server.monitoring.path))
    return {name: _header(name, spec) + _text(message, name) for name, message in messages.items()}


def models_config(models: Iterable[ServedModel], base_paths: Mapping[str, str]) -> pb.ModelServerConfig:
    """The message for --model_config_file and for a reload. The list is there even if it is empty:
    the server takes an empty list, but refuses a config without one."""
    config = pb.ModelServerConfig()
    config.model_config_list.SetInParent()
    for model in models:
        entry = config.model_config_list.config.add(
            name=model.name, base_path=base_paths[model.name], model_platform="tensorflow")
        set_served(entry, model.versions, model.labels)
    return config


def ssl_config(certificate: str, key: str, client_ca: str | None) -> str:
    """The text of the SSLConfig file, from PEM texts. client_ca: whose clients are let in; None: any, without one."""
    return _text(pb.SSLConfig(server_cert=certificate, server_key=key, custom_ca=client_ca or "",
                              client_verify=client_ca is not None), TLS)


def _batching(batching: Batching) -> pb.BatchingParameters:
    message = pb.BatchingParameters(allowed_batch_sizes=batching.allowed_batch_sizes,
                                    pad_variable_length_inputs=batching.pad_variable_length_inputs)
    for name in ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"):
        value = getattr(batching, name)
        if value is not None:
            getattr(message, name).value = value
    return message


def _platform(spec: Spec) -> pb.PlatformConfigMap:
    """What the flags would say, as the session config of the platform `tensorflow`."""
    adapter = pb.SavedModelBundleSourceAdapterConfig()
    session, server = adapter.legacy_config, spec.server
    session.enable_model_warmup = True  # as without the file; its own default is no warm-up
    session.session_config.intra_op_parallelism_threads = server.threads.intra_op or 0
    session.session_config.inter_op_parallelism_threads = server.threads.inter_op or 0
    if server.resources.gpu_memory_fraction:
        session.session_config.gpu_options.per_process_gpu_memory_fraction = server.resources.gpu_memory_fraction
    if server.batching:
        session.batching_parameters.CopyFrom(_batching(server.batching))
    platforms = pb.PlatformConfigMap()
    source = platforms.platform_configs["tensorflow"].source_adapter_config
    source.type_url, source.value = _ADAPTER, adapter.SerializeToString(deterministic=True)
    return platforms


def _text(message: Message, name: str) -> str:
    text = to_text(message)
    if from_text(text, type(message), name) != message:  # a bug of ours, and the last moment to notice it
        raise AssertionError(f"{name} doesn't parse back to what was rendered")
    return text


def _header(name: str, spec: Spec) -> str:
    return f"# {name} of {spec.name!r}, rendered by tfs from {spec.path.name}: edit that file, not this one.\n"

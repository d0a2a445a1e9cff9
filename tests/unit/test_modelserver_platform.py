"""--platform_config_file in place of the flags that it stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import render, spec
from deploy.modelserver.config import with_config_files
from deploy.modelserver.server import check
from deploy.modelserver.status import StatusError
from deploy.wire.flags import Options

ADAPTER = "[type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig]"


def written(where: Path, legacy: str, platform: str = "tensorflow", adapter: str = ADAPTER) -> Options:
    file = where / "platform.config"
    file.write_text(f'platform_configs {{ key: "{platform}" value {{ source_adapter_config {{ {adapter} '
                    f"{{ legacy_config {{ {legacy} }} }} }} }} }}")
    return Options(platform_config_file=str(file), tensorflow_intra_op_parallelism=7, saved_model_tags="a,b",
                   enable_batching=True, batching_parameters_file="/nowhere", prefer_tflite_model=True)


def test_without_the_file_flags_are_flags() -> None:
    options = Options(enable_batching=True)
    assert with_config_files(options) == (options, None)


def test_an_empty_file_takes_every_flag_back(tmp_path: Path) -> None:
    options, batching = with_config_files(written(tmp_path, ""))
    assert batching is None
    assert options == Options(platform_config_file=str(tmp_path / "platform.config"), enable_model_warmup=False,
                              num_tflite_pools=0)


@pytest.mark.parametrize(("legacy", "name", "value"), [
    ("session_config { intra_op_parallelism_threads: 3 }", "tensorflow_intra_op_parallelism", 3),
    ("session_config { inter_op_parallelism_threads: 2 }", "tensorflow_inter_op_parallelism", 2),
    ('saved_model_tags: "serve" saved_model_tags: "gpu"', "saved_model_tags", "serve,gpu"),
    ("enable_model_warmup: true", "enable_model_warmup", True),
    ("model_warmup_options { num_request_iterations { value: 4 } }", "num_request_iterations_for_warmup", 4),
    ("prefer_tflite_model: true", "prefer_tflite_model", True),
    ("prefer_tflite_model: true num_tflite_pools: 2", "num_tflite_pools", 2),
    ("batching_parameters { max_batch_size { value: 8 } }", "enable_batching", True),
])
def test_values(tmp_path: Path, legacy: str, name: str, value: object) -> None:
    assert getattr(with_config_files(written(tmp_path, legacy))[0], name) == value


@pytest.mark.parametrize(("flags", "threads"), [
    ({}, (3, 2)), ({"tensorflow_intra_op_parallelism": 5}, (5, 2)), ({"tensorflow_session_parallelism": 4}, (0, 0)),
])
def test_a_session_config_speaks_where_flags_are_silent(tmp_path: Path, flags: dict[str, int],
                                                       threads: tuple[int, int]) -> None:
    file = tmp_path / "session.config"
    file.write_text("intra_op_parallelism_threads: 3 inter_op_parallelism_threads: 2 allow_soft_placement: true")
    options, _ = with_config_files(Options(tensorflow_session_config_file=str(file), **flags))  # type: ignore[arg-type]
    assert (options.tensorflow_intra_op_parallelism, options.tensorflow_inter_op_parallelism) == threads


def test_batching(tmp_path: Path) -> None:
    _, batching = with_config_files(written(tmp_path, "batching_parameters { max_batch_size { value: 8 } }"))
    assert batching is not None and batching.max_batch_size.value == 8


def test_what_flags_say_together_doesnt_matter_then() -> None:
    check(Options(model_base_path="/m", platform_config_file="/p", batching_parameters_file="/b"))
    with pytest.raises(StatusError):
        check(Options(model_base_path="/m", batching_parameters_file="/b"))


def test_what_tfs_writes(tmp_path: Path) -> None:
    file = tmp_path / "serving.yaml"
    file.write_text("models: [{name: a, base_path: /models/a, versions: 1}]\nserver: {platform_file: true, "
                    "batching: {max_batch_size: 8}, threads: {intra_op: 2}}\n")
    found = spec.load_spec(file)
    files = render.files(found, render.host_layout(found, tmp_path))
    (tmp_path / "platform.config").write_text(files["platform.config"])
    options, batching = with_config_files(Options(platform_config_file=str(tmp_path / "platform.config")))
    assert batching is not None and batching.max_batch_size.value == 8
    assert (options.tensorflow_intra_op_parallelism, options.enable_model_warmup) == (2, True)


@pytest.mark.parametrize(("platform", "adapter", "text"), [
    ("other", ADAPTER, "has no platform_configs for 'tensorflow'"),
    ("tensorflow", "[type.googleapis.com/tensorflow.serving.ModelServerConfig]", "Invalid protobuf file"),
])
def test_files_that_cant_be_used(tmp_path: Path, platform: str, adapter: str, text: str) -> None:
    with pytest.raises(StatusError, match=text):
        with_config_files(written(tmp_path, "", platform, adapter))


def test_an_adapter_of_another_type(tmp_path: Path) -> None:
    file = tmp_path / "platform.config"
    file.write_text('platform_configs { key: "tensorflow" value { source_adapter_config { '
                    "[type.googleapis.com/tensorflow.serving.ModelServerConfig] { } } } }")
    with pytest.raises(StatusError, match="expected a source_adapter_config of type SavedModelBundleSourceAdapter"):
        with_config_files(Options(platform_config_file=str(file)))

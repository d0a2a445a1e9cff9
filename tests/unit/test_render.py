from __future__ import annotations

import stat
from pathlib import Path

import pytest

from deploy import render, spec
from deploy.errors import ServerError, SpecError
from deploy.render.configs import spec_file, to_yaml
from deploy.spec import ModelSpec, SpecFile
from deploy.wire import serving_pb2 as pb
from deploy.wire.text import from_text

HERE = Path("/somewhere/serving.yaml")


def parse(text: str) -> spec.Spec:
    return spec.parse(text, HERE)


FULL = parse("""
models:
  - {name: a, versions: [2, 1], labels: {stable: 1, canary: 2}}
  - {name: b, versions: {latest: 3}}
  - {name: c, versions: all, base_path: elsewhere/c}
server:
  batching: {max_batch_size: 8, batch_timeout_micros: 0, allowed_batch_sizes: [4, 8]}
  monitoring: {path: /metrics}
  threads: {intra_op: 1, rest: 4}
  resources: {gpu_memory_fraction: 0.5}
  flags: {max_num_load_retries: 3, enable_model_warmup: false}
""")


def test_models_config_says_what_the_spec_says() -> None:
    text = render.files(FULL, render.mounted_layout(FULL))["models.config"]
    entries = from_text(text, pb.ModelServerConfig, "models.config").model_config_list.config
    assert [(e.name, e.base_path, e.model_platform) for e in entries] == [
        ("a", "/models/a", "tensorflow"), ("b", "/models/b", "tensorflow"), ("c", "/models/c", "tensorflow")]
    assert list(entries[0].model_version_policy.specific.versions) == [1, 2]
    assert dict(entries[0].version_labels) == {"stable": 1, "canary": 2}
    assert entries[1].model_version_policy.latest.num_versions == 3
    assert entries[2].model_version_policy.WhichOneof("policy_choice") == "all"


def test_no_models_is_still_a_list() -> None:
    assert render.models_config([], {}).WhichOneof("config") == "model_config_list"


def test_batching_keeps_a_zero_that_was_written() -> None:
    text = render.files(FULL, render.mounted_layout(FULL))["batching.config"]
    read = from_text(text, pb.BatchingParameters, "batching.config")
    assert read.HasField("batch_timeout_micros") and read.batch_timeout_micros.value == 0
    assert not read.HasField("num_batch_threads")
    assert list(read.allowed_batch_sizes) == [4, 8]


def test_the_same_values_give_the_same_bytes() -> None:
    other = parse("""
server: {monitoring: {path: /metrics}}
models: [{name: a, labels: {canary: 2, stable: 1}, versions: [1, 2]}]""")
    again = parse("""
models: [{name: a, versions: [2, 1], labels: {stable: 1, canary: 2}}]
server: {monitoring: {path: /metrics}}""")
    assert render.files(other, render.mounted_layout(other)) == render.files(again, render.mounted_layout(again))


@pytest.mark.parametrize(("server", "flag"), [
    ("", "--grpc_max_threads=256"), ("server: {threads: {grpc_max: 8}}", "--grpc_max_threads=8"),
    ("server: {flags: {grpc_max_threads: 16}}", "--grpc_max_threads=16"),
    ("server: {threads: {grpc_max: 8}, flags: {grpc_max_threads: 16}}", "--grpc_max_threads=16")])
def test_more_calls_at_once_than_the_servers_own_limit_unless_the_user_says_otherwise(server: str, flag: str) -> None:
    made = parse(f"models: [{{name: m, versions: 1}}]\n{server}")
    flags = render.argv(made, render.mounted_layout(made), 8500, 8501)
    assert [f for f in flags if f.startswith("--grpc_max_threads")] == [flag]


def test_argv() -> None:
    assert render.argv(FULL, render.mounted_layout(FULL), 8500, 8501) == [
        "--max_num_load_retries=3", "--file_system_poll_wait_seconds=1", "--grpc_max_threads=256",
            "--port=8500", "--rest_api_port=8501",
        "--model_config_file=/etc/tfs/models.config", "--allow_version_labels_for_unavailable_models=true",
        "--enable_batching=true", "--batching_parameters_file=/etc/tfs/batching.config",
        "--tensorflow_intra_op_parallelism=1", "--per_process_gpu_memory_fraction=0.5",
        "--monitoring_config_file=/etc/tfs/monitoring.config", "--rest_api_num_threads=4",
        "--enable_model_warmup=false"]


def test_a_platform_file_takes_the_place_of_the_session_flags() -> None:
    server = "{platform_file: true, batching: {max_batch_size: 8}, threads: {intra_op: 2}}"
    platform = parse(f"models: [{{name: a, versions: 1}}]\nserver: {server}")
    layout = render.host_layout(platform, Path("/run/cfg"))
    flags, files = render.argv(platform, layout, 1, 2), render.files(platform, layout)
    assert "--platform_config_file=/run/cfg/platform.config" in flags
    assert not [f for f in flags if f.startswith(("--enable_batching", "--tensorflow_intra"))]
    assert "batching.config" not in files
    assert "[type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig]" in files["platform.config"]
    config = from_text(files["platform.config"], pb.PlatformConfigMap, "platform.config")
    adapter = pb.SavedModelBundleSourceAdapterConfig()
    adapter.ParseFromString(config.platform_configs["tensorflow"].source_adapter_config.value)
    assert adapter.legacy_config.session_config.intra_op_parallelism_threads == 2
    assert adapter.legacy_config.batching_parameters.max_batch_size.value == 8


def test_files_are_readable_for_others_and_written_once(tmp_path: Path) -> None:
    (path,) = render.write({"models.config": "text\n"}, tmp_path / "new")
    first = path.stat()
    assert stat.S_IMODE(first.st_mode) == 0o644
    render.write({"models.config": "text\n"}, tmp_path / "new")
    assert path.stat().st_ino == first.st_ino
    render.write({"models.config": "other\n"}, tmp_path / "new")
    assert path.read_text() == "other\n"
    assert [p.name for p in path.parent.iterdir()] == ["models.config"]


def test_a_directory_that_cant_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServerError, match=r"can't write .*file"):
        render.write({"a": ""}, tmp_path / "file")


def test_an_existing_models_config_becomes_a_spec_and_back(tmp_path: Path) -> None:
    layout = render.mounted_layout(FULL)
    (tmp_path / "models.config").write_text(render.files(FULL, layout)["models.config"])
    text = to_yaml(spec_file(tmp_path / "models.config"))
    again = spec.parse(text, HERE)
    paths = {m.name: m.base_path for m in again.models}
    assert render.models_config(again.models, paths) == render.models_config(FULL.models, layout.base_paths)
    assert "repository: /models" in text and "base_path" not in text


@pytest.mark.parametrize(("text", "says"), [
    ("model_config_list { config { nam: 'a' } }", "models.config"),
    ("custom_model_config {}", "model_config_list"),
    ("model_config_list { config { name: 'a' base_path: '/m/a' model_platform: 'caffe' } }", "caffe"),
    ("model_config_list { config { name: '../a' base_path: '/m/a' model_platform: 'tensorflow' } }", "'../a'"),
])
def test_a_config_that_cant_be_converted_is_explained(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "models.config").write_text(text)
    with pytest.raises(SpecError, match=says):
        spec_file(tmp_path / "models.config")


def test_a_first_spec_explains_each_key_once() -> None:
    models = [ModelSpec(name=name, versions=[3], labels={"stable": 3}) for name in ("wine", "y")]
    text = to_yaml(SpecFile(repository="a b: c", models=models))
    assert text.splitlines() == """\
# What is served, and how. Edit it, then: tfs up. All keys: tfs schema

repository: 'a b: c'              # where the versions are: <repository>/<model>/<version>/; relative to this file

models:
  - name: wine                    # what clients ask for: POST /v1/models/wine:predict
    versions: [3]                 # [3]: exactly that one; latest: the newest there is; all: every one
    labels: {stable: 3}           # names for versions: clients ask for wine@stable, and `tfs rollout` moves it
  - name: y
    versions: [3]
    labels: {stable: 3}

# Defaults; take the # away to change them
# server:
#   backend: auto                 # a container if Docker and the image are there, else embedded; or process
#   image: tensorflow/serving:2.20.0
#   grpc_port: 8500               # 0: any free one; `tfs status` tells which
#   rest_port: 8501""".splitlines()
    with_defaults = "\n".join(line.removeprefix("# ") for line in text.splitlines()[1:] if "Defaults" not in line)
    assert spec.parse(with_defaults, HERE) == spec.parse(text, HERE)


@pytest.mark.parametrize("path", ["/data/a/rather/long/path/to/all/of/our/models", "/data/exactly/22/letters"])
def test_a_long_path_keeps_its_comment_apart(path: str, tmp_path: Path) -> None:
    """`path# comment` would be a part of the path, and no YAML once the comment has a colon."""
    (tmp_path / "models.config").write_text(
        f"model_config_list {{ config {{ name: 'm' base_path: '{path}/m' model_platform: 'tensorflow' }} }}")
    read = spec.parse(to_yaml(spec_file(tmp_path / "models.config")), HERE)
    assert [str(m.base_path) for m in read.models] == [f"{path}/m"]

"""Flags, options, configuration and version directories, as the real server reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.modelserver import config
from deploy.modelserver.catalog import Id
from deploy.modelserver.loader import EngineLoader
from deploy.modelserver.main import make_loader
from deploy.modelserver.server import check
from deploy.modelserver.source import BasePathMissing, Monitored, look_at_all, notes
from deploy.modelserver.status import Code, StatusError
from deploy.modelserver.warmup import reserve
from deploy.types import All, Latest, Specific
from deploy.wire import config_pb2, text
from deploy.wire.flags import FLAGS, Options, parse, usage


def options(*arguments: str) -> Options:
    return Options.of(parse(arguments, FLAGS).values)


@pytest.mark.parametrize(("arguments", "name", "value"), [
    (["--port=1"], "port", 1),
    (["--port= 12"], "port", 12),
    (["--model_name=a=b"], "model_name", "a=b"),
    (["--model_name="], "model_name", ""),
    (["--enable_batching"], "enable_batching", True),
    (["--enable_batching=true"], "enable_batching", True),
    (["--enable_batching", "--enable_batching=false"], "enable_batching", False),
    (["--enable_batching=1"], "enable_batching", True),
    (["--enable_batching=TRUE"], "enable_batching", True),
    (["--enable_batching=True"], "enable_batching", True),
    (["--enable_model_warmup=0"], "enable_model_warmup", False),
    (["--enable_model_warmup=FALSE"], "enable_model_warmup", False),
    (["--enable_model_warmup=False"], "enable_model_warmup", False),
    (["--tfs_drain_seconds=2.5"], "tfs_drain_seconds", 2.5),
    ([], "port", 8500),
    ([], "rest_api_port", 0),
    ([], "tfs_bind_address", "127.0.0.1"),
])
def test_values(arguments: list[str], name: str, value: object) -> None:
    parsed = parse(arguments, FLAGS)
    assert (getattr(Options.of(parsed.values), name), parsed.bad, parsed.unknown) == (value, False, ())


@pytest.mark.parametrize(("arguments", "bad", "unknown"), [
    (["--port=a"], True, 0),
    (["--port=1.5"], True, 0),
    (["--port=1 "], True, 0),
    (["--port="], True, 0),
    (["--enable_batching=maybe"], True, 0),
    (["--enable_batching="], True, 0),
    (["--enable_batching=01"], True, 0),
    (["--enable_batching=yes"], True, 0),
    (["--enable_batching =true"], False, 1),
    (["--enable_batchings"], False, 1),
    (["-enable_batching"], False, 1),
    (["--no_enable_batching"], False, 1),
    (["--Enable_batching=true"], False, 1),
    (["--enable-batching"], False, 1),
    (["--", "--port=1"], False, 2),
    (["--", "--help"], False, 2),
    (["--help=true"], False, 1),
    (["--port"], False, 1),
    (["--model_name", "m"], False, 2),
    (["stray"], False, 1),
    (["--no_such_flag=1"], False, 1),
    (["--port=1", "--help"], True, 1),
    (["stray", "--help"], False, 2),
    (["-port=1"], False, 1),
])
def test_what_isnt_a_flag(arguments: list[str], bad: bool, unknown: int) -> None:
    parsed = parse(arguments, FLAGS)
    assert (parsed.bad, len(parsed.unknown)) == (bad, unknown)


def test_usage_names_every_flag_once() -> None:
    shown = usage("server", FLAGS)
    assert shown.startswith("usage: server\nFlags:\n")
    assert all(shown.count(f"\t--{flag.name}=") == 1 for flag in FLAGS)
    assert len({flag.name for flag in FLAGS}) == len(FLAGS)


@pytest.mark.parametrize(("arguments", "text"), [
    ([], "Both server_options.model_base_path and server_options.model_config_file are empty!"),
    (["--port=0", "--model_base_path=/m"],
     "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set."),
    (["--model_base_path=/m", "--batching_parameters_file=b"], "batching_parameters_file is set without"),
    (["--model_base_path=/m", "--ssl_config_file=s", "--use_alts_credentials"], "Either use_alts_credentials must be"),
    (["--model_base_path=/m", "--tensorflow_session_parallelism=1", "--tensorflow_inter_op_parallelism=1",
      "--tensorflow_intra_op_parallelism=1"], "Either configure server_options.tensorflow_session_parallelism"),
])
def test_flags_that_dont_go_together(arguments: list[str], text: str) -> None:
    with pytest.raises(StatusError, match="INVALID_ARGUMENT"):
        check(options(*arguments))
    with pytest.raises(StatusError) as caught:
        check(options(*arguments))
    assert text in caught.value.message


def test_flags_that_do() -> None:
    check(options("--port=0", "--grpc_socket_path=/s", "--model_config_file=c"))
    check(options("--model_base_path=/m", "--tensorflow_session_parallelism=1", "--tensorflow_inter_op_parallelism=1"))


# -- version directories


def test_one_missing_base_path_hides_everything(tmp_path: Path) -> None:
    for version in (1, 2):
        (tmp_path / "a" / str(version)).mkdir(parents=True)
    good, bad = Monitored("a", f"{tmp_path}/a/", Latest()), Monitored("b", str(tmp_path / "b"), Latest())
    assert look_at_all([good]) == {"a": {2: f"{tmp_path}/a/2"}}
    with pytest.raises(BasePathMissing, match="Could not find base path"):
        look_at_all([good, bad])


@pytest.mark.parametrize("host", ["", "localhost"])
def test_a_base_path_may_be_a_file_uri(tmp_path: Path, host: str) -> None:
    (tmp_path / "a" / "2").mkdir(parents=True)
    model = Monitored("a", f"file://{host}{tmp_path}/a", Latest())
    assert look_at_all([model]) == {"a": {2: f"{tmp_path}/a/2"}}
    with pytest.raises(BasePathMissing, match="Could not find base path http://a/b"):
        look_at_all([Monitored("a", "http://a/b", Latest())])


@pytest.mark.parametrize(("value", "tags"), [("", ("serve",)), ("serve", ("serve",)), ("a,b", ("a", "b"))])
def test_tags(value: str, tags: tuple[str, ...]) -> None:
    loader = make_loader(options(f"--saved_model_tags={value}"))
    assert isinstance(loader, EngineLoader)
    assert loader.tags == tags


def test_what_the_log_says_of_versions() -> None:
    model = Monitored("m", "/m", Specific((1, 5)))
    assert notes(model, {1: "/m/1"}) == [
        "Version 5 of servable m, which was requested to be served as a 'specific' version in the servable's version "
        "policy, was not found in the file system"]
    assert notes(Monitored("m", "/m", Latest()), {}) == [
        "No versions of servable m found under base path /m. Did you forget to name your leaf directory as a number "
        "(eg. '/1/')?"]
    assert notes(Monitored("m", "/m", All()), {1: "/m/1"}) == []


def test_what_is_looked_at_before_a_load(tmp_path: Path) -> None:
    (tmp_path / "1" / "variables").mkdir(parents=True)
    (tmp_path / "1" / "variables" / "data").touch()
    (tmp_path / "2").touch()
    (tmp_path / "3").symlink_to("nowhere")
    (tmp_path / "4").mkdir()
    (tmp_path / "4" / "link").symlink_to("nowhere")
    (tmp_path / "6").mkdir()
    (tmp_path / "6" / "link").symlink_to(".")
    reserve(Id("m", 1), str(tmp_path / "1"))
    for version, why in ((2, f"{tmp_path}/2; Not a directory"), (3, f"{tmp_path}/3 not found"),
                         (4, f"{tmp_path}/4/link; No such file or directory"), (5, f"{tmp_path}/5 not found")):
        with pytest.raises(StatusError) as caught:
            reserve(Id("m", version), str(tmp_path / str(version)))
        assert (caught.value.code, caught.value.message) == (
            Code.INTERNAL, "Error while attempting to reserve resources to load servable "
                           f"{{name: m version: {version}}}: {why}")
    with pytest.raises(StatusError, match="Too many levels of symbolic links"):
        reserve(Id("m", 6), str(tmp_path / "6"))


# -- configuration


def models(*lines: str) -> config_pb2.ModelConfigList:
    entries = " ".join(f"config {{ {line} }}" for line in lines)
    return text.from_text(entries, config_pb2.ModelConfigList, "test")


A = 'name: "a" base_path: "/a" model_platform: "tensorflow"'


@pytest.mark.parametrize(("check_config", "entries", "message"), [
    (config.check_list, [A, A], "Illegal to list model a multiple times in config list"),
    (config.check_list, ['name: "a" base_path: "rel"'], "Expected model a to have an absolute path or URI; "
                                                        "got base_path()=rel"),
    (config.check_platforms, ['name: "a" model_platform: "onnx"'], "Model a requests unsupported platform onnx"),
    (config.check_platforms, ['name: "a"'], "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                                            "ModelServerConfig::model_platform."),
    (config.check_platforms, ['name: "a" model_platform: "tensorflow" model_type: TENSORFLOW'],
     "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform."),
])
def test_refused_lists(check_config: object, entries: list[str], message: str) -> None:
    with pytest.raises(StatusError) as caught:
        check_config(models(*entries))  # type: ignore[operator]
    assert caught.value.message == message


def test_a_model_keeps_its_platform() -> None:
    other = 'name: "a" base_path: "/a" model_platform: "tensorflow_lite"'
    config.check_platforms_unchanged(models(A), models(A, other.replace('"a"', '"b"')))
    with pytest.raises(StatusError, match="Illegal to change a model's platform"):
        config.check_platforms_unchanged(models(A), models(other))


@pytest.mark.parametrize(("line", "policy"), [
    ("", Latest(1)), ("latest {}", Latest(1)), ("latest { num_versions: 3 }", Latest(3)), ("all {}", All()),
    ("specific { versions: 4 versions: 2 }", Specific((2, 4))), ("specific {}", Specific(())),
])
def test_policies(line: str, policy: object) -> None:
    (model,) = models(f"{A} model_version_policy {{ {line} }}").config
    assert config.policy_of(model) == policy


def test_config_files(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    with pytest.raises(StatusError, match=f"NOT_FOUND: {file}; No such file or directory"):
        config.read_text_proto(str(file), config_pb2.ModelServerConfig)
    file.write_text("this is { no config")
    with pytest.raises(StatusError, match="INVALID_ARGUMENT: Invalid protobuf file: '"):
        config.read_text_proto(str(file), config_pb2.ModelServerConfig)
    file.write_text("# nothing\nmodel_config_list: < >")
    assert config.read_text_proto(str(file), config_pb2.ModelServerConfig).HasField("model_config_list")

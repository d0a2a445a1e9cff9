"""What the doctor reads from disk, and makes of flags and mounts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.backends.base import Inspected
from deploy.backends.inspecting import Inside, _expanded
from deploy.errors import ServerError
from deploy.serving.doctor import diagnosis
from deploy.serving.doctor.diagnosis import _reader, examine
from deploy.serving.doctor.disk import Files, configured, host_path, located, looked_at, named_files
from deploy.serving.doctor.evidence import Evidence, ModelEvidence
from deploy.types import All, Latest, Specific, VersionPolicy, VersionState, VersionStatus
from deploy.wire import model_pb2
from deploy.wire.flags import FLAGS, parse

NOBODY = "65534:65534"
CONFIG = """model_config_list {
  config { name: "m" base_path: "%s" model_platform: "tensorflow" model_version_policy { specific { versions: 3 } }
           version_labels { key: "stable" value: 3 } }
  config { name: "n" base_path: "relative/n" }
}"""


def version(directory: Path) -> None:
    directory.mkdir(parents=True)
    saved = model_pb2.SavedModel()
    saved.meta_graphs.add().meta_info_def.tags.append("serve")
    (directory / "saved_model.pb").write_bytes(saved.SerializeToString())


def seen(path: Path, user: str | None = None, policy: VersionPolicy | None = None) -> ModelEvidence:
    return looked_at(ModelEvidence("m", "/models/m", str(path), policy or Latest()), user)


def test_what_lies_there(tmp_path: Path) -> None:
    version(tmp_path / "models/m/1")
    assert seen(tmp_path / "models/m").found == {1}
    assert seen(tmp_path / "models").nested == ("m",) and not seen(tmp_path / "models").found
    assert seen(tmp_path / "models/m/1").is_version
    assert seen(tmp_path / "nowhere").there == "missing"
    assert seen(tmp_path / "models/m/1/saved_model.pb").there == "file"
    (tmp_path / "models/m/7").write_text("")
    (tmp_path / "models/m/2").mkdir()
    found = seen(tmp_path / "models/m")
    assert found.unexpected == ("7",) and list(found.broken) == [2]
    assert seen(tmp_path / "models/m", policy=Specific((1,))).broken == {}


@pytest.mark.parametrize(("policy", "broken"), [
    (Latest(1), set()), (Latest(2), {2}), (Latest(3), {1, 2}), (All(), {1, 2}), (Specific((2, 3)), {2}),
])
def test_every_version_that_the_policy_wants_is_looked_at(tmp_path: Path, policy: VersionPolicy, broken: set[int]
                                                          ) -> None:
    for half_copied in ("1", "02"):
        (tmp_path / "m" / half_copied).mkdir(parents=True)
    version(tmp_path / "m/3")
    found = seen(tmp_path / "m", policy=policy)
    assert set(found.broken) == broken and found.found == {1, 2, 3}
    causes = [c for c in examine(Evidence(models=(found,), running=True)).causes if c.rule == "half-copied"]
    assert {c.cause.split(" ")[0] for c in causes} == {f"m/{v}" for v in broken}


def test_a_failed_version_that_the_policy_does_not_want_any_more_is_no_news(tmp_path: Path) -> None:
    for number in ("1", "2"):
        version(tmp_path / "m" / number)
    failed = VersionStatus(1, VersionState.END, 3, "Op type not registered 'X'")
    statuses = failed, VersionStatus(2, VersionState.AVAILABLE)
    rules = [[c.rule for c in examine(Evidence(running=True, models=(replace(
        seen(tmp_path / "m", policy=policy), statuses=statuses),))).causes] for policy in (Latest(1), Latest(2))]
    assert rules[0] == [] and "op-missing" in rules[1]


def test_what_a_containers_user_cant_read(tmp_path: Path) -> None:
    version(tmp_path / "m/1")
    file = tmp_path / "m/1/saved_model.pb"
    for path in (tmp_path / "m", tmp_path / "m/1"):
        path.chmod(0o755)
    file.chmod(0o644)
    assert seen(tmp_path / "m", NOBODY).unreadable == ""
    file.chmod(0o640)
    assert seen(tmp_path / "m", "4711:4711").unreadable == str(file)


def test_mounts_are_translated() -> None:
    mounts = {"/srv/models": "/models", "/srv/other": "/models/o"}
    assert host_path("/models/m/1", mounts) == "/srv/models/m/1"
    assert host_path("/models/o/1", mounts) == "/srv/other/1"
    assert host_path("/modelsm", mounts) is None
    assert located(ModelEvidence("m", "/x"), Files(mounts), None).there == "unmounted"
    assert located(ModelEvidence("m", "/v/m"), Files({"a-volume": "/v"}), None).found == {1}  # not to be seen from here


def test_what_is_beside_a_base_path_that_isnt_there(tmp_path: Path) -> None:
    version(tmp_path / "models/half/1")
    missing = seen(tmp_path / "models/Half")
    assert missing.there == "missing" and missing.beside == ("half",) and not missing.above
    assert seen(tmp_path / "models/half/half").above
    assert seen(tmp_path).nested == ("models/half",)
    version(tmp_path / "named/v1")
    (tmp_path / "named/m.keras").write_text("")
    found = seen(tmp_path / "named")
    assert found.unnumbered == ("v1",) and found.others == ("m.keras",) and not found.found
    for odd in ("0", "-3"):
        version(tmp_path / "odd" / odd)
    assert seen(tmp_path / "odd").found == {0, -3}, "a server takes these for versions"


class Image:
    """A container's own files: what the image has, mounts included."""

    def __init__(self, **files: Inside) -> None:
        self.files = {f"/{path.replace('_', '/')}": inside for path, inside in files.items()}

    def __call__(self, path: str) -> Inside:
        return self.files.get(path, Inside("missing"))


BAKED = Inside("directory", frozenset({"1", "1/saved_model.pb", "1/variables"}))


def test_files_that_are_baked_into_an_image() -> None:
    config = Inside("file", text=CONFIG.replace("%s", "/models/m").encode())
    files = Files({}, Image(models_m=BAKED, etc_tfs_models=config))
    baked = located(ModelEvidence("m", "/models/m"), files, None)
    assert (baked.there, baked.found, baked.path) == ("directory", {1}, "")
    assert located(ModelEvidence("n", "/models/n"), files, None).there == "unmounted"
    models, error = configured(parse(["--model_config_file=/etc/tfs/models"], FLAGS), files)
    assert error == "" and [m.name for m in models] == ["m", "n"]
    assert "nothing is mounted" in configured(parse(["--model_config_file=/etc/none"], FLAGS), files)[1]
    around = Files({}, Image(models=Inside("directory", frozenset({"half", "half/1", "notes"}))))
    assert located(ModelEvidence("hal", "/models/hal"), around, None).beside == ("half",)
    volume = Files({"vol": "/models"}, Image(models_m=BAKED))
    assert located(ModelEvidence("m", "/models/m"), volume, None).found == {1}
    assert located(ModelEvidence("x", "/models/x"), volume, None).there == "missing"


@pytest.mark.parametrize(("inside", "field", "value"), [
    (Inside("directory", frozenset({"m", "m/1", "m/1/saved_model.pb"})), "nested", ("m",)),
    (Inside("directory", frozenset({"saved_model.pb", "variables"})), "is_version", True),
    (Inside("directory", frozenset({"v1", "v1/saved_model.pb"})), "unnumbered", ("v1",)),
    (Inside("file"), "there", "file"),
    (Inside("directory", frozenset({"notes"})), "found", frozenset()),
    (Inside("directory", frozenset({"2", "2/variables"}), complete=False), "found", frozenset({2}))])
def test_a_directory_of_an_image(inside: Inside, field: str, value: object) -> None:
    assert getattr(located(ModelEvidence("m", "/models/m"), Files({}, Image(models_m=inside)), None), field) == value


def test_a_large_directory_of_an_image_is_given_the_benefit_of_doubt() -> None:
    large = Inside("directory", frozenset({"notes"}), complete=False)
    assert located(ModelEvidence("m", "/models/m"), Files({}, Image(models_m=large)), None).found


def test_an_engine_that_sees_other_files(tmp_path: Path) -> None:
    version(tmp_path / "m/1")
    mounts = {str(tmp_path / "m"): "/models/m"}
    elsewhere = located(ModelEvidence("m", "/models/m"), Files(mounts, Image(models_m=Inside("directory"))), "")
    assert elsewhere.engine_lacks == str(tmp_path / "m/1")
    here = Files(mounts, Image(models_m=BAKED, models_m_1=Inside("directory")))
    assert located(ModelEvidence("m", "/models/m"), here, "").engine_lacks == ""
    version(tmp_path / "n/00000123")
    padded = Files({str(tmp_path / "n"): "/n"}, Image(n=BAKED, n_00000123=Inside("directory")))
    assert located(ModelEvidence("n", "/n"), padded, "").engine_lacks == ""
    remote = Files({"/there/m": "/models/m"}, Image(models_m=BAKED))
    assert located(ModelEvidence("m", "/models/m"), remote, "").found == {1}, "a directory of the engine's machine"


@pytest.mark.parametrize(("data", "why"), [
    ("\ufeffmodel_config_list {}\r\n".encode(), ""), (b"model_config_list {\r\n}\r\n", ""),
    ("model_config_list {}".encode("utf-16"), "UTF-16"),
    (b"# \xe9\nmodel_config_list {}", "UTF-8"), (None, "directory")])
def test_config_files_of_windows(tmp_path: Path, data: bytes | None, why: str) -> None:
    config = tmp_path / "models.config"
    config.mkdir() if data is None else config.write_bytes(data)
    error = configured(parse([f"--model_config_file={config}"], FLAGS), Files(None))[1]
    assert why in error and bool(why) == bool(error)


def test_who_reads_a_containers_files() -> None:
    assert [_reader(u) for u in ("", "0", "0:0", "root", "nobody:nogroup", "1000", "1000:50", "1000:users")] == \
        ["", "", "", "", "", "1000:0", "1000:50", ""]


ENTRY = ("--port=8500", "--rest_api_port=8501", "--model_name=half", "--model_base_path=/models/half")


def test_the_command_line_of_the_stock_image() -> None:
    made, added = _expanded(("/usr/bin/tf_serving_entrypoint.sh", "--enable_batching"), {"MODEL_NAME": "half"})
    assert made[1:] == (*ENTRY, "--enable_batching") and added == 4
    assert _expanded(("server", "--port=1"), {}) == (("server", "--port=1"), 0)


@pytest.mark.parametrize(("script", "flags"), [
    ("exec tensorflow_model_server --port=8500 --model_name=${MODEL_NAME}", ("--port=8500", "--model_name=half")),
    ("/usr/bin/tensorflow_model_server --model_base_path='/a b'", ("--model_base_path=/a b",)),
    ("sleep 1 && tensorflow_model_server --port=1", None), ("echo 'unfinished", None)])
def test_the_command_line_of_a_shell(script: str, flags: tuple[str, ...] | None) -> None:
    argv = ("/bin/sh", "-c", script)
    made, added = _expanded(argv, {"MODEL_NAME": "half"})
    assert added == 0 and (made == argv if flags is None else made[1:] == flags)


def test_a_config_file_and_the_files_of_other_flags(tmp_path: Path) -> None:
    version(tmp_path / "m/1")
    config, monitoring = tmp_path / "models.config", tmp_path / "monitoring.config"
    config.write_text(CONFIG % (tmp_path / "m"))
    monitoring.write_text("prometheus_config { enable: maybe }")
    argv = ["--port=8500", "--rest_api_port=8501", f"--model_config_file={config}",
            f"--monitoring_config_file={monitoring}", "--batching_parameters_file=/nowhere/b", "--enable_batching=true"]
    flags = parse(argv, FLAGS)
    models, error = configured(flags, Files(None))
    assert error == "" and [m.policy for m in models] == [Specific((3,)), Latest(1)] and models[1].platform == ""
    unusable = named_files(flags, Files(None))
    assert set(unusable) == {"monitoring_config_file", "batching_parameters_file"}
    assert named_files(flags, Files({"/srv": "/x"}))["monitoring_config_file"] == f"nothing is mounted at {monitoring}"
    rules = {c.rule for c in examine(diagnosis.of_log(None, argv)).causes}
    assert rules == {"version-missing", "relative-base-path", "platform-missing", "file-unusable", "labels-at-start"}
    config.write_text("model_config_list {")
    assert "line 1" in configured(flags, Files(None))[1]
    config.unlink()
    assert "doesn't exist" in configured(flags, Files(None))[1]


def test_a_log_that_isnt_there(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="can't read"):
        diagnosis.of_log(tmp_path / "none", [])


def _inspected(published: dict[int, int], *argv: str) -> Inspected:
    return Inspected("c", ("tensorflow_model_server", *argv), running=True, exit_code=None, log="", image="i",
                     image_platform="amd64", published=published)


@pytest.mark.parametrize(("published", "argv", "missed"), [
    ({}, ENTRY, []), ({8501: 8501}, ENTRY, []), ({8500: 80, 8501: 81}, ENTRY, []), ({9000: 9000, 8501: 1}, ENTRY, []),
    ({8501: 8501}, ("--port=8500", "--rest_api_port=9001"), ["REST"]),
    ({9001: 9001}, ("--port=8500", "--rest_api_port=9001"), []), ({8501: 8501}, ("--port=8500",), [])])
def test_a_port_that_is_published_and_not_the_servers(published: dict[int, int], argv: tuple[str, ...],
                                                      missed: list[str]) -> None:
    assert [p.name for p in diagnosis._container_ports(_inspected(published, *argv)) if p.unpublished] == missed

"""Broken files, archives and TFLite models; reports; the gate of the command line."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import flatbuffers
import msgspec
import numpy as np
import pytest

from deploy import checks, spec
from deploy.checks import RULES, Severity, files, keras_archives, targets
from deploy.cli.outcome import run
from deploy.errors import CheckFailed, ExportError, IncompleteVersion, SpecError
from deploy.report import sarif
from deploy.repository import Repository
from deploy.wire.model_pb2 import BundleEntryProto
from tests.support import checks as make
from tests.support import savedmodel as support
from tests.support.checks import SERVER, check, found

ERROR, WARNING = Severity.ERROR, Severity.WARNING


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """A whole version with variables in two shards."""
    meta = make.serves("Relu")
    make.node(meta, "variable", "VarHandleOp")
    meta.saver_def.restore_op_name = "restore"
    return support.save_variables(support.save(tmp_path / "1", meta), shards=2)


@pytest.mark.parametrize(("data", "said"), [
    (b"the\r\nfox\r\n", ""), (b"", ""), (b"\xff\xfe\x91\x22\x83\x17", ""),
    ("the\nfox\n".encode("utf-8-sig"), "begins with a byte order mark"),
    ("the\r\nfox\r\n".encode("utf-16-le"), ""), ("the\nfox\n".encode("utf-16"), "is UTF-16 text"),
    (b"\xfe\xff" + "the\nfox\n".encode("utf-16-be"), "is UTF-16 text"),
])
def test_text_assets_written_on_windows(tmp_path: Path, data: bytes, said: str) -> None:
    meta = make.serves("Relu")
    meta.asset_file_def.add(filename="words.txt")
    version = support.save(tmp_path / "1", meta)
    (version / "assets").mkdir(exist_ok=True)
    (version / "assets" / "words.txt").write_bytes(data)
    report = checks.check(version, SERVER)
    assert found(report) == ({"asset-encoding": WARNING} if said else {})
    assert said in "".join(finding.message for finding in report.findings)


# Whole?

def test_a_whole_version(version: Path) -> None:
    assert checks.check(version, SERVER).findings == ()
    assert checks.check(version / "saved_model.pb", SERVER).findings == ()


@pytest.mark.parametrize(("breaks", "said"), [
    (lambda v: (v / "variables/variables.index").unlink(), "variables.index is missing"),
    (lambda v: (v / "variables/variables.data-00001-of-00002").unlink(), "00001-of-00002 is missing"),
    (lambda v: (v / "variables/variables.data-00000-of-00002").write_bytes(bytes(9)), "has 9 bytes"),
    (lambda v: (v / "variables/variables.index").write_bytes(b"no table"), "damaged or truncated"),
    (lambda v: (v / "saved_model.pb").write_bytes((v / "saved_model.pb").read_bytes()[:200]), "truncated"),
    (lambda v: (v / "saved_model.pb").write_bytes(b""), "no SavedModel"),
])
def test_versions_that_arent_whole(version: Path, breaks, said: str) -> None:
    breaks(version)
    report = checks.check(version, SERVER)
    assert found(report) == {"complete": ERROR}
    assert said in report.findings[0].message
    with pytest.raises(IncompleteVersion):
        checks.gate(SERVER)(version)


def test_any_damage_is_a_finding(tmp_path: Path) -> None:
    """A byte changed anywhere: a report comes, or an error of ours."""
    meta = make.serves("WriteFile", "ReadFile", "AssignVariableOp")
    make.text(make.node(meta, "path", "Const"), "/a/path")
    make.node(meta, "table", "InitializeTableFromTextFileV2", "handle", "path")
    make.node(meta, "variable", "VarHandleOp")
    path = support.save(tmp_path / "model", meta) / "saved_model.pb"
    whole = path.read_bytes()
    for place in range(0, len(whole), 4):
        for value in (0xFF, whole[place] ^ 1):
            path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1:])
            checks.check(path.parent, SERVER)


def test_an_index_whose_sizes_dont_add_up(version: Path) -> None:
    entry = BundleEntryProto(dtype=1, size=32)
    entry.shape.dim.add(size=9)
    (version / "variables/variables.index").write_bytes(support.index(2, {"kernel": entry}))
    report = checks.check(version, SERVER)
    assert "gives kernel 32 bytes, and float32[9] has 36" in report.findings[0].message


def test_a_missing_asset(tmp_path: Path) -> None:
    meta = make.serves("Relu")
    meta.asset_file_def.add(filename="words.txt")
    assert found(check(tmp_path, meta)) == {"complete": ERROR}


@pytest.mark.parametrize(("size", "severity"), [((1 << 31), ERROR), ((1 << 30) + 1, WARNING), (1 << 20, None)])
def test_protobufs_limit(tmp_path: Path, size: int, severity: Severity | None) -> None:
    path = tmp_path / "saved_model.pb"
    with path.open("wb") as file:
        file.truncate(size)  # a hole: no bytes are written
    assert [f.severity for f in files.size(path)] == ([severity] if severity else [])
    if severity is ERROR:
        assert found(checks.check(tmp_path, SERVER)) == {"graph-size": ERROR}


@pytest.mark.parametrize("name", ["absent", "empty", "file.txt"])
def test_nothing_to_check(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("text")
    with pytest.raises(IncompleteVersion):
        checks.check(tmp_path / name)


# Keras archives

def archive(path: Path, config: object, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("config.json", json.dumps(config))
        for name, content in members.items():
            made.writestr(name, content)
    return path


PLAIN = {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": [
    {"module": "keras.layers", "class_name": "Dense", "config": {"name": "d", "activation": "relu"}},
    {"module": "builtins", "class_name": "function", "config": "my_activation"},
    {"module": "my_package.layers", "class_name": "Scale", "registered_name": "my>Scale", "config": {}}]}}


def layer(**config: object) -> dict[str, object]:
    return {"class_name": "Sequential", "config": {"layers": [config]}}


@pytest.mark.parametrize("name", ["m.keras", "M.KERAS"])
def test_a_plain_archive(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / name, PLAIN, **{"model.weights.h5": b"\x89HDF", "metadata.json": b"{}"})
    assert checks.check(path).findings == ()


@pytest.mark.parametrize("config", [
    layer(class_name="Lambda", config={"name": "l", "function": {"class_name": "__lambda__", "config": {}}}),
    layer(class_name="Lambda", config={"name": "l", "function": ["4wEAAA", None, None]}),
    layer(class_name="Lambda", config={"name": "l", "function_type": "lambda", "function": ["x"]}),
    layer(module="os", class_name="function", config="system"),
    layer(module="builtins", class_name="function", config="eval"),
    layer(module="subprocess", class_name="Popen", config={}),
])
def test_archives_with_code(tmp_path: Path, config: object) -> None:
    path = archive(tmp_path / "m.keras", config)
    assert set(found(checks.check(path))) == {"keras-code"}


def test_archives_with_pickles(tmp_path: Path) -> None:
    objects = io.BytesIO()
    np.save(objects, np.array([{}], object), allow_pickle=True)
    path = archive(tmp_path / "m.keras", PLAIN, **{"state.bin": pickle.dumps({}), "objects.npy": objects.getvalue()})
    assert [(f.rule, f.where.file) for f in checks.check(path).findings] == [
        ("keras-pickle", "objects.npy"), ("keras-pickle", "state.bin")]
    bare = tmp_path / "m.pkl"
    bare.write_bytes(pickle.dumps({"a": 1}))
    assert found(checks.check(bare)) == {"keras-pickle": ERROR}


def test_archives_whose_members_escape(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras", PLAIN, **{"../../.bashrc": b"x", "/etc/cron.d/x": b"x"})
    assert [f.rule for f in checks.check(path).findings] == ["archive-path"] * 2


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 but truncated"])
def test_archives_that_are_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.keras"
    path.write_bytes(content)
    with pytest.raises(ExportError, match="no model file"):
        keras_archives.config(path)


# TFLite

def tflite(path: Path, *operators: tuple[int, str]) -> Path:
    """A TFLite model of these operators: (builtin code, custom name)."""
    b = flatbuffers.Builder(1024)
    codes = []
    for code, custom in operators:
        name = b.CreateString(custom) if custom else None
        b.StartObject(4)
        b.PrependInt8Slot(0, min(code, 127), 0)
        if name is not None:
            b.PrependUOffsetTRelativeSlot(1, name, 0)
        b.PrependInt32Slot(3, code, 0)
        codes.append(b.EndObject())
    b.StartObject(5)
    graph = b.EndObject()
    vectors = []
    for tables in (codes, [graph]):
        b.StartVector(4, len(tables), 4)
        for table in reversed(tables):
            b.PrependUOffsetTRelative(table)
        vectors.append(b.EndVector())
    b.StartObject(8)
    b.PrependUint32Slot(0, 3, 0)
    b.PrependUOffsetTRelativeSlot(1, vectors[0], 0)
    b.PrependUOffsetTRelativeSlot(2, vectors[1], 0)
    b.Finish(b.EndObject(), file_identifier=b"TFL3")
    path.write_bytes(bytes(b.Output()))
    return path


CUSTOM = targets.op_list("2.20").tflite.index("CUSTOM")


def test_tflite_with_builtin_operators(tmp_path: Path) -> None:
    path = tflite(tmp_path / "model.tflite", (9, ""), (135, ""), (CUSTOM, "ParseExample"))
    assert checks.check(path, SERVER).findings == ()
    alone = checks.check(tmp_path, SERVER)
    assert found(alone) == {"tflite-alone": WARNING}
    assert "--prefer_tflite_model" in alone.findings[0].message
    assert checks.check(tmp_path, replace(SERVER, prefers_tflite=True)).findings == ()


@pytest.mark.parametrize(("operator", "said"), [
    ((CUSTOM, "FlexErf"), "the Select-TF op Erf"), ((CUSTOM, "MyOp"), "the custom op 'MyOp'")])
def test_tflite_with_other_operators(tmp_path: Path, operator: tuple[int, str], said: str) -> None:
    directory = support.save(tmp_path / "1", make.serves("Relu"))
    tflite(directory / "model.tflite", (0, ""), operator)
    report = checks.check(directory, SERVER)
    assert found(report) == {"tflite-op": ERROR}
    assert said in report.findings[0].message
    assert report.findings[0].where.file == "model.tflite"


def test_tflite_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(b"not one")
    assert found(checks.check(tmp_path)) == {"complete": ERROR}


# Reports

def test_allowed_findings_are_shown_with_their_reason(tmp_path: Path) -> None:
    report = check(tmp_path, make.serves("WriteFile", "PyFunc"), allow={"file-write": "it's a cache", "network": "no"})
    assert [(f.rule, f.allowed) for f in report.findings] == [("python-function", None), ("file-write", "it's a cache")]
    assert report.unused == ("network",)
    with pytest.raises(CheckFailed, match="is refused: python-function: PyFunc calls a Python function") as refused:
        report.raise_if_refused()
    assert refused.value.exit_code == 3
    assert '--allow python-function="why"' in refused.value.hint
    assert check(tmp_path, make.serves("WriteFile"), allow={"file-write": "a cache"}).ok


@pytest.mark.parametrize(("allow", "said"), [
    ({"file-wriet": "x"}, "did you mean 'file-write'"), ({"file-write": "  "}, "the reason is missing"),
    ({"complete": "x"}, "can't be allowed")])
def test_allowances_that_arent(tmp_path: Path, allow: dict[str, str], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        check(tmp_path, make.serves("Relu"), allow=allow)


def test_strict_refuses_warnings(tmp_path: Path) -> None:
    report = check(tmp_path, make.serves("PrintV2"))
    assert report.ok and report.accepted()
    assert not report.accepted(strict=True)
    with pytest.raises(CheckFailed, match="log-op"):
        report.raise_if_refused(strict=True)
    assert check(tmp_path, make.serves("PrintV2"), allow={"log-op": "we look at it"}).accepted(strict=True)


def test_sarif(tmp_path: Path) -> None:
    report = check(tmp_path, make.serves("WriteFile", "PyFunc"), allow={"file-write": "it's a cache"})
    log = json.loads(json.dumps(sarif(report)))
    assert log["version"] == "2.1.0"
    driver, results = log["runs"][0]["tool"]["driver"], log["runs"][0]["results"]
    assert [rule["id"] for rule in driver["rules"]] == list(RULES)
    assert len({rule["name"] for rule in driver["rules"]}) == len(RULES)
    for result in results:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note")
        assert result["message"]["text"].endswith(".")
        assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].endswith("model/saved_model.pb")
    assert "suppressions" not in results[0]
    assert results[1]["suppressions"] == [
        {"kind": "external", "status": "accepted", "justification": "it's a cache"}]
    assert [part["fullyQualifiedName"] for part in results[0]["locations"][0]["logicalLocations"]] == [
        "serving_default", "inner", "its_PyFunc"]


@pytest.mark.parametrize(("name", "uri"), [
    ("model", "model/saved_model.pb"), ("model.v2", "model.v2/saved_model.pb"),
    ("a b/100%", "a%20b/100%25/saved_model.pb"), ("ä:1", "%C3%A4%3A1/saved_model.pb"),
    ("what?#1", "what%3F%231/saved_model.pb")])
def test_sarif_names_files_by_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, uri: str) -> None:
    """A relative reference where the path is relative, else file://, as RFC 3986 wants them."""
    directory = support.save(tmp_path / name, make.serves("WriteFile"))
    assert _uris(checks.check(directory)) == {f"{tmp_path.as_uri()}/{uri}"}
    monkeypatch.chdir(tmp_path)
    assert _uris(checks.check(name)) == {uri}


def test_sarif_names_the_file_itself(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(b"none")
    assert _uris(checks.check(tmp_path / "model.tflite")) == {(tmp_path / "model.tflite").as_uri()}


def test_sarif_names_a_function_once(tmp_path: Path) -> None:
    """The schema wants different logical locations, and a function may be called as the signature is."""
    meta = make.model(output="call")
    make.call(meta, "call", "serving_default", "serving_default_x")
    make.function(meta, "serving_default", "WriteFile")
    result = sarif(check(tmp_path, meta))["runs"][0]["results"][0]  # type: ignore[index]
    assert [part["fullyQualifiedName"] for part in result["locations"][0]["logicalLocations"]] == [
        "serving_default", "its_WriteFile"]


def _uris(report: checks.CheckReport) -> set[str]:
    results = sarif(report)["runs"][0]["results"]  # type: ignore[index]
    return {result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in results}


def test_every_rule_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "checks.md").read_text()
    assert [name for name in RULES if f"| `{name}` |" not in text] == []


# Servers

@pytest.mark.parametrize(("image", "version", "official", "gpu"), [
    ("tensorflow/serving:2.19.1", "2.19", True, False), ("tensorflow/serving:2.20.0-gpu", "2.20", True, True),
    ("registry:5000/team/serving:2.20.0", "2.20", True, False),
    ("tensorflow/serving:2.20.0@sha256:" + "0" * 64, "2.20", True, False)])
def test_servers_of_images(image: str, version: str, official: bool, gpu: bool) -> None:
    target = checks.of_image(image)
    assert (target.version, bool(target.libraries), target.gpu) == (version, official, gpu)


def test_images_whose_tag_tells_nothing() -> None:
    assert checks.of_image("tensorflow/serving").libraries == targets.OFFICIAL
    assert checks.of_image("tensorflow/serving:latest").version in targets.versions()
    assert checks.of_image("localhost:5000/tfs").libraries == frozenset()
    newest = checks.of_image("team/digits")
    assert checks.of_image("team/digits:1.4") == checks.of_image("digits:2026.11") == newest


def test_servers_of_specs() -> None:
    embedded = checks.of_server(spec.ServerPart(), bundled=True)
    assert embedded.libraries == frozenset()
    tagged = checks.of_server(spec.ServerPart(flags={"saved_model_tags": "serve,gpu"}), bundled=False)
    assert tagged.tags == {"serve", "gpu"}
    assert tagged.version == "2.20"


@pytest.mark.parametrize("text", ["", "two", "2"])
def test_versions_that_arent(text: str) -> None:
    with pytest.raises(SpecError, match="no server version"):
        checks.of_version(text)


def test_op_lists_are_small_and_whole() -> None:
    assert {"2.19", "2.20", "2.21"} <= set(targets.versions())
    for version in targets.versions():
        listed = targets.op_list(version)
        assert len(listed.ops) > 1600 and {"MatMul", "PartitionedCall"} <= listed.ops.keys()
        assert "StatefulPartitionedCall" in listed.callers and "MatMul" not in listed.callers
        assert listed.tensorflow.startswith(version) and listed.tflite[9] == "FULLY_CONNECTED"
    assert all(path.stat().st_size < 50_000 for path in targets.LISTS.glob("[0-9]*.txt*"))


# The command line

SPEC = """
models:
  - {name: m, versions: latest, allow: {file-write: a cache that we own}}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    support.save(tmp_path / "good", make.serves("Relu"))
    support.save(tmp_path / "writes", make.serves("WriteFile"))
    return tmp_path


def test_publish_refuses_before_anything_is_visible(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["publish", "writes", "--name", "m"]) == 3
    assert "file-write" in capsys.readouterr().err
    assert not (here / "models").exists()


def test_publish_what_is_allowed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["publish", "writes", "--name", "m", "--allow", "file-write=a cache"]) == 0
    assert "allowed: a cache" in capsys.readouterr().out
    (here / "serving.yaml").write_text(SPEC)
    assert run(["publish", "writes", "--name", "m"]) == 0
    assert "allowed: a cache that we own" in capsys.readouterr().out
    assert run(["publish", "writes", "--name", "other"]) == 3
    assert Repository(here / "models").versions("m") == [1, 2]


@pytest.mark.parametrize(("entry", "said"), [
    ("file-wriet: x", "models/0/allow/file-wriet"), ("file-write: ''", "models/0/allow")])
def test_allowances_in_the_spec_are_checked(here: Path, capsys: pytest.CaptureFixture[str], entry: str,
                                            said: str) -> None:
    (here / "serving.yaml").write_text(SPEC.replace("file-write: a cache that we own", entry))
    assert run(["check", "good", "--model", "m"]) == 2
    assert said in capsys.readouterr().err


def test_check_reports(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "good"]) == 0
    assert "nothing to object to" in capsys.readouterr().out
    assert run(["check", "writes"]) == 3
    said = capsys.readouterr()
    assert "its_WriteFile" in said.out and "is refused" in said.err
    for form in (["--format", "json"], ["--json"]):
        assert run(["check", "writes", *form]) == 3
        assert json.loads(capsys.readouterr().out)["findings"][0]["rule"] == "file-write"
    assert run(["check", "writes", "--format", "sarif", "--allow", "file-write=a cache"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["results"][0]["suppressions"]


def test_check_of_a_published_version(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["publish", "writes", "--name", "m", "--allow", "file-write=a cache"]) == 0
    (here / "serving.yaml").write_text(SPEC)
    assert run(["check", "m/1"]) == 0  # the spec allows it, by the model's name
    assert run(["check", "m", "--server-version", "2.19"]) == 0
    assert "2.19" in capsys.readouterr().out
    assert run(["check", "m/2"]) == 4


def test_a_spec_names_the_server(here: Path) -> None:
    support.save(here / "jxl", make.serves("DecodeJxl"))
    assert run(["check", "jxl"]) == 3
    assert run(["check", "jxl", "--image", "tensorflow/serving:2.21.0"]) == 0
    (here / "serving.yaml").write_text(SPEC + "server: {image: 'tensorflow/serving:2.21.0'}\n")
    assert run(["check", "jxl"]) == 0
    assert run(["check", "jxl", "--server-version", "2.20"]) == 3


def test_the_schema_knows_allow() -> None:
    schema = spec.json_schema()
    assert "allow" in json.dumps(msgspec.to_builtins(schema))

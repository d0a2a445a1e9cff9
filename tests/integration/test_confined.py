"""Models run in a process of their own: what it can't do, how it ends, and who is asked before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deploy import engine, regression
from deploy.cli.outcome import run
from deploy.engine import EngineError
from deploy.errors import CheckFailed
from deploy.goldens import Golden
from deploy.regression import ComparedVersion
from deploy.repository import Repository
from deploy.types import ModelVersion
from deploy.wire.model_pb2 import SavedModel
from tests.support import savedmodel as support

pytestmark = pytest.mark.tensorflow

Tfs = Callable[..., tuple[int, str]]

_TRIED = """
import os, socket, sys, json, ctypes, signal
from deploy.engine import confined_process
confined_process.limit(8 << 30, 60)
files = confined_process.read_only([sys.prefix, sys.base_prefix, *[p for p in sys.path if p], sys.argv[1]])
calls = confined_process.no_calls()
def tried(what):
    try:
        what()
    except OSError:
        return "refused"
    return "done"
here, there = sys.argv[1], sys.argv[2]
print(json.dumps({"files": files, "calls": calls, "found": {
    "read its own": tried(lambda: open(here + "/own").read()),
    "read another": tried(lambda: open(there + "/secret").read()),
    "list another": tried(lambda: os.listdir(there)),
    "write its own": tried(lambda: open(here + "/own", "a").write("x")),
    "make": tried(lambda: open(there + "/new", "w")),
    "empty": tried(lambda: os.truncate(here + "/own", 0)),
    "remove": tried(lambda: os.unlink(here + "/own")),
    "rename": tried(lambda: os.rename(here + "/own", here + "/o")),
    "link": tried(lambda: os.symlink("own", here + "/l")),
    "mode": tried(lambda: os.chmod(here + "/own", 0)),
    "connect": tried(lambda: socket.socket()),
    "connect locally": tried(lambda: socket.socket(socket.AF_UNIX)),
    "run": tried(lambda: os.execv("/bin/true", ["true"])),
    "kill": tried(lambda: os.kill(os.getppid(), 0)),
}}))
"""


@pytest.fixture
def tfs(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tfs:
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str]:
        code = run(words)
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


def writer(directory: Path, target: Path) -> Path:
    """y = x, after `target` was written: what `tfs check` refuses."""
    graph = support.graph()
    signature = graph.signature_def["serving_default"]
    nodes = graph.graph_def
    nodes.node.add(name="x", op="Placeholder").attr["dtype"].type = 1
    for name, text in (("file", str(target)), ("text", "pwned")):
        node = nodes.node.add(name=name, op="Const")
        node.attr["dtype"].type = 7
        node.attr["value"].tensor.dtype = 7
        node.attr["value"].tensor.tensor_shape.SetInParent()
        node.attr["value"].tensor.string_val.append(text.encode())
    nodes.node.add(name="write", op="WriteFile", input=["file", "text"])
    nodes.node.add(name="y", op="Identity", input=["x", "^write"]).attr["T"].type = 1
    signature.inputs["x"].name, signature.outputs["y"].name = "x:0", "y:0"
    directory.parent.mkdir(parents=True, exist_ok=True)
    return support.save(directory, graph)


def recursive(directory: Path) -> Path:
    """A function that calls itself, which ends the process that loads it."""
    graph = support.graph()
    nodes = graph.graph_def
    nodes.node.add(name="x", op="Placeholder").attr["dtype"].type = 1
    function = nodes.library.function.add()
    function.signature.name = "f"
    function.signature.input_arg.add(name="a", type=1)
    function.signature.output_arg.add(name="b", type=1)
    call = function.node_def.add(name="c", op="PartitionedCall", input=["a"])
    outer = nodes.node.add(name="y", op="PartitionedCall", input=["x"])
    for node in (call, outer):
        node.attr["Tin"].list.type.append(1)
        node.attr["Tout"].list.type.append(1)
        node.attr["f"].func.name = "f"
    function.ret["b"] = "c:output:0"
    graph.signature_def["serving_default"].outputs["y"].name = "y:0"
    return support.save(directory, graph)


def harmless(directory: Path) -> Path:
    directory.parent.mkdir(parents=True, exist_ok=True)
    saved = writer(directory, Path("/none"))
    model = SavedModel.FromString((saved / "saved_model.pb").read_bytes())
    nodes = model.meta_graphs[0].graph_def.node
    for node in [node for node in nodes if node.name in ("write", "file", "text")]:
        nodes.remove(node)
    next(node for node in nodes if node.name == "y").input.pop()
    (saved / "saved_model.pb").write_bytes(model.SerializeToString())
    return saved


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's own means")
def test_what_a_confined_process_can_do(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    for directory, name in ((own, "own"), (other, "secret")):
        directory.mkdir()
        (directory / name).write_text("text")
    done = subprocess.run([sys.executable, "-c", _TRIED, str(own), str(other)], capture_output=True, text=True,
                          timeout=60, check=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
    said = json.loads(done.stdout)
    if not said["calls"]:
        pytest.skip("this kernel has no seccomp")
    expected = dict.fromkeys(said["found"], "refused") | {"read its own": "done"}
    if not said["files"]:
        expected |= {"read another": "done", "list another": "done"}
    assert said["found"] == expected
    assert (own / "own").read_text() == "text"
    assert [path.name for path in own.iterdir()] == ["own"]


def test_a_confined_model_answers(tmp_path: Path) -> None:
    with engine.confined(harmless(tmp_path / "m")) as model:
        x = np.arange(3e6, dtype=np.float32)
        for _ in range(2):
            np.testing.assert_array_equal(model.ask("serving_default", {"x": x})["y"], x)
        with pytest.raises(EngineError):
            model.ask("serving_default", {"x": np.float64([1])})


def test_a_confined_model_writes_nothing(tmp_path: Path) -> None:
    with engine.confined(writer(tmp_path / "m", tmp_path / "pwned")) as model, pytest.raises(EngineError):
        model.ask("serving_default", {"x": np.float32([1])})
    assert not (tmp_path / "pwned").exists() or not (tmp_path / "pwned").read_bytes()


def test_a_model_that_ends_its_process_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"ended the process that ran it, over loading it \(signal SIG"), \
            engine.confined(recursive(tmp_path / "m")):
        raise AssertionError("a model without a bottom was loaded")


def test_what_check_refuses_is_not_run(tmp_path: Path) -> None:
    bad, good, pwned = writer(tmp_path / "bad", tmp_path / "pwned"), harmless(tmp_path / "good"), tmp_path / "pwned"
    with pytest.raises(CheckFailed, match="file-write"):
        regression.compare(ComparedVersion.of(good), ComparedVersion.of(bad))
    repository = Repository(tmp_path / "models")
    repository.publish(bad, "m", 1)  # as any program may do that doesn't ask the gate
    with pytest.raises(CheckFailed, match="file-write"):
        regression.add(repository, ModelVersion("m", 1), [Golden("serving_default", {"x": np.float32([1])})])
    assert repository.versions("m") == [1]
    assert not pwned.exists()


def test_diff_runs_published_versions_and_others_on_request(tmp_path: Path, tfs: Tfs) -> None:
    harmless(tmp_path / "good")
    writer(tmp_path / "bad", tmp_path / "pwned")
    for _ in range(2):
        assert tfs("publish", "good", "--name", "m")[0] == 0
    Repository("models").publish("bad", "w", 1)
    (tmp_path / "models" / "n" / "1").parent.mkdir()
    harmless(tmp_path / "models" / "n" / "1")
    assert "2 generated requests" in tfs("diff", "m/1", "m/2")[1]
    code, said = tfs("diff", "m/1", "./good")
    assert (code, "nothing was asked: good wasn't published" in said.replace("./", "")) == (0, True), said
    assert "2 generated requests" in tfs("diff", "m/1", "./good", "--answers")[1]
    assert "n/1 wasn't published" in tfs("diff", "m/1", "n/1")[1]
    code, said = tfs("diff", "m/1", "w/1")
    assert (code, "nothing was asked" in said, "file-write" in said) == (10, True, True), said
    code, said = tfs("diff", "m/1", "w/1", "--answers")
    assert (code, "file-write" in said) == (3, True), said
    for words in (("goldens", "add", "n/1"), ("goldens", "add", "w/1")):
        code, said = tfs(*words)
        assert code in (3, 4), said
    assert "--run" in tfs("goldens", "add", "n/1")[1]
    assert tfs("goldens", "add", "n/1", "--run")[0] == 0
    assert not (tmp_path / "pwned").exists()

"""Goldens added, removed, imported and replayed; versions compared. On the engine, and against a server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import deploy
from deploy import goldens, regression, savedmodel
from deploy.cli.outcome import run
from deploy.client import connect
from deploy.errors import ExportError, RepositoryError, SpecError
from deploy.export.examples import cases
from deploy.goldens import warmup
from deploy.goldens.recorded import ENGINE, SERVER, Golden
from deploy.regression import ComparedVersion, comparing
from deploy.repository import Repository, read_facts
from deploy.savedmodel.diff import Level
from deploy.types import ModelRef, ModelVersion
from deploy.wire import records, tensors
from deploy.wire import serving_pb2 as pb
from tests.support.modelserver import server

pytestmark = pytest.mark.tensorflow

Tfs = Callable[..., tuple[int, str]]


@pytest.fixture
def repository(models: Path, tmp_path: Path) -> Repository:
    """half/1 and, with another offset, half/2; neither has goldens."""
    made = Repository(tmp_path / "models")
    for source in ("half_plus_two", "half_plus_three"):
        made.publish(models / source, "half")
    return made


@pytest.fixture
def tfs(repository: Repository, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tfs:
    monkeypatch.setenv("TFS_REPOSITORY", str(repository.root))

    def call(*words: str) -> tuple[int, str]:
        code = run([*words])
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


ONE = ModelVersion("half", 1)


def requests(*batches: int) -> list[Golden]:
    return [Golden("serving_default", {"x": np.arange(size, dtype=np.float32)}) for size in batches]


def recorded(path: Path, *asked: tuple[str, object, object]) -> Path:
    """A file of requests as a server's log has them: signature, x, and y or None."""
    logs = []
    for signature, x, y in asked:
        made = pb.PredictionLog()
        made.predict_log.request.model_spec.name = "another_name"
        made.predict_log.request.model_spec.version.value = 77
        made.predict_log.request.model_spec.signature_name = signature
        made.predict_log.request.inputs["x"].CopyFrom(tensors.encode(np.float32(x)))
        if y is not None:
            made.predict_log.response.outputs["y"].CopyFrom(tensors.encode(np.float32(y)))
        logs.append(made.SerializeToString())
    records.write(path, logs)
    return path


def test_adding_makes_another_version_and_leaves_the_old_one(repository: Repository) -> None:
    before = repository.manifest(ONE).digest
    edited = regression.add(repository, ONE, requests(1, 2, 8))
    made = edited.published
    assert (made.mv, edited.added, made.manifest.goldens) == (ModelVersion("half", 3), 3, 3)
    assert made.manifest.producer["edited_from"] == "half/1"
    assert repository.verify(ONE).digest == before
    repository.verify(made.mv)
    found = goldens.read(made.path)
    assert [golden.origin for golden in found] == [ENGINE] * 3
    assert np.array_equal(found[1].outputs["y"], [2.0, 2.5])
    more = regression.add(repository, made.mv, requests(5))
    assert more.published.manifest.goldens == 4
    less = regression.remove(repository, more.published.mv, [0, 2])
    assert [len(g.inputs["x"]) for g in goldens.read(less.published.path)] == [2, 5]
    none = regression.remove(repository, less.published.mv, [0, 1])
    assert none.published.manifest.goldens == 0
    assert not (none.published.path / goldens.FILE).exists()


def test_what_can_not_be_added_or_removed(repository: Repository, models: Path) -> None:
    with pytest.raises(ExportError, match="refuses a request"):
        regression.add(repository, ONE, [Golden("serving_default", {"x": np.zeros(2, np.int32)})])
    with pytest.raises(RepositoryError, match="over 1000"):
        regression.add(repository, ONE, requests(*[1] * 1001))
    with pytest.raises(SpecError, match="has no record 0"):
        regression.remove(repository, ONE, [0])
    assert repository.versions("half") == [1, 2]


def test_recorded_requests_become_goldens(repository: Repository, tmp_path: Path) -> None:
    file = recorded(tmp_path / "log", ("", [5.0], None), ("serving_default", [7.0, 8.0], [5.5, 6.0]), ("", [5.0], None),
                    ("nope", [1.0], None), ("", [[1.0]], None))
    edited = regression.import_file(repository, ONE, file)
    found = goldens.read(edited.published.path)
    assert [(g.origin, g.outputs["y"].tolist()) for g in found] == \
        [(ENGINE, [4.5]), (SERVER, [5.5, 6.0]), (ENGINE, [[2.5]])]
    assert sorted(edited.notes) == ["1 left out: the model has no signature 'nope' (there is serving_default)",
                                    "1 left out: the same request again"]
    assert warmup.check(edited.published.path, edited.published.manifest.contract).ok  # type: ignore[union-attr]
    again = regression.import_file(repository, edited.published.mv, recorded(tmp_path / "more", ("", [9.0], [0.0])),
                                   recorded_answers=False)
    assert goldens.read(again.published.path)[-1].outputs["y"].tolist() == [6.5]
    with pytest.raises(RepositoryError, match=r"nothing of .* was taken: 1: the same request again"):
        regression.import_file(repository, again.published.mv, tmp_path / "more")


def test_of_many_recorded_requests_some_from_everywhere_are_taken(repository: Repository, tmp_path: Path) -> None:
    file = recorded(tmp_path / "log", *[("", [float(number)], [number / 2 + 2]) for number in range(2000)])
    edited = regression.import_file(repository, ONE, file)
    found = [float(g.inputs["x"][0]) for g in goldens.read(edited.published.path)]
    assert (len(found), found[0], found[-1]) == (1000, 0.0, 1998.0)
    few = regression.import_file(repository, ONE, file, most=4)
    assert [float(g.inputs["x"][0]) for g in goldens.read(few.published.path)] == [0.0, 500.0, 1000.0, 1500.0]


@pytest.mark.parametrize("content", [b"no records", b""])
def test_a_file_that_holds_none(repository: Repository, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "log").write_bytes(content)
    with pytest.raises(RepositoryError, match="log"):
        regression.import_file(repository, ONE, tmp_path / "log")
    assert repository.versions("half") == [1, 2]


def test_replay_on_the_engine_and_on_a_server(repository: Repository, tmp_path: Path) -> None:
    path = regression.add(repository, ONE, requests(1, 3)).published.path
    known = read_facts(path)
    with regression.on_engine(path) as ask:
        assert regression.replay(known.goldens, ask, known.tolerances).within
    with server(tmp_path, "--model_name=half", f"--model_base_path={repository.root / 'half'}") as running, \
            connect(f"127.0.0.1:{running.port}") as client:
        drift = regression.replay(known.goldens, regression.on_server(client, ModelRef("half")), known.tolerances)
        assert drift.within
        other = regression.replay(known.goldens, regression.on_server(client, ModelRef("half", 99)), known.tolerances)
        assert len(other.refused) == 2


def test_versions_compared_by_what_they_answer(repository: Repository, models: Path) -> None:
    made = regression.add(repository, ONE, requests(2)).published
    same = regression.compare(ComparedVersion.of(made.path), ComparedVersion.of(repository.path(ONE)))
    assert (same.level, same.drift is not None and same.drift.within) == (Level.COMPATIBLE, True)
    two = ModelVersion("half", 2)
    a, b = ComparedVersion.of(made.path, made.mv), ComparedVersion.of(repository.path(two), two)
    other = regression.compare(a, b)
    assert (other.verdict.level, other.level) == (Level.COMPATIBLE, Level.REVIEW)
    asked = f"1 golden case of {made.mv} asked of half/2"
    assert other.asked == asked
    assert other.drift is not None
    assert other.drift.outputs[0].max == 1.0
    backwards = regression.compare(b, a)
    assert (backwards.level, backwards.asked) == (Level.REVIEW, asked)
    neither = regression.compare(ComparedVersion.of(models / "mnist"), ComparedVersion.of(models / "mnist"))
    assert neither.asked.startswith("4 generated requests")
    assert neither.level is Level.COMPATIBLE
    assert deploy.diff(made.mv, two, repository=repository) == other
    assert deploy.diff(made.path, repository.path(two), answers=False).asked == "nothing was asked"
    unpublished = deploy.diff(made.path, repository.path(two))  # a directory is run by whoever says so only
    assert (unpublished.drift, "wasn't published by this toolkit" in unpublished.asked) == (None, True)


def test_a_model_that_can_not_repeat_itself(repository: Repository) -> None:
    calls = iter(np.float32([[1.0], [2.0]]))
    said = regression.editing.answered(lambda *_: {"y": next(calls)}, Golden("serving_default", {}), {})
    assert "answers differently from call to call" in str(said)


def test_generated_requests_cover_the_batch_sizes(models: Path) -> None:
    info = savedmodel.read(models / "half_plus_two")
    made = cases(None, info.contract, info.features, {}, batches=(1, 2, 8, 8))
    assert [case.inputs["x"].shape for case in made] == [(1,), (2,), (8,)]


# -- the command line


def test_exit_codes_of_diff(tfs: Tfs, models: Path) -> None:
    assert tfs("goldens", "add", "half/1", "--batch-sizes", "1,4")[0] == 0
    code, said = tfs("diff", "half/3", "half/1")
    assert (code, "half/3 -> half/1: compatible" in said) == (0, True)
    code, said = tfs("diff", "half/3", "half/2")
    assert (code, "review required" in said, "answers differ" in said) == (10, True, True)
    assert tfs("diff", "half/3", "half/2", "--allow-review")[0] == 0
    assert tfs("diff", "half/3", "half/2", "--no-answers")[0] == 0
    code, said = tfs("diff", "half/3", str(models / "two_signatures"))
    assert (code, "2 dimensions, before 1" in said) == (3, True)
    code, said = tfs("diff", "half/3", str(models / "two_signatures"), "--json")
    assert (code, json.loads(said)["verdict"]) == (3, "breaking")


def test_diff_with_a_live_server(tfs: Tfs, repository: Repository, tmp_path: Path) -> None:
    tfs("goldens", "add", "half/2")
    with server(tmp_path, "--model_name=half", f"--model_base_path={repository.root / 'half'}") as running:
        address = ("--grpc", f"127.0.0.1:{running.port}")
        assert tfs("diff", "live:half", "half/3", *address)[0] == 0
        assert tfs("diff", "live:half", "half/1", *address)[0] == 10
        code, said = tfs("goldens", "replay", "half/3", *address)
        assert (code, "within" in said) == (0, True)
        code, said = tfs("goldens", "replay", "half/3", "--rest-url", f"http://127.0.0.1:{running.rest_port}", "--as",
                         "half")
        assert code == 0
    assert tfs("diff", "live:half", "half/1")[0] == 2


def test_goldens_on_the_command_line(tfs: Tfs, tmp_path: Path, repository: Repository) -> None:
    np.savez(tmp_path / "x.npz", x=np.float32([np.nan, 2.0]))
    assert tfs("goldens", "add", "half/1", "--examples", str(tmp_path / "x.npz"))[0] == 0
    _, said = tfs("goldens", "list", "half/3", "--json")
    assert json.loads(said) == [{"number": 0, "kind": "predict", "signature": "serving_default",
                                 "inputs": {"x": "float32[2]"}, "outputs": {"y": "float32[2]"}, "origin": "engine"}]
    assert tfs("goldens", "replay", "half/3")[0] == 0
    assert "1 with their answers" in tfs("goldens", "check", "half/3")[1]
    assert "published half/4" in tfs("goldens", "remove", "half/3", "0")[1]
    assert tfs("goldens", "remove", "half/3", "7")[0] == 2
    assert tfs("goldens", "replay", "half/4")[0] == 4
    assert tfs("goldens", "add", "half/1", "--batch-sizes", "1,zero")[0] == 2
    log = recorded(tmp_path / "log", ("", [5.0], None))
    assert "1 added" in tfs("goldens", "import", "half/1", str(log))[1]


def test_a_damaged_file_is_named(tfs: Tfs, models: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(models / "half_plus_two", tmp_path / "v")
    (tmp_path / "v" / "assets.extra").mkdir()
    (tmp_path / "v" / goldens.FILE).write_bytes(b"garbage, and no records")
    for words in (("goldens", "check"), ("goldens", "list"), ("goldens", "replay")):
        code, said = tfs(*words, str(tmp_path / "v"))
        assert (code, "tf_serving_warmup_requests" in said, "checksum" in said) == (4, True, True), said
    code, said = tfs("publish", str(tmp_path / "v"), "--name", "v")
    assert (code, "tf_serving_warmup_requests" in said) == (4, True), said
    code, said = tfs("inspect", str(tmp_path / "v"))
    assert (code, "a server refuses them" in said) == (0, True)


def test_refusals_of_the_engine_are_findings(models: Path) -> None:
    with regression.on_engine(models / "fails") as ask:
        assert isinstance(comparing.answer(ask, "serving_default", {"x": np.float32([-1])}), str)
        assert isinstance(comparing.answer(ask, "nope", {}), str)

"""Releases of several model servers without TensorFlow, that tfs hasn't started: what a release keeps, and leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from deploy import Repository, fleet, rollout, savedmodel, serving
from deploy.cli.app import app
from deploy.errors import DigestMismatch, RolloutError, VersionNotFound
from deploy.fleet import kept
from deploy.signing import Receipt, receipts_of
from deploy.spec import ComparePart, Spec, load_spec
from deploy.state import ledger_of
from deploy.state.lines import Line
from deploy.testing import serve
from deploy.types import ModelVersion, Specific
from deploy.wire import model_pb2 as pb
from tests.support.repository import savedmodel as write_savedmodel

QUICK = {"soak": 0.0, "hold": 0.0, "interval": 0.01, "patience": 1.0, "canary": False, "compare": False}


@contextmanager
def echoes(directory: Path, names: str, *, breaking: int = 0, **part: Any) -> Iterator[Spec]:
    """Servers of m/1, of a letter each, and a spec of them; they know how to load 2 and 3. breaking: the version whose
    output has another name. part: of the spec's rollout."""
    contracts = {}
    for number in (1, 2, 3):
        place = write_savedmodel(directory / "build" / str(number) / "m")
        if number == breaking:
            model = pb.SavedModel.FromString((place / "saved_model.pb").read_bytes())
            outputs = model.meta_graphs[0].signature_def["serving_default"].outputs
            outputs["z"].CopyFrom(outputs.pop("y"))
            (place / "saved_model.pb").write_bytes(model.SerializeToString())
        Repository(directory / "models").publish(place, "m")
        contracts[number] = savedmodel.read(place).contract
    with ExitStack() as running:
        places = [running.enter_context(serve({"m": contracts}, labels={"m": {"stable": 1}}, versions=Specific((1,))))
                  .endpoint for _ in names]
        servers = [{"name": name, "server": {"remote": {"grpc": f"127.0.0.1:{at.grpc_port}",
                                                        "rest": f"http://127.0.0.1:{at.rest_port}"}}}
                   for name, at in zip(names, places, strict=True)]
        (directory / "serving.yaml").write_text(yaml.safe_dump({
            "name": "fleet", "models": [{"name": "m", "versions": [1], "labels": {"stable": 1}}],
            "server": {"backend": "remote"}, "servers": servers, "rollout": {**QUICK, **part}}))
        spec = load_spec(directory / "serving.yaml")
        for member in spec.members:
            serving.up(member)
        yield spec


def changed(spec: Spec, **part: Any) -> Spec:
    """The spec's file with other values of rollout."""
    text = yaml.safe_load(spec.path.read_text())
    spec.path.write_text(yaml.safe_dump({**text, "rollout": {**text["rollout"], **part}}))
    return load_spec(spec.path)


def tfs(spec: Spec, *args: str) -> Result:
    return CliRunner().invoke(app, [*args, "--spec", str(spec.path)])


def begun(spec: Spec, server: str) -> Mapping[str, Any]:
    """The options of a server's last release."""
    member = next(member for member in spec.members if member.short_name == server)
    lines: list[Line] = [line for line in ledger_of(member).read() if line["event"] == "begin"]
    options: Mapping[str, Any] = lines[-1]["options"]
    return options


@pytest.mark.parametrize("written", ["today", "by an earlier release"])
def test_a_release_keeps_what_it_began_with(tmp_path: Path, written: str) -> None:
    """Whatever the spec says when it is gone on with: the options of the command, and the spec of that time."""
    with echoes(tmp_path, "ab", waves=[1, "100%"], soak=0.2, hold=0.3) as spec:
        done = tfs(spec, "rollout", "m", "--to", "2", "--soak", "0.01", "--hold", "0.02", "--canary", "--compare",
                   "--pause-before", "wave")
        assert done.exit_code == 0 and "waits before wave 2" in done.output, done.output
        if written != "today":
            path = ledger_of(spec).path
            text = path.read_text()
            assert '"bake_before"' in text and '"bake_after"' in text
            path.write_text(text.replace('"bake_before"', '"soak"').replace('"bake_after"', '"hold"'))
        assert tfs(spec, "rollout", "m", "--continue").exit_code == 0
        first, second = (begun(spec, name) for name in "ab")
        assert (second["bake_before"], second["bake_after"]) == (0.01, 0.02)
        assert {**second, "pauses": ()} == {**first, "pauses": ()}
        assert second["canary"] == "canary" and second["trial"] == ["gate", "compare", "bake_before"]


def test_limits_of_the_comparison_are_kept(tmp_path: Path) -> None:
    """But for the file of recorded requests, whose path is that of one machine."""
    limits = ComparePart(flips=0.5, repeats=1)
    with echoes(tmp_path, "ab", waves=[1, "100%"], compare={"flips": 0.5, "repeats": 1}) as spec:
        assert fleet.roll_out(spec, "m", 2, pause_before=["wave"]).ended.wave == 2
        options = fleet.history(spec)[-1].options
        elsewhere = changed(spec, compare=False)
        assert kept.kept(options, elsewhere.rollout)["compare"] == limits
        assert fleet.go_on(elsewhere, "m").ended.outcome == "done"
        assert "compare" in begun(spec, "b")["trial"]
        recorded = changed(spec, compare={"requests": "recorded"}).rollout
        assert "requests" not in kept.written(recorded)["compare"]
        assert str(kept.kept(options, recorded)["compare"].requests) == str(tmp_path / "recorded")
    assert "compare" not in kept.kept({**options, "compare": {"flips": "of another release"}}, spec.rollout)


def test_a_broken_contract_that_was_allowed_is_allowed_to_the_end(tmp_path: Path) -> None:
    with echoes(tmp_path, "ab", waves=[1, "100%"], breaking=2) as spec:
        with pytest.raises(RolloutError, match="breaks the clients"):
            fleet.roll_out(spec, "m", 2)
        assert fleet.roll_out(spec, "m", 2, pause_before=["wave"], allow_breaking="they know").ended.wave == 2
        assert fleet.go_on(spec, "m").ended.outcome == "done"


def receipts(spec: Spec, version: int) -> list[Receipt]:
    place = Repository(spec.path.parent / "models")
    return [one for one in receipts_of(place, ModelVersion("m", version)) if one.result.startswith("rollout on fleet ")]


def test_a_receipt_has_the_evidence_of_its_own_release(tmp_path: Path) -> None:
    """Not of an earlier one on a server that this one didn't change."""
    with echoes(tmp_path, "ab", compare=True) as spec:
        fleet.roll_out(spec, "m", 2, note="on both")
        rollout.roll_out(spec.members[1], "m", 3)
        fleet.roll_out(spec, "m", 2, note="on b")
        both, one = receipts(spec, 2)
        assert both.notes == ("on both",) and "fleet.a" in str(both.passed) and "fleet.b" not in str(both.passed)
        assert one.notes == ("on b",) and "fleet.b" in str(one.passed) and "fleet.a" not in str(one.passed)


def test_a_receipt_of_a_release_that_changed_no_server_has_no_verdicts(tmp_path: Path) -> None:
    with echoes(tmp_path, "ab", breaking=3) as spec:
        with pytest.raises(RolloutError, match="as it was before on all servers: a: version 3 breaks the clients"):
            fleet.roll_out(spec, "m", 3, note="tried")
        (tried,) = receipts(spec, 3)
        assert tried.result == "rollout on fleet undone" and tried.passed == () and tried.notes[-1] == "tried"


def test_a_version_that_is_nowhere_is_refused_before_a_release_begins(tmp_path: Path) -> None:
    with echoes(tmp_path, "ab") as spec:
        with pytest.raises(VersionNotFound, match=r"there is no m/9 in .*; there are versions 1, 2, 3"):
            fleet.roll_out(spec, "m", 9)
        assert fleet.history(spec) == [] and all(rollout.history(member) == [] for member in spec.members)


def test_what_forbids_a_release_on_a_server_keeps_its_own_id_and_hint(tmp_path: Path) -> None:
    with echoes(tmp_path, "ab") as spec:
        with (tmp_path / "models" / "m" / "2" / "saved_model.pb").open("ab") as file:
            file.write(b"\0")
        with pytest.raises(RolloutError, match=r"as it was before on all servers: a: .*saved_model\.pb") as caught:
            fleet.roll_out(spec, "m", 2)
        assert caught.value.exit_code == 8 and caught.value.id == DigestMismatch.id
        assert "publish it again" in caught.value.hint


def test_a_rollback_to_different_versions_says_which_server_goes_where(tmp_path: Path) -> None:
    with echoes(tmp_path, "ab") as spec:
        fleet.roll_out(spec, "m", 2)
        rollout.roll_out(spec.members[1], "m", 3)
        fleet.roll_out(spec, "m", 2)
        told = list[str]()
        fleet.roll_back(spec, "m", progress=told.append)
        said = next(number for number, line in enumerate(told) if line.endswith("by its own history: a to 1, b to 3"))
        assert said < next(number for number, line in enumerate(told) if line.startswith("bringing back"))

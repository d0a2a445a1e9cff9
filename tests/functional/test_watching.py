"""`watch`: a server that serves something else than what is known to be good is brought back, and nothing else is."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy import backends, client, rollout, serving
from deploy.cli.app import app
from deploy.errors import LockHeld, RolloutError, ServerError
from deploy.locks import locked
from deploy.render import models_config
from deploy.render.configs import MODELS
from deploy.rollout.watching import desired, file_drift
from deploy.serving import Known
from deploy.spec import Spec, load_spec
from deploy.state import Ledger
from deploy.types import All, ServedModel, Specific, VersionPolicy
from tests.functional.test_remote import ONE, TWO, live, published, staged
from tests.support.remote import Elsewhere, elsewhere
from tests.support.servers import until
from tests.support.serving import FakeClock, spec_at


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Elsewhere]:
    with elsewhere(tmp_path / "there", {"m": 1, "n": 1}) as server:
        yield server


@pytest.fixture
def spec(there: Elsewhere, tmp_path: Path) -> Spec:
    """Adopted without its config file, and version 2 of m rolled out."""
    published(tmp_path / "ops" / "models", 2)
    models = "[{name: m, versions: [1], labels: {stable: 1}}, {name: n, versions: [1], labels: {stable: 1}}]"
    taken = there.spec(tmp_path / "ops", staged(there), models=models)
    serving.up(taken)
    rollout.roll_out(taken, "m", 2)
    return taken


def served(name: str, *versions: int, policy: VersionPolicy | None = None, **labels: int) -> ServedModel:
    return ServedModel(name, f"/{name}", policy or Specific(versions), labels)


# -- pure

def test_what_the_file_should_say() -> None:
    paths = {"m": "/m", "n": "/n", "x": "/x"}
    now = models_config([served("m", 1), served("x", policy=All())], paths)
    good = {"m": served("m", 2, stable=2), "n": served("n", 5)}
    wanted = desired(now, good, paths)
    assert wanted == models_config([served("m", 2, stable=2), served("x", policy=All()), served("n", 5)], paths)
    assert list(file_drift(now, wanted)) == [
        "the config file named 1 of m, not 2 (stable -> 2)", "the config file didn't name n"]
    assert list(file_drift(wanted, wanted)) == []
    pinned = desired(now, {"x": served("x", 3)}, paths)
    assert list(file_drift(now, pinned)) == ["the config file named what a policy chooses of x, not 3"]


# -- one look

def test_what_a_restart_undoes_comes_back(there: Elsewhere, spec: Spec) -> None:
    assert rollout.watch(spec).outcome == "well"
    there.restart()
    status = serving.status(spec)
    assert live(spec, "m") == ONE and not status.ready
    assert any("tfs watch brings back what is known to be good" in d.message for d in status.drift)
    seen = rollout.watch(spec)
    assert seen.outcome == "mended" and seen.drift == ("m was served as 1 (stable -> 1), not 2 (stable -> 2)",)
    assert live(spec, "m") == TWO and serving.status(spec).ready
    assert rollout.watch(spec).outcome == "well"
    assert [line["drift"] for line in Ledger(spec.state_dir).read() if line["event"] == "mended"] == [list(seen.drift)]


def test_what_others_have_pushed_goes_again(there: Elsewhere, spec: Spec) -> None:
    """A model less, and a label elsewhere."""
    with client.connect(f"127.0.0.1:{there.grpc}") as asked:
        asked.reload(models_config([ServedModel("m", "", Specific((1, 2)), {})], {"m": str(there.models / "m")}))
    seen = rollout.watch(spec)
    assert seen.outcome == "mended" and "n was served as nothing, not 1 (stable -> 1)" in seen.drift
    assert live(spec, "m") == TWO and live(spec, "n") == ONE


def test_an_edited_config_file_is_written_again(there: Elsewhere, tmp_path: Path) -> None:
    """Ours stays what is known to be good; another model in the file is somebody else's affair."""
    spec = there.spec(tmp_path / "ops", f"models: {there.models}, config_file: {there.file}")
    serving.up(spec)
    there.file.write_text(there.file.read_text().replace("versions: 1", "versions: 9", 1))
    seen = rollout.watch(spec)
    assert seen.drift == ("the config file named 9 (stable -> 1) of m, not 1 (stable -> 1)",)
    assert "versions: 9" not in there.file.read_text() and 'name: "n"' in there.file.read_text()


def test_a_pinned_spec_pins_a_server_that_followed_a_policy(tmp_path: Path) -> None:
    with elsewhere(tmp_path / "there", labels=False, policy=All()) as there:
        part = there.part()
        adopted = serving.adopt(part, tmp_path / "serving.yaml", Known({}, pin=True))
        assert rollout.watch(adopted.spec).outcome == "well"


def test_a_server_of_ours_is_watched_as_well(tmp_path: Path) -> None:
    """What others push, and what they write into its file, is undone; an edited spec waits for `up`."""
    published(tmp_path / "models", 1, 2)
    text = "models: [{name: m, versions: [1], labels: {stable: 1}}]"
    spec = spec_at(tmp_path, text, backend="embedded", flags={"tfs_loader": "echo"})
    up = serving.up(spec)
    try:
        assert rollout.watch(spec).outcome == "well"
        config, base = backends.config(spec, up.server), spec.models[0].base_path
        with client.connect(up.endpoint) as asked:
            asked.reload(models_config([ServedModel("m", base, Specific((2,)), {})], {"m": base}))
            until(lambda: any(s.version == 2 and s.serving for s in asked.status("m")), "version 2 is served")
        config.write({MODELS: (config.read(MODELS) or "").replace("versions: 1", "versions: 2")})
        seen = rollout.watch(spec)
        assert len(seen.drift) == 2 and live(spec) == ONE and "versions: 2" not in (config.read(MODELS) or "")
        edited = spec_at(tmp_path, text.replace("1", "2"), backend="embedded", flags={"tfs_loader": "echo"})
        assert rollout.watch(edited).outcome == "well" and live(spec) == ONE
    finally:
        serving.down(spec)


def test_an_open_release_decides(there: Elsewhere, spec: Spec, tmp_path: Path) -> None:
    published(tmp_path / "ops" / "models", 3)
    rollout.roll_out(spec, "m", 3, pause_before=["promote"])
    seen = rollout.watch(spec)
    assert seen.outcome == "release" and "to version 3 is open" in seen.drift[0]
    rollout.abort(spec, "m")
    assert rollout.watch(spec).outcome == "well"


def test_it_waits_for_nobody_and_starts_nothing(there: Elsewhere, spec: Spec) -> None:
    with locked(spec.state_dir, "a test"), pytest.raises(LockHeld):
        rollout.watch(spec)
    there.kill()
    with pytest.raises(ServerError, match="doesn't answer"):
        rollout.watch(spec)


def test_a_version_that_is_gone_there_is_told(there: Elsewhere, spec: Spec) -> None:
    """A reload that names a missing base path would hang the server."""
    there.restart()
    (there.models / "m").rename(there.models / "away")
    with pytest.raises(RolloutError, match="the server doesn't find"):
        rollout.watch(spec)


def test_repair_is_the_same_without_a_reason(there: Elsewhere, spec: Spec) -> None:
    there.restart()
    rollout.repair(spec)
    assert live(spec, "m") == TWO


# -- the command

def test_the_command_tells_what_it_did(there: Elsewhere, spec: Spec) -> None:
    there.restart()
    done = CliRunner().invoke(app, ["watch", "--spec", str(spec.path), "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["outcome"] == "mended"
    done = CliRunner().invoke(app, ["watch", "--spec", str(spec.path)])
    assert done.stdout == "serving serves what is known to be good\n"


def test_the_loop_goes_on_through_everything(there: Elsewhere, spec: Spec, monkeypatch: pytest.MonkeyPatch,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    """Well; gone; back with its old file; well again."""
    before = threading.active_count()  # other tests' clients leave threads of theirs in this process
    from deploy.cli import adopting
    from deploy.waiting import Deadline

    steps = iter([there.kill, there.start, lambda: None, lambda: None])

    class Turns(FakeClock):
        def sleep(self, seconds: float, /) -> None:
            step = next(steps, None)
            if step is None:
                raise KeyboardInterrupt
            step()

    monkeypatch.setattr("deploy.waiting.Deadline", lambda seconds: Deadline(seconds, Turns()))
    with pytest.raises(KeyboardInterrupt):
        adopting._loop(spec.path, ((), ()), 1.0, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["serves", "doesn't", "serves", "serves"], lines
    assert "good again: m was served as 1" in lines[2] and live(load_spec(spec.path), "m") == TWO
    assert threading.active_count() - before < 20

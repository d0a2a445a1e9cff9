"""A server that somebody else starts: everything works against it but starting and stopping it."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from deploy import client, rollout, serving
from deploy.backends.remote import endpoint_of
from deploy.backends.remote_config import RemoteConfig
from deploy.cli.app import app
from deploy.errors import DigestMismatch, RolloutError, ServerError, SpecError
from deploy.render import models_config
from deploy.render.configs import MODELS
from deploy.repository import Manifest, Repository
from deploy.repository.copying import Progress
from deploy.rollout.configs import ConfigFile
from deploy.serving.adoption import versions_served
from deploy.serving.doctor import diagnosis
from deploy.serving.ready import ready
from deploy.spec import RemotePart, RemoteTls, Spec, parse
from deploy.types import ModelVersion, ServedModel, Serving, Specific, Tls
from tests.support.remote import Elsewhere, elsewhere
from tests.support.repository import savedmodel
from tests.support.servers import until

ONE, TWO = Serving(frozenset({1}), {"stable": 1}), Serving(frozenset({2}), {"stable": 2})
GONE = "a restart of this server undoes what was released since it was adopted"


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Elsewhere]:
    with elsewhere(tmp_path / "there") as server:
        yield server


def published(directory: Path, *versions: int, weights: int = 0) -> Repository:
    """A repository of ours with these versions of m."""
    repository = Repository(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for version in versions:
        tree = savedmodel(directory.parent / "made" / str(version), weights=weights)
        repository.publish(tree, "m", version)
    return repository


def staged(there: Elsewhere) -> str:
    return f"models: {there.models}, stage: {there.models}"


def live(spec: Spec, name: str = "m") -> Serving:
    model = next(m for m in serving.status(spec).models if m.name == name)
    assert model.views.live is not None
    return model.views.live


# -- the spec

@pytest.mark.parametrize(("part", "message"), [
    ("backend: remote", "server/remote: it isn't said where the server is"),
    ("remote: {grpc: 'h:8500'}", "server/remote: a server of backend auto isn't somebody else's"),
    ("backend: remote, remote: {grpc: h}", "server/remote/grpc: expected host:port, got 'h'"),
    ("backend: remote, remote: {grpc: 'h:1', rest: 'h:2'}", "server/remote/rest: expected http://host:port"),
    ("backend: remote, remote: {grpc: 'h:1', models: models}", "server/remote/models: expected an absolute path"),
    ("backend: remote, remote: {grpc: 'h:1', models: {n: /n}}", "server/remote/models: model 'm' has no base path"),
    ("backend: remote, remote: {grpc: 'h:1', stage: 'ssh://h'}", "server/remote/stage: 'ssh://h' names no path"),
    ("backend: remote, remote: {grpc: 'h:1', config_file: 'ftp://h/x'}", "server/remote/config_file: 'ftp://h/x'"),
    ("backend: remote, remote: {grpc: 'h:1', tls: {client_key: k}}", "server/remote/tls: client_certificate is miss"),
])
def test_a_part_that_cannot_be_is_refused_in_a_sentence(tmp_path: Path, part: str, message: str) -> None:
    with pytest.raises(SpecError) as e:
        parse(f"models: [{{name: m, versions: [1]}}]\nserver: {{{part}}}", tmp_path / "serving.yaml")
    assert str(e.value).startswith(message)


@pytest.mark.parametrize(("one", "other", "says"), [
    ("remote: {grpc: 'h:8500'}", "remote: {grpc: 'h:8500'}", "h:8500 is the address of servers/0, too; one"),
    ("remote: {grpc: '127.0.0.1:37705'}", "remote: {grpc: 'localhost:37705'}",
     "localhost:37705 is the address of servers/0, too (as 127.0.0.1:37705); one"),
    ("remote: {grpc: 'a:1', rest: 'http://H.example.com/'}", "remote: {grpc: 'b:1', rest: 'http://h.example.com.:80'}",
     "http://h.example.com.:80 is the address of servers/0, too (as http://H.example.com/)"),
    ("remote: {grpc: '[::1]:8501'}", "grpc_port: 1, host: 0.0.0.0, backend: process, remote: null",
     "0.0.0.0:8501 is the address of servers/0, too (as [::1]:8501)"),
    ("host: localhost, backend: container, remote: null, docker: 'unix:///run/d.sock'",
     "remote: {grpc: 'dns:///localhost:8500'}", "dns:///localhost:8500 is the address of servers/0, too"),
])
def test_one_server_stands_once_in_a_file(tmp_path: Path, one: str, other: str, says: str) -> None:
    """However it is written. Names aren't looked up."""
    text = f"""models: [{{name: m, versions: [1]}}]
server: {{backend: remote, remote: {{grpc: 'x:1'}}}}
servers: [{{name: a, server: {{{one}}}}}, {{name: b, server: {{{other}}}}}]"""
    with pytest.raises(SpecError) as e:
        parse(text, tmp_path / "serving.yaml")
    assert says in str(e.value) and e.value.path == "servers/1/server"


def test_servers_behind_one_proxy_have_paths_of_their_own(tmp_path: Path) -> None:
    parse("""models: [{name: m, versions: [1]}]
server: {backend: remote}
servers:
- {name: a, server: {remote: {grpc: '127.0.0.1:1', rest: 'https://front/a'}}}
- {name: b, server: {remote: {grpc: '127.0.0.2:1', rest: 'https://front/b'}}}""", tmp_path / "serving.yaml")


def test_where_it_answers() -> None:
    e = endpoint_of(RemotePart(grpc="[::1]:8500", rest="https://front.example.com/models/",
                               tls=RemoteTls(ca="/ca.pem", server_name="x")))
    assert (e.host, e.grpc_target, e.rest_port) == ("::1", "[::1]:8500", 443)
    assert e.rest_url == "https://front.example.com/models" and e.tls == Tls("/ca.pem", server_name="x")
    for text, target in (("grpc://h:1/", "h:1"), ("dns:///h:1", "h:1"), ("dns:h:1", "h:1"),
                         ("ipv4:127.0.0.1:1", "127.0.0.1:1"), ("ipv6:[::1]:1", "[::1]:1"),
                         ("dns://8.8.8.8/h:1", "h:1")):
        assert endpoint_of(RemotePart(grpc=text)).grpc_target == target
    assert endpoint_of(RemotePart(grpc="h:8500")).ports == {"gRPC": 8500, "REST": None}


@pytest.mark.parametrize("text", ["dns:h", "unix:/run/s", "vsock:3:1", "h", "dns:///h"])
def test_an_address_without_a_port_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="expected host:port, got") as error:
        parse(f"models: [{{name: m, versions: [1]}}]\nserver: {{backend: remote, remote: {{grpc: '{text}'}}}}",
              tmp_path / "serving.yaml")
    assert "server/remote/grpc" in str(error.value)


# -- a release

def test_it_is_taken_over_and_gets_another_version(there: Elsewhere, tmp_path: Path) -> None:
    """Its file can't be written, and what it has is elsewhere: versions are copied there before it is told."""
    published(tmp_path / "ops" / "models", 2)
    spec = there.spec(tmp_path / "ops", staged(there))
    assert ready(spec).ready
    up = serving.up(spec)
    assert up.already and up.why == "it was started by somebody else"
    assert serving.status(spec).ready and diagnosis.diagnose(spec).well
    plan = rollout.plan_rollout(spec, "m", 2)
    assert plan.ok and any(GONE in note for note in plan.findings.notes)
    done = rollout.roll_out(spec, "m", 2)
    assert live(spec) == TWO and GONE in done.text() and GONE in done.to_json()["release"]["lost_on_restart"]
    assert Repository(there.models).verify(ModelVersion("m", 2)).goldens == 0
    status = serving.status(spec)
    assert status.ready and GONE in status.notes[0] and status.to_json()["notes"] == list(status.notes)
    assert GONE in rollout.history(spec)[-1].lost_on_restart
    rollout.roll_back(spec, "m")
    assert live(spec) == ONE, "nothing of version 1 is here, but the server has it"


def test_a_release_before_it_was_taken_over(there: Elsewhere, tmp_path: Path) -> None:
    published(tmp_path / "ops" / "models", 2)
    with pytest.raises(RolloutError, match="the server hasn't been taken over") as error:
        rollout.roll_out(there.spec(tmp_path / "ops", staged(there)), "m", 2)
    assert "tfs up" in error.value.hint and "start the server" not in error.value.hint and live(
        there.spec(tmp_path / "ops")) == ONE


def test_a_server_without_rest_is_asked_over_grpc_alone(there: Elsewhere, tmp_path: Path) -> None:
    published(tmp_path / "ops" / "models", 2)
    spec = there.spec(tmp_path / "ops", staged(there))
    assert spec.server.remote is not None
    alone = msgspec.structs.replace(spec, server=msgspec.structs.replace(
        spec.server, remote=msgspec.structs.replace(spec.server.remote, rest=None)))
    serving.up(alone)
    assert serving.status(alone).ready and ready(alone).ready and diagnosis.diagnose(alone).well
    assert rollout.roll_out(alone, "m", 2).release is not None and live(alone) == TWO
    assert rollout.watch(alone).outcome == "well"
    seen = serving.status(alone)
    assert seen.rest_url is None and seen.to_json()["endpoint"]["rest"] is None
    place, grpc = tmp_path / "ops" / "serving.yaml", str(spec.server.remote.grpc)
    place.write_text(place.read_text().replace(f"rest: '{spec.server.remote.rest}'", "rest: null"))
    for verb in ("status", "up"):
        said = CliRunner().invoke(app, [verb, "--spec", str(place)]).output
        assert f"gRPC {grpc}" in said.replace("  ", " ") and "None" not in said and "REST" not in said, said


def test_its_config_file_is_written_after_each_step(there: Elsewhere, tmp_path: Path) -> None:
    there.file.chmod(0o640)
    there.file.write_text("# whose it is\n" + there.file.read_text())
    published(tmp_path / "ops" / "models", 2)
    spec = there.spec(tmp_path / "ops", f"{staged(there)}, config_file: {there.file}")
    serving.up(spec)
    done = rollout.roll_out(spec, "m", 2)
    assert done.release is not None and not done.release.lost_on_restart and not serving.status(spec).notes
    assert there.file.read_text().startswith("# whose it is\n") and stat.S_IMODE(there.file.stat().st_mode) == 0o640
    there.restart()
    assert live(spec) == TWO and ready(spec).ready


def test_a_server_that_may_not_take_labels_gets_none_in_its_file(tmp_path: Path) -> None:
    """One that is started without the flag would end at its next start."""
    with elsewhere(tmp_path / "there", labels=False) as there:
        published(tmp_path / "ops" / "models", 2)
        spec = there.spec(tmp_path / "ops", f"{staged(there)}, config_file: {there.file}",
                          models="[{name: m, versions: [1]}]")
        serving.up(spec)
        done = rollout.roll_out(spec, "m", 2)
        assert "loses its labels" in done.text() and live(spec) == TWO
        status = serving.status(spec)
        assert status.ready and not status.drift and "version_labels" not in there.file.read_text()
        there.restart()
        assert live(spec) == Serving(frozenset({2}))


def test_a_copy_that_was_damaged_there_stops_the_release(there: Elsewhere, tmp_path: Path) -> None:
    ours = published(tmp_path / "ops" / "models", 2, weights=5000)
    spec = there.spec(tmp_path / "ops", staged(there))
    serving.up(spec)
    rollout.plan_rollout(spec, "m", 2)
    weights = there.models / "m" / "2" / "assets" / "weights.bin"
    weights.chmod(0o644)
    weights.write_bytes(b"x" * 5000)
    with pytest.raises(DigestMismatch, match="isn't what its manifest says"):
        rollout.roll_out(spec, "m", 2)
    assert live(spec) == ONE and not rollout.history(spec) and ours.versions("m") == [2]


@pytest.fixture
def read_back(monkeypatch: pytest.MonkeyPatch) -> list[ModelVersion]:
    """The copies that were read from beginning to end."""
    read, verify = list[ModelVersion](), Repository.verify

    def counted(repository: Repository, mv: ModelVersion, *, progress: Progress | None = None) -> Manifest:
        read.append(mv)
        return verify(repository, mv, progress=progress)

    monkeypatch.setattr(Repository, "verify", counted)
    return read


def test_what_was_verified_there_is_not_read_again(there: Elsewhere, tmp_path: Path, read_back: list[ModelVersion]
                                                   ) -> None:
    published(tmp_path / "ops" / "models", 2, weights=5000)
    spec = there.spec(tmp_path / "ops", staged(there))
    serving.up(spec)
    assert rollout.plan_rollout(spec, "m", 2).ok and rollout.plan_rollout(spec, "m", 2).ok
    rollout.roll_out(spec, "m", 2)
    assert live(spec) == TWO and not read_back, "it was compared with its manifest on the way"


def test_what_changed_there_or_was_forgotten_here_is_read_once(there: Elsewhere, tmp_path: Path,
                                                               read_back: list[ModelVersion]) -> None:
    published(tmp_path / "ops" / "models", 2, weights=5000)
    spec = there.spec(tmp_path / "ops", staged(there))
    serving.up(spec)
    rollout.plan_rollout(spec, "m", 2)
    (there.models / "m" / "2" / "assets" / "weights.bin").touch()
    assert rollout.plan_rollout(spec, "m", 2).ok and rollout.plan_rollout(spec, "m", 2).ok
    assert read_back == [ModelVersion("m", 2)]
    for text in ("", "{", '{"a": 1}', '["a"]'):
        (spec.state_dir / "verified.json").write_text(text)
        assert rollout.plan_rollout(spec, "m", 2).ok
    assert read_back == [ModelVersion("m", 2)] * 5
    (there.models / "m" / "2" / "assets" / "more").write_text("")
    assert [p.id for p in rollout.plan_rollout(spec, "m", 2).findings.problems] == [DigestMismatch.id]


@pytest.mark.parametrize("monitoring", [True, False])
def test_a_server_that_was_started_again_shows_what_it_did_before(tmp_path: Path, *, monitoring: bool) -> None:
    """Its metrics tell; else what it doesn't serve any more is all that is seen."""
    with elsewhere(tmp_path / "there", monitoring=monitoring) as there:
        published(tmp_path / "ops" / "models", 2)
        spec = there.spec(tmp_path / "ops", f"{staged(there)}, config_file: {there.file}")
        serving.up(spec)

        def start_again(sentence: str) -> None:
            if sentence.startswith("confirm: asking") and not restarts:
                restarts.append(sentence)
                there.restart()

        restarts = list[str]()
        with pytest.raises(RolloutError) as e:
            rollout.roll_out(spec, "m", 2, progress=start_again)
        told = "the server was started again meanwhile; version 2 may be the reason (noticed by: m@stable resolves to"
        assert (told in e.value.message) is monitoring and "m@stable resolves to" in e.value.message
        assert live(spec) == ONE and restarts and rollout.history(spec)[-1].outcome == "undone"
        rollout.roll_out(spec, "m", 2)
        assert live(spec) == TWO


# -- models that the spec doesn't have

OF_TWO = "[{name: m, versions: [1], labels: {stable: 1}}, {name: n, versions: [1], labels: {stable: 1}}]"


def serves(there: Elsewhere, name: str) -> list[int]:
    with client.connect(f"127.0.0.1:{there.grpc}") as connected:
        return sorted(versions_served(connected, name))


def test_a_model_that_the_spec_does_not_have_is_not_dropped(tmp_path: Path) -> None:
    with elsewhere(tmp_path / "there", {"m": 1, "n": 1}) as there:
        published(tmp_path / "ops" / "models", 2)
        spec = there.spec(tmp_path / "ops", staged(there))
        with pytest.raises(SpecError, match="^models: the server serves n as well, which serving.yaml doesn't") as e:
            serving.up(spec)
        assert e.value.id == "unnamed-model" and f"base path there is {there.models}/n" in e.value.hint
        assert not (spec.state_dir / "config" / MODELS).exists()
        both = there.spec(tmp_path / "ops", staged(there), models=OF_TWO)
        serving.up(both)
        rollout.roll_out(both, "m", 2)
        assert live(both) == TWO and serves(there, "n") == [1]


def test_a_model_that_others_have_added_since(tmp_path: Path) -> None:
    """Told to the server, and written nowhere: the next change would unload it."""
    with elsewhere(tmp_path / "there") as there:
        published(tmp_path / "ops" / "models", 2)
        savedmodel(there.models / "n" / "1")
        spec = there.spec(tmp_path / "ops", f"{staged(there)}, config_file: {there.file}")
        serving.up(spec)
        models = [ServedModel(name, str(there.models / name), Specific((1,)), {"stable": 1}) for name in ("m", "n")]
        with client.connect(f"127.0.0.1:{there.grpc}") as connected:
            connected.reload(models_config(models, {m.name: m.base_path for m in models}))
            until(lambda: serves(there, "n") == [1], "n is loaded")
        problems = rollout.plan_rollout(spec, "m", 2).findings.problems
        assert problems[0].id == "unnamed-model" and serves(there, "n") == [1]
        both = there.spec(tmp_path / "ops", f"{staged(there)}, config_file: {there.file}", models=OF_TWO)
        problems = rollout.plan_rollout(both, "m", 2).findings.problems
        assert str(problems[0]) == ("n is served, and isn't among what the server is told when anything changes: it "
                                    "would be unloaded; take it over: tfs up")
        serving.up(both)
        assert "name: \"n\"" in there.file.read_text() and "version_labels" in there.file.read_text()
        rollout.roll_out(both, "m", 2)
        assert live(both) == TWO and live(both, "n") == ONE
        there.restart()
        assert live(both) == TWO and live(both, "n") == ONE


def test_a_model_that_may_go_goes(tmp_path: Path) -> None:
    with elsewhere(tmp_path / "there", {"m": 1, "n": 1}) as there:
        published(tmp_path / "ops" / "models", 2)
        spec = there.spec(tmp_path / "ops", f"{staged(there)}, unload: [n]")
        serving.up(spec)
        rollout.roll_out(spec, "m", 2)
        assert live(spec) == TWO and serves(there, "n") == []


def test_where_nobody_can_see_other_models_the_plan_says_so(tmp_path: Path) -> None:
    with elsewhere(tmp_path / "there", {"m": 1}, monitoring=False) as there:
        published(tmp_path / "ops" / "models", 2)
        sentences = list[str]()
        spec = there.spec(tmp_path / "ops", staged(there))
        serving.up(spec, progress=sentences.append)
        note = "a model that the spec doesn't have can't be seen, and the first release unloads it"
        assert any(note in s for s in sentences)
        assert any(note in n for n in rollout.plan_rollout(spec, "m", 2).findings.notes)


def test_a_config_file_that_is_not_there_is_not_made(there: Elsewhere, tmp_path: Path) -> None:
    """It is a wrong path: the server has one."""
    published(tmp_path / "ops" / "models", 2)
    spec = there.spec(tmp_path / "ops", f"{staged(there)}, config_file: {there.place}/other.config")
    with pytest.raises(ServerError, match=r"other.config isn't there"):
        serving.up(spec)
    assert not (there.place / "other.config").exists()


# -- what isn't ours

def test_it_is_neither_started_nor_stopped(there: Elsewhere, tmp_path: Path) -> None:
    spec = there.spec(tmp_path / "ops", staged(there))
    with pytest.raises(ServerError, match="somebody else's: tfs hasn't started it, and doesn't stop it"):
        serving.down(spec)
    with pytest.raises(ServerError, match="its log is where it runs"):
        serving.logs(spec)
    there.kill()
    where = f"doesn't answer at 127.0.0.1:{there.grpc}; it is started by somebody else"
    for attempt in (serving.up, lambda spec: rollout.roll_back(spec, "m"), rollout.watch, rollout.repair):
        with pytest.raises(ServerError, match=where):
            attempt(spec)
    done = CliRunner().invoke(app, ["smoke", "--spec", str(spec.path)])
    assert isinstance(done.exception, ServerError) and where in done.exception.message
    assert where in serving.status(spec).problems[0] and where in ready(spec).why
    likely = diagnosis.diagnose(spec).most_likely
    assert likely is not None and where in likely.cause


# -- the config store

def test_a_file_there_that_others_edited_is_what_counts(tmp_path: Path) -> None:
    file = tmp_path / "there.config"
    entry = 'model_config_list { config { name: "m" base_path: "/m" model_platform: "tensorflow" ' \
            'model_version_policy { specific { versions: 1 } } } }\n'
    file.write_text(entry)
    store = RemoteConfig(tmp_path / "state", str(file), labels=False)
    assert store.read(MODELS) == entry and str(file) in store.path(MODELS)
    config = ConfigFile(store)
    config.change("m", TWO)
    assert ConfigFile(store).read().model_config_list.config[0].version_labels["stable"] == 2
    assert "version_labels" not in file.read_text()
    file.write_text(file.read_text().replace("versions: 2", "versions: 3"))
    assert store.read(MODELS) == file.read_text()


def test_a_file_there_that_cannot_be_written_is_what_counts(tmp_path: Path) -> None:
    file = tmp_path / "nowhere" / "file" / "there.config"
    file.parent.parent.mkdir()
    store = RemoteConfig(tmp_path / "state", str(file), labels=True)
    assert store.read(MODELS) is None
    file.parent.write_text("in the way")
    with pytest.raises(ServerError, match="can't"):
        store.write({MODELS: "x"})

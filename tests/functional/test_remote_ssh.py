"""A server on another machine that is reached by ssh: its config file and its directory of models. A real sshd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import rollout, serving
from deploy.errors import DeployError, RolloutError
from deploy.repository import Repository
from deploy.serving import Known
from deploy.spec import RemotePart, Spec
from deploy.types import ModelVersion
from tests.functional.test_remote import ONE, TWO, live, published
from tests.support.peers.sshd import SshServer, sshd
from tests.support.remote import Elsewhere, elsewhere


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def home(ssh: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return ssh.home_of_its_own(tmp_path / "home", monkeypatch)


@pytest.fixture
def there(home: Path, tmp_path: Path) -> Iterator[Elsewhere]:
    with elsewhere(tmp_path / "there") as server:
        yield server


def reached(ssh: SshServer, path: Path) -> str:
    """Its address by ssh."""
    return f"{ssh.address.partition(str(ssh.data))[0]}{path}"


@pytest.fixture
def spec(ssh: SshServer, there: Elsewhere, tmp_path: Path) -> Spec:
    """Adopted by ssh."""
    published(tmp_path / "ops" / "models", 2)
    part = RemotePart(grpc=f"127.0.0.1:{there.grpc}", rest=f"http://127.0.0.1:{there.rest}",
                      config_file=reached(ssh, there.file), stage=reached(ssh, there.models))
    adopted = serving.adopt(part, tmp_path / "ops" / "serving.yaml", Known({}, repository="models"))
    assert not adopted.notes
    return rollout.adjusted(adopted.spec, soak=0.0, hold=0.0)


def test_versions_and_the_config_file_get_there_before_and_after_each_step(there: Elsewhere, spec: Spec) -> None:
    done = rollout.roll_out(spec, "m", 2)
    assert done.release is not None and not done.release.lost_on_restart
    assert Repository(there.models).verify(ModelVersion("m", 2)) and not list(there.place.glob(".tfs-part*"))
    there.restart()
    assert live(spec) == TWO and rollout.watch(spec).outcome == "well"
    there.file.write_text(there.file.read_text().replace("versions: 2", "versions: 1"))
    assert rollout.watch(spec).outcome == "mended" and "versions: 2" in there.file.read_text()


def test_a_host_whose_key_nobody_knows(there: Elsewhere, spec: Spec, home: Path) -> None:
    (home / ".ssh" / "known_hosts").write_text("")
    with pytest.raises(DeployError) as e:
        rollout.roll_out(spec, "m", 2)
    assert e.value.id == "host-key" and len(str(e.value).splitlines()) == 1 and live_by_grpc(there, spec)
    status = serving.status(spec)
    assert any("config file can't be read" in d.message for d in status.drift) and status.running


def test_no_key_that_is_accepted(ssh: SshServer, there: Elsewhere, spec: Spec, home: Path, tmp_path: Path) -> None:
    for path in (home / ".ssh").glob("id_*"):
        path.unlink()
    for attempt in (lambda: rollout.roll_out(spec, "m", 2), lambda: rollout.watch(spec),
                    lambda: serving.adopt(RemotePart(grpc=f"127.0.0.1:{there.grpc}",
                                                     config_file=reached(ssh, there.file)), tmp_path / "b.yaml")):
        with pytest.raises(DeployError) as e:
            attempt()
        assert e.value.id == "credentials-refused" and len(str(e.value).splitlines()) == 1


def test_a_file_that_may_not_be_written_stops_before_the_label_moves(there: Elsewhere, spec: Spec,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """Its directory is gone when the release wants to write: traffic stays where it is."""
    def spoil(sentence: str) -> None:
        if sentence.startswith("gate: asking"):
            there.file.rename(there.file.with_suffix(".away"))

    with pytest.raises(RolloutError) as e:
        rollout.roll_out(spec, "m", 2, progress=spoil)
    there.file.with_suffix(".away").rename(there.file)
    assert "isn't there" in str(e.value)
    for _ in range(2):
        if rollout.watch(spec).outcome != "release":
            break
        rollout.abort(spec, "m")
    assert live(spec) == ONE


def live_by_grpc(there: Elsewhere, spec: Spec) -> bool:
    """Whether nothing was told to it."""
    from deploy import client

    with client.connect(f"127.0.0.1:{there.grpc}") as asked:
        return [s.version for s in asked.status("m") if s.serving] == [1] and spec.name != ""

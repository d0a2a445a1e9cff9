"""server/tls: the server's gRPC port speaks TLS, and everything of the toolkit speaks it with it; REST stays clear."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy import client, serving
from deploy.backends import BACKENDS
from deploy.cli.app import app
from deploy.errors import NotReady, SpecError, Unreachable
from deploy.serving import ready
from deploy.serving.planning import Choice, make
from deploy.spec import Spec
from deploy.types import Tls
from tests.support.repository import savedmodel
from tests.support.servers import engine_or_skip, server_image_or_skip
from tests.support.serving import spec_at
from tests.support.tls import self_signed

KINDS = ["embedded", pytest.param("container", marks=pytest.mark.docker)]


@pytest.fixture
def pems(tmp_path: Path) -> Tls:
    (tmp_path / "tls").mkdir()
    return self_signed(tmp_path / "tls")


def spec(where: Path, tls: str, backend: str = "embedded", **server: object) -> Spec:
    if backend == "container":
        server["image"] = server_image_or_skip(engine_or_skip())
    if not (where / "models").exists():
        savedmodel(where / "models" / "m" / "1")
    subprocess.run(["chmod", "-R", "a+rX", where / "models"], check=True)
    text = f"models: [{{name: m, versions: [1], labels: {{stable: 1}}}}]\nserver: {{tls: {{{tls}}}}}"
    return spec_at(where, text, backend=backend, flags={"tfs_loader": "echo"}, start_timeout=60.0, **server)


@contextmanager
def running(made: Spec) -> Iterator[serving.RunningServer]:
    try:
        yield serving.up(made)
    finally:
        serving.down(made)


@pytest.mark.parametrize("kind", KINDS)
def test_everything_talks_to_it_and_the_key_stays_in_one_file(tmp_path: Path, pems: Tls, kind: str) -> None:
    made = spec(tmp_path, "certificate: tls/cert.pem, key: tls/key.pem", kind)
    with running(made) as up:
        assert up.endpoint.tls == Tls(pems.ca) and up.endpoint.rest_url.startswith("http://")
        assert serving.status(made).ready and serving.up(made).already
        found = serving.find(made)  # as any other process finds it
        assert found is not None and found.endpoint == up.endpoint
        assert ready.Prober(made).ask().ready
        with client.connect(found.endpoint) as ours:
            assert ours.predict("m@stable", {"x": [1.0]})["y"].tolist() == [1.0]
        with client.connect(found.endpoint.grpc_target, attempts=1) as clear, pytest.raises(Unreachable):
            clear.status("m")
        key = Path(pems.key or "").read_text().splitlines()[1]
        holders = [p for p in made.state_dir.rglob("*") if p.is_file() and key in p.read_text(errors="replace")]
        assert [p.name for p in holders] == ["ssl.config"] and stat.S_IMODE(holders[0].stat().st_mode) == 0o600
    plan = json.dumps(serving.plan(made).to_json())
    assert key not in plan and "ssl.config" in plan and "isn't shown" in plan


def test_clients_without_a_certificate_are_shut_out_and_we_have_one(tmp_path: Path, pems: Tls) -> None:
    made = spec(tmp_path, "certificate: tls/cert.pem, key: tls/key.pem, client_ca: tls/cert.pem, "
                          "client_certificate: tls/cert.pem, client_key: tls/key.pem")
    with running(made) as up:
        assert ready.Prober(made).ask().ready
        with client.connect(up.endpoint.grpc_target, tls=Tls(pems.ca), attempts=1) as stranger, \
                pytest.raises(Unreachable):
            stranger.status("m")


def test_a_certificate_for_another_name_is_told_at_once_and_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    self_signed(tmp_path / "tls", name="serving.example")
    files = "certificate: tls/cert.pem, key: tls/key.pem"
    with pytest.raises(NotReady, match="can't talk to it: .*Hostname Verification") as e:
        serving.up(spec(tmp_path, files))
    assert "server_name" in e.value.hint and serving.find(spec(tmp_path, files)) is None
    with running(spec(tmp_path, f"{files}, server_name: serving.example")) as up:
        assert up.endpoint.tls is not None


def test_an_authority_that_didnt_sign_it_is_told_at_once(tmp_path: Path, pems: Tls) -> None:
    (tmp_path / "other").mkdir()
    self_signed(tmp_path / "other")
    with pytest.raises(NotReady, match="CERTIFICATE_VERIFY_FAILED"):
        serving.up(spec(tmp_path, "certificate: tls/cert.pem, key: tls/key.pem, ca: other/cert.pem"))


@pytest.mark.parametrize(("tls", "says"), [
    ("certificate: no.pem, key: tls/key.pem", "server/tls/certificate: can't read .*no.pem: No such file"),
    ("certificate: tls, key: tls/key.pem", "server/tls/certificate: can't read .*: Is a directory"),
    ("certificate: tls/cert.pem, key: tls/cert.pem", "server/tls/key: cert.pem can't be used with"),
    ("certificate: tls/key.pem, key: tls/key.pem", "server/tls/key: key.pem can't be used with"),
    ("certificate: tls/cert.pem, key: other/key.pem", "server/tls/key: key.pem is the key of another certificate"),
    ("certificate: tls/cert.pem, key: tls/locked.pem", "server/tls/key: .*locked.pem has a pass phrase"),
    ("certificate: tls/der, key: tls/key.pem", "server/tls/certificate: expected a PEM file.*openssl x509"),
    ("certificate: tls/cert.pem, key: tls/key.pem, ca: tls/key.pem", "server/tls/ca: .*holds no certificates"),
])
def test_files_that_no_server_could_use_are_named_before_it_is_started(tmp_path: Path, pems: Tls, tls: str, says: str
                                                                       ) -> None:
    (tmp_path / "other").mkdir()
    self_signed(tmp_path / "other")
    for command in (f"openssl x509 -in {pems.ca} -outform der -out tls/der",
                    f"openssl pkey -in {pems.key} -aes256 -passout pass:x -out tls/locked.pem"):
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    made = spec(tmp_path, tls)
    with pytest.raises(SpecError, match=says):
        serving.up(made)
    assert serving.find(made) is None


def test_another_certificate_is_another_configuration(tmp_path: Path, pems: Tls) -> None:
    made = spec(tmp_path, "certificate: tls/cert.pem, key: tls/key.pem")
    with running(made):
        self_signed(tmp_path / "tls")
        assert serving.status(made).changes == ("the files of server/tls have changed",)


def test_no_key_gets_into_an_image(tmp_path: Path, pems: Tls) -> None:
    with pytest.raises(SpecError, match="server/tls: a private key doesn't belong into an image"):
        serving.build_image(spec(tmp_path, "certificate: tls/cert.pem, key: tls/key.pem"), "servers/x:1")


def test_configure_writes_it_for_the_servers_user_only(tmp_path: Path, pems: Tls) -> None:
    made = spec(tmp_path, "certificate: tls/cert.pem, key: tls/key.pem")
    (tmp_path / "serving.yaml").write_text("models: [{name: m, versions: 1}]\n"
                                           "server: {tls: {certificate: tls/cert.pem, key: tls/key.pem}}\n")
    words = ["configure", "--spec", str(tmp_path / "serving.yaml"), "--out", str(tmp_path / "o")]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0 and stat.S_IMODE((tmp_path / "o/ssl.config").stat().st_mode) == 0o600
    plan = make(made, Choice(BACKENDS["embedded"], ""))
    assert f"--ssl_config_file={made.state_dir}/config/ssl.config" in (plan.launch.options.argv or ())
    assert "PRIVATE" not in repr(plan)

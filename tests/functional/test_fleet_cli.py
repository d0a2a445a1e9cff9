"""The verbs over several servers of one spec: one table, JSON by server, the worst exit code."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import psutil
import pytest
from click.testing import CliRunner

from deploy import Repository, serving
from deploy.cli.app import app
from deploy.spec import Spec, load_spec
from tests.support.repository import savedmodel

NAMES = ["eu-1", "eu-2", "us-1"]
SPEC = """
name: prod
server: {backend: embedded, grpc_port: 0, rest_port: 0, start_timeout: 60, drain: 0, flags: {tfs_loader: echo}}
servers:
- {name: eu-1, groups: [eu]}
- {name: eu-2, groups: [eu], server: {threads: {rest: 2}}}
- {name: us-1, groups: [us]}
models: [{name: m, versions: [1], labels: {stable: 1}}]
"""


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    def row(self, server: str) -> str:
        return next(line for line in self.out.splitlines() if line.startswith(f"{server} "))


def tfs(*args: str) -> Done:
    done = CliRunner().invoke(app, args)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


def place(directory: Path, text: str = SPEC) -> Path:
    for number in (1, 2):
        Repository(directory / "models").publish(savedmodel(directory / "build" / str(number) / "m"), "m")
    (directory / "serving.yaml").write_text(text)
    return directory


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a spec of three servers that run."""
    here = place(tmp_path_factory.mktemp("fleet"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        done = tfs("up")
        assert done.code == 0, done
        assert done.out.startswith("all 3 servers are up\n") and "m 1 (stable -> 1)" in done.row("eu-2")
        assert all(f"{name}: started, gRPC 127.0.0.1:" in done.err for name in NAMES)
        try:
            yield here
        finally:
            assert tfs("down").code == 0


@pytest.fixture
def here(fleet: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(fleet)
    return fleet


def member(fleet: Path, name: str) -> Spec:
    return next(one for one in load_spec(fleet / "serving.yaml").servers if one.short_name == name)


def test_status_is_one_table_and_its_json_has_a_key_for_each_server(here: Path) -> None:
    done = tfs("status")
    assert done.code == 0 and done.out.startswith("all 3 servers are ready")
    assert all("ready" in done.row(name) and "embedded, http://127.0.0.1:" in done.row(name) for name in NAMES)
    data = tfs("status", "--json").data
    assert list(data["servers"]) == NAMES and data["name"] == "prod" and data["exit_code"] == 0
    assert data["servers"]["us-1"]["name"] == "prod.us-1" and data["servers"]["us-1"]["ready"]


def test_some_servers_by_name_and_by_group(here: Path) -> None:
    assert list(tfs("status", "--json", "--server", "us-1,eu-1").data["servers"]) == ["eu-1", "us-1"]
    assert list(tfs("status", "--json", "--group", "eu").data["servers"]) == ["eu-1", "eu-2"]
    done = tfs("ready", "--group", "us")
    assert done.code == 0 and done.out.startswith("1 server is ready")


def test_each_verb_tells_of_each_server(here: Path) -> None:
    smoke = tfs("smoke", "--junit", "smoke.xml")
    assert smoke.code == 0 and smoke.out.startswith("all 3 servers are serving what was published")
    suites = ET.parse(here / "smoke.xml").getroot()
    assert {suite.get("name") for suite in suites} == {f"{name}/{m}" for name in NAMES for m in ("m", suites[1].get(
        "name", "").partition("/")[2])}
    assert suites.get("tests") == str(sum(int(suite.get("tests", 0)) for suite in suites))
    assert all(f"{name} | " in tfs("logs", "--tail", "3").out for name in NAMES)
    assert list(tfs("logs", "--json").data["servers"]["eu-1"]) == ["logs"]
    assert tfs("doctor").out.startswith("all 3 servers are well")
    assert tfs("repair").out.startswith("all 3 servers are back at what is known to be good")
    assert tfs("up").row("eu-1").split()[1:3] == ["up", "already"]
    assert tfs("up", "--dry-run").out.count("=== ") == 3
    assert "eu-1, eu-2, us-1; 3 of 3 were started" in tfs().out and "tfs rollout m --to 2" in tfs().out


def test_config_files_have_a_directory_for_each_server(here: Path) -> None:
    assert tfs("configure", "--out", "generated").code == 0
    assert sorted(path.name for path in (here / "generated").iterdir()) == NAMES
    assert tfs("configure", "--out", "generated", "--check").code == 0
    (here / "generated" / "eu-2" / "models.config").write_text("")
    done = tfs("configure", "--out", "generated", "--check")
    assert done.code == 2 and "failed" in done.row("eu-2") and "up to date" in done.row("eu-1")
    assert "tfs: eu-2: not what " in done.err and "(tfs explain generated-stale)" in done.err


def test_a_server_that_does_not_answer_is_a_row_and_not_the_end_of_the_others(here: Path) -> None:
    assert tfs("down", "--server", "eu-2").row("eu-2").split()[1:] == ["stopped"]
    try:
        status = tfs("status")
        assert status.code == 0 and status.out.startswith("2 of 3 servers are ready")
        assert "not running" in status.row("eu-2")
        ready = tfs("ready")
        assert ready.code == 6 and "prod.eu-2 isn't running" in ready.row("eu-2")
        smoke = tfs("smoke", "--junit", "smoke.xml")
        assert smoke.code == 6 and "passed" in smoke.row("eu-1") and "tfs: eu-2: prod.eu-2 isn't running" in smoke.err
        suite = next(s for s in ET.parse(here / "smoke.xml").getroot() if s.get("name") == "eu-2")
        assert suite.get("errors") == "1" and "isn't running" in str(suite[0][0].get("message"))
        assert tfs("smoke", "--json").data["servers"]["eu-2"]["id"] == "not-running"
    finally:
        assert tfs("up", "--server", "eu-2").code == 0


def test_the_worst_exit_code_counts(here: Path) -> None:
    """One ledger can't be read, one server has gone, one is fine."""
    ledger = member(here, "eu-1").state_dir / "ledger.jsonl"
    kept = ledger.rename(ledger.with_suffix(".kept"))
    ledger.mkdir()
    assert tfs("down", "--server", "us-1").code == 0
    try:
        done = tfs("ready", "--json")
        assert [one.get("ready") for one in done.data["servers"].values()] == [False, True, False]
        assert done.code == done.data["exit_code"] == 8
        status = tfs("status")
        assert status.code == 8 and "failed" in status.row("eu-1") and "ready" in status.row("eu-2")
        assert "tfs: eu-1: " in status.err
    finally:
        ledger.rmdir()
        kept.rename(ledger)
        assert tfs("up", "--server", "us-1").code == 0


def test_a_spec_that_does_not_read_any_more_is_no_reason_to_leave_servers(tmp_path: Path,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place(tmp_path))
    assert tfs("up", "--server", "eu-1,us-1").code == 0
    (tmp_path / "serving.yaml").write_text("models: [")
    done = tfs("down")
    assert done.code == 0 and "going by what was started last" in done.err
    assert done.row("eu-1").split()[1] == done.row("us-1").split()[1] == "stopped"
    assert "wasn't running" in done.row("eu-2")


def test_servers_of_a_spec_that_is_gone_are_found_by_their_directories(tmp_path: Path,
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place(tmp_path))
    assert tfs("up", "--server", "us-1").code == 0
    (tmp_path / ".tfs" / "prod.us-1" / "started.yaml").unlink()
    (tmp_path / "serving.yaml").write_text("name: prod\nmodels: [")
    assert tfs("down").row("us-1").split()[1] == "stopped"


@pytest.mark.parametrize(("args", "sentence"), [
    (("status", "--server", "eu-11"), "there is no server 'eu-11' in serving.yaml; did you mean 'eu-1'?"),
    (("up", "--group", "asia"), "there is no group 'asia' in serving.yaml; it has eu, us"),
    (("ready", "--server", "eu-1", "--grpc", "h:1"), "leave --rest-url and --grpc out"),
    (("doctor", "--server", "eu-1", "--container", "c"), "leave --container, --log and flags out"),
])
def test_bad_names_are_one_sentence(args: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "deploy", *args], cwd=place(tmp_path), capture_output=True, text=True,
                          check=False)
    assert done.returncode == 2 and sentence in done.stderr and not done.stdout


def test_ctrl_c_leaves_no_server_that_is_started_in_part(tmp_path: Path) -> None:
    """One never opens its ports. What was ready by then stays; `up` again goes on with the others."""
    place(tmp_path, SPEC.replace("us-1, groups: [us]", "us-1, server: {backend: process, binary: ./never, flags: {}}"))
    (tmp_path / "never").write_text("#!/bin/sh\nexec sleep 61.5\n")
    (tmp_path / "never").chmod(0o755)
    process = subprocess.Popen([sys.executable, "-m", "deploy", "up"], cwd=tmp_path, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while not process.stderr.readline().startswith("us-1: waiting: "):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    rows = {line.split()[0]: line.split()[1] for line in out.splitlines() if line.startswith(("eu-", "us-"))}
    assert process.returncode == 130 and rows["us-1"] == "interrupted" and set(rows.values()) <= {"up", "interrupted"}
    assert not [one for one in psutil.process_iter(["cmdline"]) if "61.5" in (one.info["cmdline"] or [])]
    spec = load_spec(tmp_path / "serving.yaml")
    try:
        assert [serving.status(one).running for one in spec.servers] == [rows[name] == "up" for name in NAMES]
    finally:
        for one in spec.servers:
            serving.down(one)

"""The pytest plugin where a server can't be had, is somebody else's, or what was asked for makes no sense."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.cli.outcome import run as tfs
from deploy.locks import Owner
from deploy.testing import runs, serve
from deploy.testing.runs import OWNER, SPEC
from deploy.testing.servers import start
from tests.support.plugin_project import SPEC as TEXT
from tests.support.plugin_project import Project, project_in

_STARTS = """#!/bin/sh
case "$*" in *port=*) echo started >> "${0%/*}/starts" ;; esac
echo one moment
echo no luck today
exit 1
"""
_URLS = """
def test_a(tfs_server):
    with open("urls", "a") as file:
        print(tfs_server.client.rest.endpoint, file=file)

test_b = test_a
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with project_in(tmp_path) as project:
        yield project


def spoken(output: str) -> str:
    assert "Traceback" not in output and "INTERNALERROR" not in output and ".py:" not in output, output
    return output


def test_a_server_that_does_not_start_is_started_once(project: Project) -> None:
    project.write("server", _STARTS)
    (project.directory / "server").chmod(0o755)
    project.write("serving.yaml", TEXT.replace("backend: embedded, flags: {tfs_loader: echo}",
                                               "backend: process, binary: ./server"))
    project.write("test_own.py", "def test_a(tfs_server): pass\n")
    output = spoken(project.pytest("--tfs", "serving.yaml", "-rN", code=1))
    assert (project.directory / "starts").read_text() == "started\n"
    assert output.count("the server's last lines:") == 1 and "no luck today" in output and " passed" not in output
    assert output.count("not asked: the server of serving.yaml didn't start") > 10
    project.gone()


def test_a_version_that_is_not_there_is_told_once(project: Project) -> None:
    project.write("serving.yaml", TEXT.replace("versions: [1]", "versions: [1, 7]"))
    output = spoken(project.pytest("--tfs", "serving.yaml", "-k", "status or contract", "-rN", code=1))
    assert output.count("version 7") == 1 and "not asked: the server of serving.yaml" in output
    project.gone()


def test_no_engine_leaves_nothing_to_be_ended(project: Project) -> None:
    project.write("noengine.yaml", TEXT.replace("backend: embedded, flags: {tfs_loader: echo}", "backend: container"))
    output = spoken(project.pytest("--tfs", "noengine.yaml", "-rN", code=1))
    assert output.count("no Docker engine answers") == 1
    project.gone()


def test_a_leftover_that_cannot_be_ended_keeps_no_other(project: Project, monkeypatch: pytest.MonkeyPatch,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    record = json.dumps({"name": "lost", "backend": "container"})
    project.write("test_own.py", "from pathlib import Path\nimport os\n"
                                 "def test_a(tfs_server):\n"
                                 "    state = tfs_server.spec.state / '0'\n    state.mkdir()\n"
                                 f"    (state / '{SPEC}').write_text('{record}')\n")
    output = spoken(project.pytest("test_own.py"))
    assert output.count("`tfs down --leftovers`") == 1 and "no Docker engine answers" in output
    monkeypatch.setenv("TFS_RUNS_DIR", str(project.runs))
    monkeypatch.setenv("DOCKER_HOST", project.environment["DOCKER_HOST"])
    lost, = project.runs.iterdir()
    later = runs.TestRun.begin("zzz")
    server = start(later, project.directory / "serving.yaml")
    (later.directory / OWNER).write_text(json.dumps(replace(Owner.here(), created=0.0).to_json()))

    assert tfs(["down", "--leftovers"]) == 6
    told = capsys.readouterr()
    assert f"stopped {server.spec.name}" in told.out and "no Docker engine answers" in told.err
    assert [path.name for path in project.runs.iterdir()] == [lost.name]
    assert tfs(["down", "--leftovers", "--json"]) == 6
    assert json.loads(capsys.readouterr().out)["details"]["stopped"] == []
    (lost / "0" / SPEC).unlink()
    assert tfs(["down", "--leftovers"]) == 0
    project.gone()


@pytest.mark.parametrize(("scope", "servers"), [("module", 1), ("function", 2)])
def test_the_scope_of_a_server_of_several(project: Project, scope: str, servers: int) -> None:
    own = "{grpc_port: 8510, rest_port: 8511}"
    project.write("serving.yaml", f"{TEXT}servers: [{{name: a}}, {{name: b, server: {own}}}]\n")
    project.write("test_own.py", _URLS)
    assert "2 passed" in project.pytest("test_own.py", "-o", f"tfs_server_scope={scope}", "--tfs-server=b")
    assert len(set((project.directory / "urls").read_text().split())) == servers
    project.gone()


def test_nothing_is_started_beside_a_server_that_was_named_in_any_scope(project: Project) -> None:
    project.write("test_own.py", _URLS)
    with serve({"m": {1: lambda inputs: {"y": inputs["x"]}}}) as server:
        url = server.endpoint.rest_url
        assert "2 passed" in project.pytest("test_own.py", "-o", "tfs_server_scope=function", "--tfs-rest", url)
    assert set((project.directory / "urls").read_text().split()) == {url}
    assert not project.runs.exists()


def test_a_broken_spec_is_one_sentence_in_any_scope(project: Project) -> None:
    project.write("serving.yaml", "models: [")
    project.write("test_own.py", _URLS)
    output = project.pytest("test_own.py", "-o", "tfs_server_scope=module", code=1)
    assert "deploy/spec" not in output and "serving.yaml: not valid YAML: line 1" in output


@pytest.mark.parametrize(("setting", "allowed"), [
    ("tfs_backend=docker", "auto, container, process, embedded"),
    ("tfs_server_scope=modul", "session, package, module, class, function"),
])
def test_settings_that_mean_nothing(project: Project, setting: str, allowed: str) -> None:
    name, _, value = setting.partition("=")
    output = spoken(project.pytest("--tfs", "serving.yaml", "-o", setting, code=4))
    assert f"{name} = {value}: expected one of {allowed}" in output


def test_marks_that_mean_nothing(project: Project) -> None:
    project.write("test_own.py", "import pytest\n"
                                 "@pytest.mark.tfs_backend\ndef test_a(): pass\n"
                                 "@pytest.mark.tfs_backend('docker')\ndef test_b(): pass\n"
                                 "@pytest.mark.tfs_backend('embedded', 'process')\ndef test_c(tfs_start): pass\n")
    output = spoken(project.pytest("test_own.py", "-rN", code=1))
    assert "3 errors" in output
    for given in ("", "'docker'", "'embedded', 'process'"):
        assert f"tfs_backend({given}): expected one of auto, container, process, embedded" in output

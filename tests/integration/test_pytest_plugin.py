"""The pytest plugin as a stranger uses it: pytest runs in processes of its own, in directories of their own."""

from __future__ import annotations

import json
import re
import shutil
import signal
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from click.testing import CliRunner

from deploy.cli.app import app
from tests.support.plugin_project import SPEC, Project, project_in
from tests.support.servers import until

PROJECT = Path(__file__).parent.parent / "pytest_project"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with project_in(tmp_path) as project:
        yield project


def test_every_check_is_a_test(project: Project) -> None:
    output = project.pytest("--tfs", "serving.yaml", "-v", "--junitxml=junit.xml")
    assert "serving.yaml::m/1::golden-1-of-serving_default[REST-row] PASSED" in output
    assert "serving.yaml::m@stable::label-answers[gRPC] PASSED" in output
    cases = ET.parse(project.directory / "junit.xml").getroot().findall(".//testcase")
    assert {case.get("name") for case in cases} >= {"status[gRPC]", "contract[REST]", "malformed-request[REST]"}
    assert len(cases) == output.count(" PASSED")
    project.gone()


def test_one_check_by_its_id_and_some_by_a_word(project: Project) -> None:
    assert "1 passed" in project.pytest("--tfs", "serving.yaml", "serving.yaml::m/1::contract[gRPC]")
    assert "4 passed" in project.pytest("--tfs", "serving.yaml", "-k", "contract or name-alone")
    project.gone()


@pytest.mark.parametrize("option", ["--lf", "--ff"])
def test_what_failed_is_asked_again(project: Project, option: str) -> None:
    project.golden({"x": np.float32([1, 9])})
    failed = set(re.findall(r"^FAILED (serving.yaml::\S+)", project.pytest("--tfs", "serving.yaml", code=1), re.M))
    again = project.pytest("--tfs", "serving.yaml", option, "-v", code=1)
    run = re.findall(r"^(serving.yaml::\S+) ", again, re.M)
    assert failed and set(run[:len(failed)]) == failed and (option == "--ff") == (len(run) > len(failed)), again
    project.gone()


def test_a_wrong_answer_shows_all_that_one_needs(project: Project) -> None:
    project.golden({"x": np.float32([1, 9])})
    output = project.pytest("--tfs", "serving.yaml", "-k", "m/1 and REST-row", code=1)
    assert "m/1 golden 1 of serving_default [REST row]" in output
    assert "expected   the recorded y [2], within" in output and "expected 9.0, got 2.0" in output
    assert "reproduce  curl " in output and "the server's last lines:" in output
    assert "Traceback" not in output and "def runtest" not in output
    project.gone()


def test_workers_share_one_server(project: Project) -> None:
    project.write("test_which.py", "def test_a(tfs_server): open(tfs_server.endpoint.rest_url[-5:], 'a').close()\n"
                                   "test_b = test_c = test_d = test_a\n")
    output = project.pytest("--tfs", "serving.yaml", "-n", "2")
    assert "failed" not in output
    assert len([path for path in project.directory.iterdir() if path.name.isdigit()]) == 1
    project.gone()


def test_two_sessions_at_once(project: Project) -> None:
    both = [project.start("--tfs", "serving.yaml", "-q") for _ in range(2)]
    for process in both:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    project.gone()


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_a_killed_session_leaves_nothing(project: Project, workers: tuple[str, ...]) -> None:
    project.write("test_slow.py", "import time\ndef test_slow(tfs_server):\n"
                                  "    open('ready', 'w').close()\n    time.sleep(600)\n")
    session = project.start("--tfs", "serving.yaml", *workers, "test_slow.py")
    until((project.directory / "ready").exists, "the test to run", seconds=60)
    assert any("deploy.modelserver" in line for line in project.left())
    session.send_signal(signal.SIGKILL)
    session.communicate()
    project.gone()


def test_what_even_the_watcher_left(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("test_slow.py", "import time\ndef test_slow(tfs_server):\n"
                                  "    open('ready', 'w').close()\n    time.sleep(600)\n")
    session = project.start("--tfs", "serving.yaml", "test_slow.py")
    until((project.directory / "ready").exists, "the test to run", seconds=60)
    for process in psutil.process_iter(["cmdline"]):
        if "deploy.testing.watcher" in (line := " ".join(process.info["cmdline"] or ())) and str(project.runs) in line:
            process.kill()
    session.kill()
    session.communicate()
    monkeypatch.setenv("TFS_RUNS_DIR", str(project.runs))
    ended = CliRunner().invoke(app, ["down", "--leftovers", "--json"])
    assert len(json.loads(ended.stdout)["stopped"]) == 1
    assert json.loads(CliRunner().invoke(app, ["down", "--leftovers", "--json"]).stdout) == {"stopped": []}
    project.gone()


def test_a_broken_spec_is_one_error_in_one_sentence(project: Project) -> None:
    project.write("serving.yaml", "models: [{name: m, version: 1}]")
    output = project.pytest("--tfs", "serving.yaml", code=2)
    assert "1 error" in output and "models/0" in output and "Traceback" not in output


def test_one_of_several_servers(project: Project) -> None:
    own = "{grpc_port: 8510, rest_port: 8511}"
    project.write("serving.yaml", f"{SPEC}servers: [{{name: a}}, {{name: b, server: {own}}}]\n")
    output = project.pytest("--tfs", "serving.yaml", code=2)
    assert "1 error" in output and "name it: --tfs-server, one of a, b" in output and "Traceback" not in output
    assert "has no server 'c'; it has a, b" in project.pytest("--tfs", "serving.yaml", "--tfs-server=c", code=2)
    assert " passed" in project.pytest("--tfs", "serving.yaml", "--tfs-server", "b", "-k", "contract")
    project.gone()


def test_a_broken_spec_is_one_error_whoever_wants_the_server(project: Project) -> None:
    project.write("serving.yaml", "models: [")
    project.write("test_own.py", "def test_a(tfs_server): pass\ntest_b = test_c = test_a\n")
    for workers in ((), ("-n", "2")):
        output = project.pytest("--tfs", "serving.yaml", "test_own.py", *workers, code=4 if workers else 2)
        assert output.count("not valid YAML: line 1") == 1 and "test_b" not in output and "Traceback" not in output
    output = project.pytest("test_own.py", code=1)  # the default: one line each
    assert "deploy/spec" not in output and "serving.yaml: not valid YAML: line 1" in output
    project.gone()


@pytest.mark.parametrize("spec", ["none.yaml", "models"])
def test_a_spec_that_is_not_there(project: Project, spec: str) -> None:
    output = project.pytest("--tfs", spec, code=4)
    assert spec in output and "Traceback" not in output


def test_a_server_that_does_not_start_fails_with_its_log(project: Project) -> None:
    project.write("serving.yaml", SPEC.replace("tfs_loader: echo", "tfs_loader: echo, grpc_max_threads: none"))
    output = project.pytest("--tfs", "serving.yaml", "-k", "status", code=1)
    assert "grpc_max_threads" in output and "Traceback" not in output
    project.gone()


@pytest.mark.tensorflow
def test_a_project_uses_fixtures_and_assertions(project: Project, models: Path) -> None:
    shutil.copytree(models / "half_plus_two", project.directory / "ranking/1")
    for file in PROJECT.glob("*.py"):
        project.write(file.name, file.read_text())
    project.environment["RANKING"] = str(project.directory / "ranking")
    output = project.pytest("-rs", "-W", "error")
    assert "Exception ignored" not in output
    assert "12 passed, 1 skipped" in output and "needs a server on backend container" in output
    assert "1 error" in project.pytest("--tfs-require", "-k", "container", code=1)
    project.gone()


def test_options_by_ini_and_the_oldest_way_to_name_a_spec(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\ntfs_spec = serving.yaml\ntfs_backend = embedded\n")
    assert "passed" in project.pytest("-k", "contract")
    project.gone()


def test_without_a_spec_it_is_said_what_to_do(project: Project) -> None:
    (project.directory / "serving.yaml").rename(project.directory / "other.yaml")
    project.write("test_own.py", "def test_a(tfs_server): pass\n")
    output = project.pytest("test_own.py", code=1)
    assert "0 specs are named; give one with --tfs" in output and 'fixture(scope="session")' in output
    assert "deploy/testing" not in output


def test_a_suite_that_does_not_use_it_pays_nothing(project: Project) -> None:
    project.write("test_own.py", "import sys\ndef test_nothing_is_loaded():\n"
                  "    heavy = {'numpy', 'psutil', 'grpc', 'requests', 'msgspec', 'deploy.serving', 'deploy.errors'}\n"
                  "    assert not heavy & set(sys.modules)\n")
    project.pytest("-p", "no:hypothesispytest", "-p", "no:jaxtyping", "test_own.py")
    project.pytest("-n", "1", "-p", "no:hypothesispytest", "-p", "no:jaxtyping", "test_own.py")
    assert not project.runs.exists()


def test_a_server_that_somebody_else_started(project: Project, start: Callable[..., str]) -> None:
    rest = start(project)
    assert "failed" not in project.pytest("--tfs", "serving.yaml", "--tfs-rest", rest, "-rs")


@pytest.fixture
def start() -> Iterator[Callable[[Project], str]]:
    from deploy.testing import start_server

    servers = []

    def started(project: Project) -> str:
        servers.append(start_server(project.directory / "serving.yaml"))
        return servers[-1].__enter__().endpoint.rest_url

    yield started
    for server in servers:
        server.__exit__(None, None, None)

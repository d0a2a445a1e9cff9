"""What others' CI takes from here: each file is parsed, and its commands run in a project served without TensorFlow."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from deploy import goldens
from deploy.goldens import Golden
from tests.support.checks import serves
from tests.support.ports import free_ports
from tests.support.savedmodel import graph, save

ROOT = Path(__file__).parents[2]
ACTION = ROOT / ".github/actions/tfs"
SPEC = """
models: [{{name: m, versions: [1]}}]
server: {{backend: embedded, flags: {{tfs_loader: echo}}, grpc_port: {}, rest_port: {}}}
"""
X = {"x": np.float32([1, 2])}
SECRET = "hunter2-in-the-environment"


class Project:
    """A directory with a repository and a spec, and a shell with the variables that a runner sets."""

    def __init__(self, directory: Path, runner: Path) -> None:
        self.directory, self.runner = directory, runner
        runner.mkdir()
        (directory / "serving.yaml").write_text(SPEC.format(*free_ports()))
        self.golden(X)
        self.environment = {
            **os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DEPLOY_TOKEN": SECRET,
            "DOCKER_HOST": f"unix://{directory}/nobody.sock", "GITHUB_ACTION_PATH": str(ACTION),
            "GITHUB_OUTPUT": str(runner / "output"), "GITHUB_STEP_SUMMARY": str(runner / "summary")}

    def golden(self, outputs: dict[str, np.ndarray], version: int = 1, *more: str) -> None:
        meta = graph("Placeholder", *more)
        for side in (meta.signature_def["serving_default"].inputs["x"],
                     meta.signature_def["serving_default"].outputs["y"]):
            side.tensor_shape.Clear()
            side.tensor_shape.unknown_rank = True
        path = save(self.directory / f"models/m/{version}", meta)
        goldens.write(path, [Golden("serving_default", X, {"y": outputs["x"]})], "m")

    def run(self, script: str, shell: tuple[str, ...], directory: Path | None = None,
            **variables: str) -> tuple[int, str]:
        done = subprocess.run([*shell, script], cwd=directory or self.directory, text=True, timeout=120, check=False,
                              env={**self.environment, **variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert SECRET not in done.stdout
        return done.returncode, done.stdout

    def outputs(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in (self.runner / "output").read_text().splitlines())


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    (tmp_path / "a project").mkdir()
    project = Project(tmp_path / "a project", tmp_path / "a runner")
    yield project
    project.run("tfs down", ("sh", "-c"))


# The GitHub Action

BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c")


def action(project: Project, **given: str) -> tuple[list[str], str]:
    """Run the action's own commands as a runner does: the names of the steps that failed, and the log."""
    parsed: dict[str, Any] = yaml.safe_load((ACTION / "action.yml").read_text())
    unknown = {name.replace("_", "-") for name in given} - set(parsed["inputs"])
    assert not unknown
    inputs = {name: value["default"] for name, value in parsed["inputs"].items()}
    inputs |= {"install": "false", **{name.replace("_", "-"): value for name, value in given.items()}}
    failed: list[str] = []
    log = ""
    for step in parsed["runs"]["steps"]:
        if "run" not in step or not wanted(step.get("if", ""), inputs, bool(failed)):
            continue
        assert "${{" not in step["run"], "an input in a script is code of whoever wrote it: use env"
        variables = {name: filled(value, inputs) for name, value in step.get("env", {}).items()}
        place = project.directory / filled(step.get("working-directory", "."), inputs)
        code, output = project.run(step["run"], BASH, place, **variables)
        log += output
        if code:
            failed.append(step["name"])
    return failed, log


def filled(text: str, inputs: dict[str, str]) -> str:
    return re.sub(r"\$\{\{ inputs\.([a-z-]+) \}\}", lambda match: inputs[match[1]], text)


def wanted(condition: str, inputs: dict[str, str], failed: bool) -> bool:
    terms = condition.split(" && ") if condition else []
    if failed and "always()" not in terms:
        return False
    for term in terms:
        if term == "always()":
            continue
        match = re.fullmatch(r"inputs\.([a-z-]+) (==|!=) '(\w*)'", term)
        assert match, term
        if (inputs[match[1]] == match[3]) != (match[2] == "=="):
            return False
    return True


def test_the_action_checks_compares_starts_verifies_and_stops(project: Project) -> None:
    project.golden(X, 2)
    failed, log = action(project, models="m/1\nmodels/m/2\n", before="m/1", after="m/2", backend="embedded")
    assert not failed, log
    reports = project.directory / "tfs-reports"
    assert {path.name for path in reports.iterdir()} == {
        "check-1.sarif", "check-2.sarif", "check.sarif", "diff.txt", "smoke.xml"}
    assert len(json.loads((reports / "check.sarif").read_text())["runs"]) == 1
    assert project.outputs() == {"verdict": "compatible", "findings": "0", "failures": "0"}
    assert "isn't running" in project.run("tfs smoke", ("sh", "-c"))[1]


def test_the_action_annotates_wrong_answers_and_stops_the_server(project: Project) -> None:
    project.golden({"x": np.float32([1, 9])})
    failed, log = action(project)
    assert failed == ["Verify what is served"]
    assert "::error title=tfs smoke" in log and int(project.outputs()["failures"]) > 0
    assert (project.directory / "tfs-reports/server.log").stat().st_size
    assert "isn't running" in project.run("tfs smoke", ("sh", "-c"))[1]


def test_the_action_annotates_a_model_that_is_refused_and_starts_nothing(project: Project) -> None:
    save(project.directory / "models/m/2", serves("PyFunc"))
    failed, log = action(project, models="m/2\nm/1\nnone")
    assert failed == ["Check the models"]
    assert "::error title=tfs check" in log and int(project.outputs()["findings"]) > 0
    assert not (project.directory / "tfs-reports/smoke.xml").exists()


def test_the_action_tells_stale_files(project: Project) -> None:
    assert action(project, configure_check="true", smoke="false")[0] == ["Check the generated files"]
    project.run("tfs configure", ("sh", "-c"))
    assert action(project, configure_check="true", smoke="false")[0] == []


@pytest.mark.parametrize("allow", ["true", "false"])
def test_the_action_and_a_review(project: Project, allow: str) -> None:
    project.golden(X, 2, "Relu")
    failed, log = action(project, before="m/1", after="m/2", allow_review=allow, smoke="false")
    assert project.outputs()["verdict"] == "review-required", log
    assert failed == ([] if allow == "true" else ["Compare the versions"])
    assert ("::warning title=tfs diff::" in log) == (allow == "true")
    assert "1 new op: Relu" in (project.directory / "tfs-reports/diff.txt").read_text()


def test_the_action_and_a_breaking_change(project: Project) -> None:
    meta = graph("Placeholder")
    outputs = meta.signature_def["serving_default"].outputs
    outputs["other"].CopyFrom(outputs["y"])
    del outputs["y"]
    save(project.directory / "models/m/2", meta)
    failed, log = action(project, before="m/1", after="m/2", allow_review="true")
    assert failed == ["Compare the versions"] and project.outputs()["verdict"] == "breaking", log
    assert not (project.directory / "tfs-reports/smoke.xml").exists()


def test_input_is_data(project: Project) -> None:
    _, log = action(project, models='$(touch pwned)\n`touch pwned`\n"; touch pwned; "\n--help', smoke="false")
    assert not (project.directory / "pwned").exists() and "Usage:" not in log


def test_an_annotation_is_one_command(tmp_path: Path) -> None:
    (tmp_path / "smoke.xml").write_text('<testsuites><testsuite><testcase classname="m" name="a:b,c">'
                                        '<failure message="50%&#10;::error::x"/></testcase></testsuite></testsuites>')
    done = subprocess.run([sys.executable, str(ACTION / "annotate.py"), str(tmp_path)], text=True, check=True,
                          capture_output=True)
    assert done.stdout == "::error title=tfs smoke m a%3Ab%2Cc::50%25%0A::error::x\n"


def test_the_guide_names_what_goes_in_and_out() -> None:
    guide = (ROOT / "docs/ci.md").read_text()
    parsed = yaml.safe_load((ACTION / "action.yml").read_text())
    template = yaml.safe_load((ROOT / ".gitlab/tfs.yml").read_text())
    names = {*parsed["inputs"], *parsed["outputs"], *template["variables"]} | {
        name for name in template if name.startswith(".tfs:")}
    assert not {name for name in names if f"`{name}`" not in guide}


def test_the_install_step_finds_the_package() -> None:
    """A runner has the whole repository where the action is; its place is where the action says."""
    path = (ACTION / "../../..").resolve()
    assert (path / "pyproject.toml").is_file()
    assert "GITHUB_ACTION_PATH/../../.." in (ACTION / "action.yml").read_text()


# The GitLab template

def gitlab(project: Project, job: str, **variables: str) -> tuple[int, str]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / ".gitlab/tfs.yml").read_text())
    base, jobs = parsed[".tfs"], parsed[job]
    script = "\n".join(base["before_script"] + jobs["script"])
    given = {**parsed["variables"], **variables}
    code, output = project.run(script, ("sh", "-ec"), **given)
    return code, output + project.run("\n".join(jobs.get("after_script", ["true"])), ("sh", "-ec"), **given)[1]


def test_gitlab_jobs(project: Project) -> None:
    project.golden(X, 2)
    assert gitlab(project, ".tfs:check", TFS_MODELS="m/1\nm/2\n")[0] == 0
    assert gitlab(project, ".tfs:check", TFS_MODELS="none\nm/2\n")[0] == 4
    assert gitlab(project, ".tfs:configure")[0] == 2
    code, output = gitlab(project, ".tfs:diff", TFS_BEFORE="m/1", TFS_AFTER="m/2")
    assert code == 0, output


def test_gitlab_smoke_leaves_a_report_and_no_server(project: Project) -> None:
    code, output = gitlab(project, ".tfs:smoke")
    assert code == 0, output
    assert (project.directory / "tfs-reports/smoke.xml").is_file()
    assert "isn't running" in project.run("tfs smoke", ("sh", "-c"))[1]


# `tfs init --make`

def test_the_makefile_fragment(project: Project) -> None:
    (project.directory / "Makefile").write_text("include tfs.mk\nmine:\n\t@echo own default\n")
    assert project.run("tfs init --make > tfs.mk", ("sh", "-ec"))[0] == 0
    project.golden(X, 2)

    def make(*args: str, code: int = 0) -> str:
        returned, output = project.run(f"make {' '.join(args)}", ("sh", "-ec"))
        assert returned == code, output
        return output

    assert make() == "own default\n"
    make("tfs-configure-check", code=2)
    make("tfs-configure", "TFS_SPEC='serving.yaml'")
    assert "up to date" in make("tfs-configure-check")
    assert "TFS_MODEL=" in make("tfs-check", code=2) and "TFS_BEFORE=" in make("tfs-diff", code=2)
    assert "nothing to object to" in make("tfs-check", "TFS_MODEL=m/1")
    assert "compatible" in make("tfs-diff", "TFS_BEFORE=m/1", "TFS_AFTER=m/2")
    make("tfs-verify", "TFS_ARGS='--backend embedded'")
    assert "isn't running" in project.run("tfs smoke", ("sh", "-c"))[1]
    make("tfs-up", "tfs-status", "tfs-smoke", "tfs-down")
    project.golden({"x": np.float32([1, 9])})
    make("tfs-verify", code=2)
    assert "isn't running" in project.run("tfs smoke", ("sh", "-c"))[1]


# pre-commit

def test_pre_commit_hooks(project: Project) -> None:
    hooks = {hook["id"]: hook for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
    check = hooks["tfs-check"]
    paths = [str(path.relative_to(project.directory)) for path in project.directory.rglob("*")
             if re.search(check["files"], str(path))]
    assert paths == ["models/m/1/saved_model.pb"]
    code, output = project.run(f"{check['entry']} {' '.join(paths)}", ("sh", "-ec"))
    assert code == 0 and "nothing to object to" in output
    configure = hooks["tfs-configure"]
    assert re.search(configure["files"], "serving.yaml")
    assert re.search(configure["files"], "a/generated/b/models.config")
    assert project.run(configure["entry"], ("sh", "-ec"))[0] == 2

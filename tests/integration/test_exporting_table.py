"""The tables "what you have -> what to type" of docs/exporting.md and docs/recipes.md: each row is typed, and what it
publishes is served.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import goldens
from deploy.repository import Repository
from deploy.testing import start_server
from deploy.types import ModelVersion
from tests.model_sources import MAKERS

pytestmark = pytest.mark.tensorflow
ROOT = Path(__file__).parents[2]
TEXT = {page: (ROOT / "docs" / f"{page}.md").read_text() for page in ("exporting", "recipes")}
ROWS = [row for text in TEXT.values()
        for row in re.findall(r"^\| ([^|]+) \| `([^`]*tfs export[^`]*)` \|", text, re.MULTILINE)]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with all sources, and the repository that the rows publish into."""
    where = tmp_path_factory.mktemp("exporting")
    (where / "models").mkdir()
    run(where, "tests.model_sources", *MAKERS)
    return where


def run(where: Path, *argv: str, **environment: str) -> None:
    done = subprocess.run([sys.executable, "-m", *argv], cwd=where, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **environment})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("have", "command"), ROWS, ids=[have for have, _ in ROWS])
def test_row(have: str, command: str, here: Path) -> None:
    words = shlex.split(command)
    tfs = words.index("tfs")
    name, repository = words[words.index("--name") + 1], Repository(here / "models")
    before = repository.versions(name)
    run(here, "deploy", *words[tfs + 1:], **dict(word.split("=") for word in words[:tfs]))
    (version,) = set(repository.versions(name)) - set(before)
    assert goldens.read(here / "models" / name / str(version))


def test_the_recipes_in_python(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keras = pytest.importorskip("keras")
    monkeypatch.chdir(here)
    (block,) = re.findall(r"```python\n(.*?)```", TEXT["recipes"], re.DOTALL)
    exec(block.replace('"models"', '"own"'), {"model": keras.saving.load_model("photos.keras")})
    contract = Repository(here / "own").manifest(ModelVersion("photos", 1)).contract
    assert set(contract) == {"serving_default", "tensors"}
    assert {spec.name for spec in contract["serving_default"].outputs} == {"classes", "scores", "id"}


def test_what_the_rows_published_is_served(here: Path) -> None:
    with start_server(here / "models", backend="embedded") as server:
        report = server.smoke_test()
    assert report.ok, [check.to_json() for check in report.failed]
    asked = {check.subject for check in report.checks if check.ok and check.name.startswith("golden")}
    repository = Repository(here / "models")
    versions = {f"{name}/{version}" for name in repository.models() for version in repository.versions(name)}
    assert len(versions) == len(ROWS) and versions <= asked

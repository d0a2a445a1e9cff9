"""What CI asks of files: are the generated ones current, are these models servable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.cli.app import app
from deploy.errors import ExportError, SpecError
from tests.support.checks import serves
from tests.support.savedmodel import save

SPEC = "models: [{name: m, versions: [1]}]\nserver: {batching: {max_batch_size: 4}}\n"


def tfs(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "a project" / "serving.yaml"
    path.parent.mkdir()
    path.write_text(SPEC)
    assert tfs("configure", "--spec", path).exit_code == 0
    return path


def test_generated_files_that_are_current(spec: Path) -> None:
    assert "up to date" in tfs("configure", "--check", "--spec", spec).output
    files = json.loads(tfs("configure", "--check", "--spec", spec, "--json").output)["files"]
    assert all(Path(file).is_file() for file in files) and len(files) > 1


@pytest.mark.parametrize("change", ["edited", "missing", "spec"])
def test_generated_files_that_are_out_of_date(spec: Path, change: str) -> None:
    config = spec.parent / "generated/serving/models.config"
    if change == "edited":
        config.write_text(config.read_text() + "\n")
    elif change == "missing":
        config.unlink()
    else:
        spec.write_text(SPEC.replace("name: m", "name: n"))
    before = {path: path.read_bytes() for path in config.parent.iterdir()}
    error = tfs("configure", "--check", "--spec", spec).exception
    assert isinstance(error, SpecError) and str(config) in str(error) and "tfs configure" in error.hint
    assert {path: path.read_bytes() for path in config.parent.iterdir()} == before


def test_checked_or_printed(spec: Path) -> None:
    assert tfs("configure", "--check", "--dry-run", "--spec", spec).exit_code == 2


def test_several_models_by_the_files_that_pre_commit_names(tmp_path: Path) -> None:
    good = save(tmp_path / "a b" / "1", serves("Relu")) / "saved_model.pb"
    assert tfs("check", good, good).output.count("nothing to object to") == 2
    bad = [tmp_path / f"{name}.h5" for name in "xy"]
    for path in bad:
        path.write_bytes(b"")
    result = tfs("check", bad[0], good, bad[1])
    assert isinstance(result.exception, ExportError) and str(bad[1]) in str(result.exception)
    assert str(bad[0]) in result.stderr and str(good.parent) in result.output


def test_a_report_is_about_one_model(tmp_path: Path) -> None:
    assert tfs("check", "--format", "sarif", "a", "b").exit_code == 2

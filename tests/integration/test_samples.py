"""Every sample in serving_configs/samples is read, rendered and started as it stands there."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from deploy import render, serving
from deploy.repository import Repository
from deploy.spec import Spec, load_spec

ROOT = Path(__file__).parents[2]
SAMPLES = sorted((ROOT / "serving_configs" / "samples").glob("*.yaml"))

pytestmark = pytest.mark.tensorflow


@pytest.fixture(params=SAMPLES, ids=lambda path: path.stem)
def sample(request: pytest.FixtureRequest, tmp_path: Path, models: Path) -> Spec:
    """A sample at its place in a copy of the clone, with two versions of each model that it names."""
    place = tmp_path / "serving_configs" / "samples" / request.param.name
    place.parent.mkdir(parents=True)
    shutil.copy(request.param, place)
    repository = Repository(tmp_path / "models")
    for name in {Path(model.base_path).name for model in load_spec(place).models}:
        for version in ("half_plus_two", "half_plus_three"):
            repository.publish(models / version, name)
    return load_spec(place)


def test_a_sample_starts(sample: Spec) -> None:
    local = msgspec.structs.replace(sample, server=msgspec.structs.replace(
        sample.server, backend="embedded", grpc_port=0, rest_port=0))
    running = serving.up(local)
    try:
        assert serving.status(local).problems == []
        assert {m.name for m in running.models} == {m.name for m in sample.models}
    finally:
        assert serving.down(local)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_the_generated_files_are_what_the_sample_renders_to(path: Path) -> None:
    spec = load_spec(path)
    generated = ROOT / "serving_configs" / "generated" / path.stem
    expected = render.files(spec, render.mounted_layout(spec))
    assert {f.name: f.read_text() for f in generated.iterdir()} == expected

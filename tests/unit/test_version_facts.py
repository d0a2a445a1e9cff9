"""What is known of a version, one way for all who ask it; and how long requests take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploy import goldens
from deploy.errors import IncompleteVersion, Malformed, VersionNotFound
from deploy.goldens import SERVER, Golden
from deploy.goldens.timing import Timings, timed
from deploy.goldens.tolerances import Tolerance
from deploy.repository import Repository, VersionFacts, read_facts, versions_of
from deploy.repository.naming import MANIFEST_FILE
from deploy.types import All, ModelVersion, ServedModel
from tests.support.repository import savedmodel
from tests.support.serving import FakeClock

X = np.float32([1.0])
GOLDEN = Golden("serving_default", {"x": X}, {"y": X}, SERVER)
MV = ModelVersion("m", 1)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """m/1, with a golden and tolerances."""
    goldens.write(savedmodel(tmp_path / "source"), [GOLDEN], "m")
    made = Repository(tmp_path / "models")
    made.publish(tmp_path / "source", "m", tolerances={"default": {"absolute": 0.5}})
    return made


def damaged(repository: Repository, name: str) -> None:
    path = repository.path(MV) / name
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)


def test_contract_goldens_tolerances_and_digest(repository: Repository) -> None:
    facts = repository.facts(MV)
    manifest = repository.manifest(MV)
    assert (facts.contract, facts.digest, facts.published) == (manifest.contract, manifest.digest, True)
    [golden] = facts.goldens
    assert (golden.origin, golden.tolerances) == (SERVER, {"default": Tolerance(0.5)}) and facts.skipped == 0
    assert golden.differences({"y": X + 0.25}) == [] and golden.differences({"y": X + 1})
    assert facts.features == {}


def test_a_version_of_another_tool_has_the_contract_of_its_graph(repository: Repository) -> None:
    published = repository.facts(MV).contract
    (repository.path(MV) / MANIFEST_FILE).unlink()
    facts = repository.facts(MV)
    assert (facts.contract, facts.digest, facts.published, facts.tolerances) == (published, "", False, {})
    assert len(facts.goldens) == 1
    graph = repository.path(MV) / "saved_model.pb"
    graph.chmod(0o644)
    graph.write_bytes(graph.read_bytes()[:-3])
    with pytest.raises(IncompleteVersion):
        repository.facts(MV)


@pytest.mark.parametrize("name", [goldens.FILE, MANIFEST_FILE])
def test_damaged_files_are_an_error_and_never_nothing(repository: Repository, name: str) -> None:
    damaged(repository, name)
    with pytest.raises(Malformed, match=name):
        repository.facts(MV)


def test_a_damaged_tflite_model_is_an_error_for_who_serves_it(repository: Repository) -> None:
    (repository.path(MV) / "model.tflite").write_bytes(b"no FlatBuffer")
    assert repository.facts(MV).contract
    with pytest.raises((Malformed, IncompleteVersion), match=r"model\.tflite"):
        repository.facts(MV, tflite=True)


def test_a_served_model_whose_directory_has_another_name(repository: Repository) -> None:
    base = repository.root / "m"
    facts = versions_of(ServedModel("alias", str(base), All(), {})).find_facts(1)
    assert facts is not None and facts.digest == repository.manifest(MV).digest
    assert versions_of(ServedModel("alias", str(base), All(), {})).find_facts(2) is None
    assert versions_of(ServedModel("alias", str(base / "nowhere"), All(), {})).find_facts(1) is None
    with pytest.raises(VersionNotFound):
        repository.facts(ModelVersion("m", 2))


def test_nothing_is_known_of_a_stranger() -> None:
    facts = VersionFacts()
    assert (facts.contract, facts.goldens, facts.features, facts.published) == (None, (), {}, False)


def test_a_directory_is_as_good_as_a_published_version(tmp_path: Path) -> None:
    goldens.write(savedmodel(tmp_path / "v"), [GOLDEN], "m")
    assert len(read_facts(tmp_path / "v").goldens) == 1


def test_latency_is_measured_one_way() -> None:
    clock = FakeClock()
    waits = iter((3.0, 1.0))
    timings = timed(lambda: clock.sleep(next(waits)), 2, clock)
    assert timings == Timings((3.0, 1.0)) and len(timings) == 2
    assert (timings.median, timings.percentile(0), timings.percentile(100)) == (2.0, 1.0, 3.0)
    assert (Timings().median, Timings().percentile(99)) == (0.0, 0.0)

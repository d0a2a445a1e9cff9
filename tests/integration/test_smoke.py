"""The smoke test against a server process that runs real models, published with golden cases."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from deploy import goldens, smoke
from deploy.client import connect
from deploy.errors import SmokeFailed
from deploy.goldens.recorded import Golden
from deploy.report import junit
from deploy.repository import Repository, VersionFacts
from deploy.smoke import Outcome, Settings
from deploy.types import All, Endpoint, Latest, ServedModel, Specific
from tests.support import client as support

pytestmark = pytest.mark.tensorflow

SINGLE = ["mnist", "two_signatures", "vocabulary", "dtypes", "shapes", "classes"]


def publish(models: Path, repository: Repository, scratch: Path, name: str, source: str, cases: list[Golden]) -> None:
    """A version as an export leaves it: with golden cases inside."""
    directory = scratch / f"{name}-{source}"
    shutil.copytree(models / source, directory)
    if cases:
        goldens.write(directory, cases, name)
    repository.publish(directory, name, producer={"tfs_deploy": "0"})


def half(offset: float) -> list[Golden]:
    x = np.array([1, 2, 5], "f4")
    return [Golden("serving_default", {"x": x}, {"y": x / 2 + np.float32(offset)}),
            Golden("serving_default", {"x": x[:0]}, {"y": x[:0]}),
            Golden("serving_default", {"x": np.array([np.nan, np.inf], "f4")}, {"y": np.array([np.nan, np.inf], "f4")})]


@pytest.fixture(scope="module")
def repository(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    root, scratch = tmp_path_factory.mktemp("repository"), tmp_path_factory.mktemp("scratch")
    repository = Repository(root)
    publish(models, repository, scratch, "half", "half_plus_two", half(2))
    publish(models, repository, scratch, "half", "half_plus_three", half(3))
    words = np.array([b"fox", b"\xff", "the"], dtype=object)
    words[2] = b"the"
    publish(models, repository, scratch, "vocabulary", "vocabulary", [
        Golden("serving_default", {"words": words}, {"ids": np.array([3, -1, 0])})])
    for name in SINGLE:
        if name != "vocabulary":
            publish(models, repository, scratch, name, name, [])
    return repository


def served_models(repository: Repository) -> list[ServedModel]:
    return [ServedModel("half", str(repository.root / "half"), All(), {"stable": 1, "canary": 2}),
            *(ServedModel(name, str(repository.root / name), Specific((1,))) for name in SINGLE)]


@pytest.fixture(scope="module")
def endpoint(repository: Repository, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with support.server(served_models(repository), tmp_path_factory.mktemp("server")) as (endpoint, _):
        yield endpoint


def outcomes(report: smoke.SmokeReport, **wanted: object) -> set[Outcome]:
    return {c.outcome for c in report.checks if all(getattr(c, k) == v for k, v in wanted.items())}


def test_everything_published_is_right(repository: Repository, endpoint: Endpoint) -> None:
    report = smoke.smoke_test(endpoint, served_models(repository), repository)
    assert report.ok, "\n".join(f"{c.subject} {c.name} {c.protocol}: {c.seen}" for c in report.failed)
    first, empty = "golden 1 of serving_default", "golden 2 of serving_default"
    for protocol in ("gRPC", "REST row", "REST column"):
        assert outcomes(report, subject="half/2", name=first, protocol=protocol) == {Outcome.PASSED}
    assert outcomes(report, subject="half/2", name=empty, protocol="REST row") == {Outcome.SKIPPED}
    reasons = {c.seen for c in report.checks if c.outcome is Outcome.SKIPPED}
    assert {"the row form can't express a batch of no rows", "input 'x' is float16, which has no JSON form",
            "output 'total' is a scalar, which only the column form can express"} <= reasons
    assert outcomes(report, name="label answers") == {Outcome.PASSED}
    assert outcomes(report, model="classes", name="classify with serving_default") == {Outcome.PASSED}
    assert {latency.protocol for latency in report.latencies} == {"gRPC", "REST"}
    assert json.loads(json.dumps(report.to_json()))["ok"] is True
    assert ET.fromstring(junit(report)).get("failures") == "0"


def test_a_model_of_another_name_than_its_directory(repository: Repository, tmp_path: Path) -> None:
    served = [ServedModel("other", str(repository.root / "half"), Specific((1,)))]
    with support.server(served, tmp_path) as (endpoint, _):
        report = smoke.smoke_test(endpoint, served, smoke.from_models(served))
    assert report.ok
    assert outcomes(report, subject="other/1", name="golden 1 of serving_default") == {Outcome.PASSED}


@pytest.mark.parametrize("protocol", ["gRPC", "REST"])
def test_one_protocol_is_enough(repository: Repository, endpoint: Endpoint, protocol: str) -> None:
    target = endpoint.grpc_target if protocol == "gRPC" else endpoint.rest_url
    report = smoke.smoke_test(target, served_models(repository)[:2], repository)
    other = "REST" if protocol == "gRPC" else "gRPC"
    assert report.ok and f"this endpoint offers no {other}" in {c.seen for c in report.checks}


def test_names_alone_without_a_repository(endpoint: Endpoint) -> None:
    report = smoke.smoke_test(endpoint, ["half", "two_signatures"])
    assert report.ok and {c.subject for c in report.checks} >= {"half/1", "half/2", "two_signatures/1"}


def test_a_wrong_golden_a_wrong_label_and_a_missing_version(repository: Repository, endpoint: Endpoint) -> None:
    base = str(repository.root / "half")
    known = VersionFacts(goldens=[*half(2)[:1], *half(7)[:1]])
    report = smoke.smoke_test(endpoint, [ServedModel("half", base, Specific((1, 9)), {"stable": 2})], lambda _: known)
    wrong = {(c.subject, c.name, c.protocol) for c in report.failed}
    assert wrong == {("half/1", "golden 2 of serving_default", p) for p in ("gRPC", "REST column", "REST row")} | {
        ("half@stable", "label", p) for p in ("gRPC", "REST")} | {("half/9", "status", p) for p in ("gRPC", "REST")}
    told = next(c for c in report.failed if c.protocol == "REST row")
    assert "expected 7.5, got 2.5" in told.seen
    out = subprocess.run(["bash", "-c", told.reproduce], capture_output=True, text=True, check=True).stdout
    assert json.loads(out) == {"predictions": [2.5, 3.0, 4.5]}


def test_another_contract_and_a_model_that_refuses_its_golden(repository: Repository, endpoint: Endpoint) -> None:
    case = Golden("serving_default", {"words": np.array([b"fox"], object)}, {"ids": np.array([3])})
    with connect(endpoint) as client:
        other = client.metadata("half").contract
    report = smoke.smoke_test(endpoint, [ServedModel("mnist", "", Specific((1,)))],
                              lambda _: VersionFacts(other, [case]))
    assert {c.name for c in report.failed} == {"contract", "golden 1 of serving_default"}
    assert any("input 'pixels' is not expected" in c.seen for c in report.failed)
    assert any("no input 'words'" in c.seen for c in report.failed)


def test_the_newest_version_on_disk_counts(repository: Repository, tmp_path: Path) -> None:
    base = tmp_path / "half"
    shutil.copytree(repository.root / "half", base)
    with support.server([ServedModel("half", str(base), Specific((1,)))], tmp_path) as (endpoint, _):
        report = smoke.smoke_test(endpoint, [ServedModel("half", str(base), Latest(1))])
        assert {(c.subject, c.name) for c in report.failed} == {("half/2", "status")}


def test_a_server_gone_in_the_middle(repository: Repository, tmp_path: Path) -> None:
    with support.server(served_models(repository), tmp_path) as (endpoint, process):
        def stop(sentence: str) -> None:
            if "mnist" in sentence:
                process.kill()
                process.wait()

        report = smoke.smoke_test(endpoint, served_models(repository), repository, Settings(timeout=5, workers=1), stop)
    assert not report.ok and report.gone.startswith(("gRPC: ", "REST: "))
    assert outcomes(report, model="half") == {Outcome.PASSED, Outcome.SKIPPED}
    assert Outcome.NOT_RUN in outcomes(report, model="two_signatures")
    assert {c.model for c in report.checks} >= {"half", *SINGLE}
    assert len(report.failed) == 2  # one for each protocol
    with pytest.raises(SmokeFailed, match="stopped answering"):
        report.raise_if_failed()

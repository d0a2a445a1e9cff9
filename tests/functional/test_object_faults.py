"""The same faults before each object store; and what guards bytes on their way. More of S3: test_store_faults."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from deploy.errors import DigestMismatch, RepositoryError
from deploy.repository import Repository
from deploy.types import ModelVersion
from tests.support.peers.front import Fault, Faults, front, times
from tests.support.peers.stores import KINDS, ObjectService, ObjectServices
from tests.support.repository import savedmodel

ONE = ModelVersion("m", 1)
FILES = 12


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = savedmodel(tmp_path / "source", weights=300_000)
    for number in range(FILES):
        (source / "assets" / f"{number:02}").write_bytes(bytes([number]) * 5000)
    return source


class Behind:
    """Repositories at a service with something in between."""

    def __init__(self, service: ObjectService, patch: pytest.MonkeyPatch) -> None:
        self._service, self._patch = service, patch
        self.bucket, self._address = service.root, f"{service.root}/{uuid.uuid4().hex}"

    @contextmanager
    def faults(self, faults: Faults) -> Iterator[Repository]:
        server = self._service.endpoint.partition("://")[2].partition("/")[0]
        with front(server, faults) as host:
            for name, value in self._service.environ.items():
                self._patch.setenv(name, value.replace(server, host))
            yield Repository(self._address)
        for name, value in self._service.environ.items():
            self._patch.setenv(name, value)

    def healthy(self) -> Repository:
        return Repository(self._address)


@pytest.fixture(params=KINDS)
def behind(request: pytest.FixtureRequest, services: ObjectServices, monkeypatch: pytest.MonkeyPatch) -> Behind:
    return Behind(services.use(request.param, monkeypatch), monkeypatch)


def s3_error(status: int, code: str) -> Fault:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as asked for</Message></Error>".encode()
    return Fault(status, (("Content-Type", "application/xml"),), body)


def sends(method: str, _: str) -> bool:
    return method in ("PUT", "POST")


def reads(method: str, _: str) -> bool:
    return method == "GET"


# -- what goes by

PASSING = {"cut": Fault(cut=1000), "500": s3_error(500, "InternalError"), "503": s3_error(503, "SlowDown")}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_passes_is_tried_again(behind: Behind, source: Path, fault: Fault) -> None:
    with behind.faults(times(3, fault, sends)) as repo:
        published = repo.publish(source, "m")
    assert published.mv == ONE and behind.healthy().verify(ONE) == published.manifest


def test_reading_goes_on_after_cut_answers(behind: Behind, source: Path) -> None:
    published = behind.healthy().publish(source, "m")
    with behind.faults(times(3, Fault(cut_answer=100), lambda method, path: reads(method, path) and "weights" in path
                             )) as repo:
        assert repo.verify(ONE) == published.manifest


def test_slow_answers_are_waited_for(behind: Behind, source: Path) -> None:
    published = behind.healthy().publish(source, "m")
    with behind.faults(lambda *_: Fault(slow=0.02)) as repo:
        assert repo.verify(ONE) == published.manifest


def test_bytes_that_changed_on_the_way_back(behind: Behind, source: Path) -> None:
    behind.healthy().publish(source, "m")
    with (behind.faults(lambda method, path: Fault(damaged=reads(method, path) and "weights" in path)) as repo,
          pytest.raises((DigestMismatch, RepositoryError))):
        repo.verify(ONE)


@pytest.mark.parametrize("kind", ["s3-seaweedfs", "gcs"])
def test_the_service_compares_checksums_of_what_arrives(services: ObjectServices, monkeypatch: pytest.MonkeyPatch,
                                                        source: Path, kind: str) -> None:
    """S3 refuses the damaged upload; Google's client notices that another checksum came back, and sends it again."""
    behind = Behind(services.use(kind, monkeypatch), monkeypatch)
    with (behind.faults(times(1, Fault(damaged_request=True), lambda method, path: sends(method, path)
                              and "weights" in path)) as repo,
          suppress(RepositoryError)):
        repo.publish(source, "m")
    if not (repo := behind.healthy()).versions("m"):
        assert repo.publish(source, "m").mv == ONE
    assert repo.verify(ONE)


def test_azure_is_sent_no_checksum_and_verify_tells(services: ObjectServices, monkeypatch: pytest.MonkeyPatch,
                                                    source: Path) -> None:
    """obstore has none for it; TLS guards the way there, the manifest what lies there."""
    behind = Behind(services.use("azure", monkeypatch), monkeypatch)
    with behind.faults(times(1, Fault(damaged_request=True), lambda method, path: sends(method, path)
                             and "weights" in path)) as repo:
        repo.publish(source, "m")
    with pytest.raises(DigestMismatch, match=r"changed: assets/weights\.bin"):
        behind.healthy().verify(ONE)


# -- what stays

def test_a_service_that_stays_busy(behind: Behind, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFS_STORE_DEADLINE", "1.5")
    sent, started = [0], time.monotonic()

    def busy(method: str, path: str) -> Fault | None:
        if not sends(method, path):
            return None
        sent[0] += 1
        return s3_error(503, "SlowDown") if sent[0] > 7 else None

    with behind.faults(busy) as repo, pytest.raises(RepositoryError, match="slow down"):
        repo.publish(source, "m")
    assert time.monotonic() - started < 30 and sent[0] > 8
    repo = behind.healthy()
    assert repo.versions("m") == []
    assert repo.verify(repo.publish(source, "m").mv)


def test_an_endpoint_that_isnt_there(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFS_STORE_DEADLINE", "1")
    with behind.faults(lambda *_: None) as repo:
        pass
    started = time.monotonic()
    with pytest.raises(RepositoryError, match="can't be reached.*check the endpoint"):
        repo.models()
    assert time.monotonic() - started < 15


def test_a_bucket_that_isnt_there(behind: Behind, source: Path) -> None:
    for ask in (lambda r: r.models(), lambda r: r.publish(source, "m")):
        with pytest.raises(RepositoryError, match="there is no (bucket|container) 'nowhere'"):
            ask(Repository(behind.bucket.replace("models", "nowhere")))


def test_wrong_secrets(services: ObjectServices, monkeypatch: pytest.MonkeyPatch) -> None:
    service = services.use("s3-seaweedfs", monkeypatch)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(RepositoryError, match="doesn't accept the credentials of access key tests") as e:
        Repository(service.root).models()
    assert "another" not in str(e.value)

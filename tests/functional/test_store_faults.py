"""What goes wrong between us and a store: networks, busy services, credentials. A real one behind a front."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.errors import DeployError, RepositoryError
from deploy.repository import Repository, mirror, pull
from deploy.types import Latest, ModelVersion
from tests.support.peers.front import Fault, Faults, front, times
from tests.support.peers.stores import BUCKET, ObjectServices
from tests.support.repository import savedmodel

ONE = ModelVersion("m", 1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return savedmodel(tmp_path / "source", weights=20_000_000)


class Behind:
    """A prefix in a real bucket; `address(faults)` leads there through a front."""

    def __init__(self, services: ObjectServices, patch: pytest.MonkeyPatch, stack: ExitStack, kind: str) -> None:
        self._service, self._patch, self._stack = services.use(kind, patch), patch, stack
        self.address = f"{self._service.root}/{uuid.uuid4().hex}"

    def through(self, faults: Faults) -> Repository:
        host = self._stack.enter_context(front(self._service.endpoint.partition("://")[2], faults))
        self._patch.setenv("AWS_ENDPOINT_URL", f"http://{host}")
        return Repository(self.address)

    def directly(self) -> Repository:
        self._patch.setenv("AWS_ENDPOINT_URL", self._service.endpoint)
        return Repository(self.address)


@pytest.fixture
def behind(services: ObjectServices, monkeypatch: pytest.MonkeyPatch) -> Iterator[Behind]:
    monkeypatch.setenv("TFS_STORE_DEADLINE", "20")
    with ExitStack() as stack:
        # moto doesn't check signatures, so a front may stand before it under another name
        yield Behind(services, monkeypatch, stack, "s3-moto")


def parts(method: str, path: str) -> bool:
    """The upload of a part of the big file."""
    return method == "PUT" and "partNumber" in path


def reads(method: str, path: str) -> bool:
    return method == "GET" and "weights.bin" in path


def xml(code: str, more: str = "") -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message>{more}</Error>".encode()


@pytest.mark.parametrize("fault", [
    Fault(cut=1_000_000), Fault(cut=0), Fault(status=500, body=xml("InternalError")),
    Fault(status=503, body=xml("SlowDown")), Fault(cut_answer=0),
], ids=["cut", "cut at once", "500", "503", "no answer"])
def test_an_upload_that_fails_now_and_then_succeeds(behind: Behind, source: Path, fault: Fault) -> None:
    assert behind.through(times(3, fault, parts)).publish(source, "m").mv == ONE
    assert behind.directly().verify(ONE).size > 20_000_000


@pytest.mark.parametrize("fault", [Fault(cut_answer=100_000), Fault(status=503, body=xml("SlowDown")),
                                   Fault(status=500, body=xml("InternalError"))], ids=["cut", "503", "500"])
def test_a_download_that_fails_now_and_then_succeeds(behind: Behind, source: Path, tmp_path: Path, fault: Fault
                                                     ) -> None:
    behind.directly().publish(source, "m")
    target = Repository(tmp_path / "mirror")
    assert pull(behind.through(times(3, fault, reads)), target, ONE) is not None
    assert target.verify(ONE)


@pytest.mark.parametrize(("fault", "message"), [
    (Fault(status=503, body=xml("SlowDown")), r"asks to slow down and did not recover \(tried \d+ times in .* s\)"),
    (Fault(status=500, body=xml("InternalError")), r"fails to put .*weights.bin \(tried \d+ times in .* s\)"),
    (Fault(cut=100), r"can't be reached, or went away, to put .*weights.bin"),
], ids=["503", "500", "cut"])
def test_a_service_that_doesnt_recover(behind: Behind, source: Path, fault: Fault, message: str,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFS_STORE_DEADLINE", "1.5")
    with pytest.raises(RepositoryError, match=message) as refused:
        behind.through(times(1 << 30, fault, parts)).publish(source, "m")
    assert "repeat the command" in str(refused.value)
    assert behind.directly().models() == [], "nothing is visible"
    monkeypatch.setenv("TFS_STORE_DEADLINE", "20")
    assert behind.directly().publish(source, "m").mv == ONE and behind.directly().verify(ONE)


@pytest.mark.parametrize(("fault", "message", "id"), [
    (Fault(status=403, body=xml("AccessDenied")), "access key tests may not put .*; give it s3:PutObject",
     "store-forbidden"),
    (Fault(status=403, body=xml("RequestTimeTooSkewed")), "this machine's clock and its own differ", "clock-skew"),
    (Fault(status=400, body=xml("ExpiredToken")), "credentials of access key tests have expired; log in again",
     "credentials-expired"),
    (Fault(status=403, body=xml("InvalidAccessKeyId")), "doesn't accept the credentials of access key tests",
     "credentials-refused"),
    (Fault(status=403, body=xml("SignatureDoesNotMatch")), "doesn't accept the credentials", "credentials-refused"),
    (Fault(status=400, body=xml("AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>")),
     f"bucket '{BUCKET}' isn't in the region that was asked; it is in eu-west-1; set AWS_REGION", "wrong-region"),
    (Fault(status=301, body=xml("PermanentRedirect")), "isn't in the region that was asked", "wrong-region"),
    (Fault(status=400, body=xml("XAmzContentSHA256Mismatch")), "got other bytes than were sent", "checksum-refused"),
], ids=lambda value: value if isinstance(value, str) and "-" in value and " " not in value else "")
def test_what_a_service_refuses(behind: Behind, source: Path, fault: Fault, message: str, id: str) -> None:
    def faults(method: str, _path: str) -> Fault | None:
        return fault if method == "PUT" else None

    with pytest.raises(RepositoryError, match=message) as refused:
        behind.through(faults).publish(source, "m")
    assert refused.value.id == id and len(str(refused.value).splitlines()) == 1
    assert behind.directly().models() == []


def test_a_bucket_that_isnt_there(behind: Behind, source: Path) -> None:
    for ask in (lambda r: r.models(), lambda r: r.publish(source, "m"), lambda r: r.manifest(ONE)):
        with pytest.raises(RepositoryError, match="there is no bucket 'nothing-here'") as refused:
            ask(Repository("s3://nothing-here/models"))
        assert refused.value.id == "no-bucket"


def test_nobody_at_the_endpoint(monkeypatch: pytest.MonkeyPatch, behind: Behind) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("TFS_STORE_DEADLINE", "1")
    with pytest.raises(RepositoryError, match=r"http://127.0.0.1:9 can't be reached.*\(tried \d+ times in \d.\d s\)"):
        Repository("s3://models/x").models()


def test_without_credentials(monkeypatch: pytest.MonkeyPatch, behind: Behind) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    with pytest.raises(RepositoryError, match="there are no credentials for it; set AWS_PROFILE") as caught:
        Repository("s3://models/x")
    assert caught.value.id == "no-credentials"


@pytest.mark.parametrize("value", ["soon", "0", "-1", "1e9", "nan"])
def test_a_deadline_that_is_none(value: str, monkeypatch: pytest.MonkeyPatch, behind: Behind) -> None:
    monkeypatch.setenv("TFS_STORE_DEADLINE", value)
    with pytest.raises(DeployError, match="TFS_STORE_DEADLINE: expected seconds"):
        Repository("s3://models/x")


def test_a_slow_service_is_waited_for(behind: Behind, source: Path, tmp_path: Path) -> None:
    """Reads are held until all eight threads wait: nothing times out, and nothing is seen before the end."""
    behind.directly().publish(source, "m")
    target, waiting = Repository(tmp_path / "mirror"), threading.Event()

    def slow(method: str, path: str) -> Fault | None:
        if reads(method, path):
            assert target.store.local_path("") is not None
            waiting.wait(0.5)
        return None

    done = mirror(behind.through(slow), target, {"m": Latest()})
    assert [one.mv for one in done.fetched] == [ONE] and target.verify(ONE)

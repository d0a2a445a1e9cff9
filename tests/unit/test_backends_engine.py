"""Every error that the Docker SDK can let through becomes one of ours, with what to do about it."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import docker.credentials.errors
import docker.errors
import pytest
import requests
import urllib3.exceptions

from deploy.backends.container_options import Host
from deploy.backends.engine import Engine, _name_and_tag
from deploy.backends.engine_errors import translated
from deploy.backends.volumes import Volume, tar_of
from deploy.errors import BackendMissing, ServerError


def classes(module: Any) -> list[type[BaseException]]:
    package = module.__name__.partition(".")[0]
    found = [c for _, c in inspect.getmembers(module, inspect.isclass) if c.__module__.startswith(package)]
    return [c for c in found if issubclass(c, Exception) and not issubclass(c, Warning)]


FOREIGN = [*classes(docker.errors), *classes(requests.exceptions), *classes(urllib3.exceptions)]


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda c: f"{c.__module__}.{c.__name__}")
def test_no_foreign_error_gets_through(foreign: type[BaseException]) -> None:
    # Their constructors differ, so each is raised as a subclass with a plain one
    plain = {"__init__": lambda self: None, "__str__": lambda self: "said so", "response": None, "explanation": None}
    error = type(foreign.__name__, (foreign,), plain)()
    with pytest.raises(ServerError), translated("do it"):
        raise error


def test_the_list_of_foreign_errors_is_not_empty() -> None:
    assert len(FOREIGN) > 40


def test_an_api_error_tells_what_the_engine_said() -> None:
    with pytest.raises(ServerError) as e, translated("start container x", "unix:///s"):
        raise docker.errors.APIError("500 Server Error", explanation="no such device")
    assert e.value.message == "can't start container x: the Docker engine says: no such device"


@pytest.mark.parametrize(("explanation", "name", "words"), [
    ("write /v/x: no space left on device", "engine-disk-full", "the disk of the Docker engine at tcp://h:1 is full"),
    ("driver failed programming external connectivity on endpoint x: Bind for 0.0.0.0:8500 failed: port is already "
     "allocated", "port-taken", "port 8500 of the Docker engine's machine at tcp://h:1 is taken"),
    ("Error starting userland proxy: listen tcp4 0.0.0.0:8501: bind: address already in use", "port-taken",
     "port 8501"),
])
def test_what_an_engine_elsewhere_has_no_room_or_port_for(explanation: str, name: str, words: str) -> None:
    with pytest.raises(ServerError) as e, translated("do it", "tcp://h:1"):
        raise docker.errors.APIError("500 Server Error", explanation=explanation)
    assert e.value.id == name and words in e.value.message


def refused(cause: OSError) -> requests.exceptions.ConnectionError:
    return requests.exceptions.ConnectionError(urllib3.exceptions.ProtocolError("Connection aborted.", cause))


@pytest.mark.parametrize(("cause", "hint"), [
    (FileNotFoundError(2, "No such file"), "start it"), (ConnectionRefusedError(111, "refused"), "start it"),
    (PermissionError(13, "Permission denied"), "group `docker`")])
def test_no_engine_is_told_apart_from_no_permission(cause: OSError, hint: str) -> None:
    with pytest.raises(BackendMissing) as e, translated("reach it", "unix:///s"):
        raise refused(cause)
    assert hint in e.value.hint and "backend: embedded" in e.value.hint and "unix:///s" in e.value.message


def answer(status: int) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    return response


@pytest.mark.parametrize(("cause", "says"), [
    (docker.errors.APIError("404 Client Error", response=answer(404)), "status 404"),
    (json.JSONDecodeError("Expecting value", "<html>", 0), "something that is no JSON"),
    (None, "nothing of it"),
])
def test_another_service_is_no_engine(cause: Exception | None, says: str) -> None:
    with pytest.raises(BackendMissing) as e, translated("reach it", "tcp://h:1 (from server/docker)"):
        text = "of docker" if cause else 'Invalid response from docker daemon: key "ApiVersion" is missing.'
        raise docker.errors.DockerException(text) from cause
    assert e.value.message == ("what answers at tcp://h:1 (from server/docker) is no Docker engine: asked for its "
                               f"version it says {says}")
    assert "start it" not in e.value.hint and e.value.id == "engine-missing"


def test_an_engine_that_the_sdk_finds_too_old() -> None:
    too_old = r"tcp://h:1 is too old: its API is older than 1\.\d+; at least 1.25 is needed"
    with pytest.raises(BackendMissing, match=too_old), translated("reach it", "tcp://h:1"):
        raise docker.errors.InvalidVersion("API versions below 1.24 are no longer supported by this library.")


def test_our_own_errors_pass_unchanged() -> None:
    mine = BackendMissing("as it is")
    with pytest.raises(BackendMissing) as e, translated("do it"):
        raise mine
    assert e.value is mine


@pytest.mark.parametrize(("image", "parts"), [
    ("tensorflow/serving:2.20.0", ("tensorflow/serving", "2.20.0")),
    ("tensorflow/serving", ("tensorflow/serving", "latest")),
    ("registry:5000/serving", ("registry:5000/serving", "latest")),
    ("registry:5000/serving:1", ("registry:5000/serving", "1")),
    ("serving@sha256:abc", ("serving", "sha256:abc")),
])
def test_names_of_images(image: str, parts: tuple[str, str]) -> None:
    assert _name_and_tag(image) == parts


class Api:
    """The SDK's low-level client, as far as a pull goes."""

    def __init__(self, *lines: Mapping[str, Any]) -> None:
        self.lines, self.asked = lines, {}

    def pull(self, name: str, **options: Any) -> Iterator[Mapping[str, Any]]:
        self.asked = {"name": name, **options}
        return iter(self.lines)


def engine(api: Api) -> Engine:
    return Engine(SimpleNamespace(api=api), "unix:///s")  # type: ignore[arg-type]


def test_a_pull_tells_its_progress() -> None:
    told: list[str] = []
    sizes = [("ab", 1), ("ab", 2), ("cd", 8), ("cd", 9), ("cd", 10)]
    events = [{"status": "Downloading", "id": i, "progressDetail": {"current": n << 20, "total": 10 << 20}}
              for i, n in sizes]
    api = Api({"status": "Pulling from x", "id": "7"}, *events, {"status": "Download complete", "id": "ab"},
              {"status": "Extracting", "id": "ab", "progressDetail": {"current": 1, "total": 2}}, {"status": "Done"})
    engine(api).pull("x:7", told.append)
    assert api.asked == {"name": "x", "tag": "7", "stream": True, "decode": True}
    assert told == [f"pulling x:7: {percent} % of {total} MB"
                    for percent, total in ((10, 10), (20, 10), (50, 20), (60, 20), (100, 20))]


def test_an_image_that_no_registry_has_is_named() -> None:
    with pytest.raises(BackendMissing) as e:
        engine(Api({"error": "manifest unknown"})).pull("nobody/nothing:1")
    assert e.value.message == "image nobody/nothing:1 isn't here and can't be pulled: the pull ended with an error"
    assert e.value.details["said"] == "manifest unknown" and "server/image" in e.value.hint


@pytest.mark.parametrize(("status", "why"), [
    (404, "no registry has it, or none without a login"), (500, "its registry can't be reached, or refuses")])
def test_a_pull_that_fails_is_told_in_a_clause(status: int, why: str) -> None:
    said = 'Get "https://registry.example/v2/": dial tcp: lookup registry.example: no such host'

    class Refusing(Api):
        def pull(self, name: str, **options: Any) -> Iterator[Mapping[str, Any]]:
            response = requests.Response()
            response.status_code = status
            raise docker.errors.APIError("refused", response, said)

    with pytest.raises(BackendMissing) as e:
        engine(Refusing()).pull("x:1")
    assert e.value.message == f"image x:1 isn't here and can't be pulled: {why}"
    assert e.value.details["said"] == said


@pytest.mark.parametrize(("said", "what"), [
    ("docker-credential-desktop not installed or not available in PATH", "isn't installed"),
    ('Credentials store docker-credential-ecr-login exited with "no region".', "fails: .*no region")])
def test_a_credential_helper_is_named(said: str, what: str) -> None:
    class Helped(Api):
        def pull(self, name: str, **options: Any) -> Iterator[Mapping[str, Any]]:
            store = docker.credentials.errors.StoreError(said)
            raise docker.errors.DockerException(f"Credentials store error: {store!r}") from store

    with pytest.raises(BackendMissing, match=f"the credential helper docker-credential-[a-z-]+ {what}") as e:
        engine(Helped()).pull("x:1")
    assert "credsStore" in e.value.hint and "config.json" in e.value.hint


def test_a_helper_that_isnt_there_is_told_once() -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(docker.credentials.errors.StoreError), translated("pull x"):
            docker.credentials.Store("nobodys").get("registry")
    assert not told


def images_of(attrs: Mapping[str, Any], info: Mapping[str, Any]) -> Engine:
    found = SimpleNamespace(get=lambda image: SimpleNamespace(attrs=attrs))
    return Engine(SimpleNamespace(images=found, info=lambda: info), "unix:///s")  # type: ignore[arg-type]


@pytest.mark.parametrize(("image", "digests", "pinned"), [
    ("tensorflow/serving:2.20.0", ["mirror/x@sha256:b", "tensorflow/serving@sha256:a"], "tensorflow/serving@sha256:a"),
    ("serving", ["docker.io/library/serving@sha256:a"], "docker.io/library/serving@sha256:a"),
    ("reg:5000/m:1", ["reg:5000/m@sha256:c"], "reg:5000/m@sha256:c"),
    ("made/here:1", [], "sha256:id"), ("made/here:1", None, "sha256:id"), ("m:1", ["other@sha256:b"], "sha256:id")])
def test_an_image_is_pinned_to_what_its_name_stands_for(image: str, digests: list[str] | None, pinned: str) -> None:
    assert images_of({"Id": "sha256:id", "RepoDigests": digests}, {}).pinned(image) == pinned


def test_the_engines_machine() -> None:
    info = {"MemTotal": 100, "MemoryLimit": True, "PidsLimit": True, "LoggingDriver": "journald"}
    assert images_of({}, info).host() == Host(100, True, "journald")
    assert images_of({}, {**info, "MemoryLimit": False, "PidsLimit": False}).host() == Host(0, False, "journald")


class ContainerThatGoes:
    """As an engine answers for one that it removes: its files are gone, and it is still listed."""

    name, labels, attrs = "old", {}, {"Mounts": [{"Name": "config", "Destination": "/c"}]}

    def __init__(self, answer: docker.errors.APIError, then: str | None) -> None:
        self.answer, self.then = answer, then

    def get_archive(self, path: str) -> None:
        raise self.answer

    def reload(self) -> None:
        if self.then is None:
            raise docker.errors.NotFound("404", explanation="No such container: old")
        self.attrs = {**self.attrs, "State": {"Status": self.then}}


class Volumes:
    """An engine's: one volume, the container that somebody else has it in, and one of ours that holds the file."""

    def __init__(self, other: ContainerThatGoes) -> None:
        ours = SimpleNamespace(name="ours", labels={}, get_archive=lambda _: ([tar_of({"models.config": b"new"})], {}),
                               remove=lambda force: None)
        self.containers = SimpleNamespace(list=lambda **_: [other], create=lambda **_: ours)
        self.volumes = SimpleNamespace(get=lambda _: SimpleNamespace(attrs={"Labels": {}}))
        self.images = SimpleNamespace(get=lambda _: SimpleNamespace(attrs={"Id": "sha256:1"}))


NOT_THERE = docker.errors.NotFound("404", explanation="Could not find the file /c/models.config in container old")
NO_LAYER = docker.errors.APIError("500", explanation="RWLayer of container old is unexpectedly nil")


@pytest.mark.parametrize(("answer", "then", "expected"), [
    (NOT_THERE, "removing", b"new"), (NOT_THERE, "dead", b"new"), (NOT_THERE, None, b"new"),
    (NO_LAYER, "removing", b"new"), (NO_LAYER, None, b"new"), (NOT_THERE, "running", None)])
def test_what_a_container_lacks_that_is_being_removed_proves_nothing(
        answer: docker.errors.APIError, then: str | None, expected: bytes | None) -> None:
    engine: Any = Engine(Volumes(ContainerThatGoes(answer, then)), "here")  # type: ignore[arg-type]
    assert Volume(lambda: engine, "config", {}, "image").read("models.config") == expected

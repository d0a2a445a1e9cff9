"""Versions, labels and reloads: one table of scenarios for the echo server in this process (milliseconds) and for the
server as a process with TensorFlow's engine.

A scenario is a list of steps: what is done, what is seen then.

    reload a=all b=latest:2 c=specific:1,3 a.stable=1      models, policies, labels -> OK, or the code that refuses it
    put a/3, put a/3 broken, put a/x file, rm a/3, rmdir a, mkdir a      files appear or vanish, and are looked at
    states a -> 3:AVAILABLE 1:END
    ask a, ask a/3, ask a@stable -> the version that answers, or the code
    begin reload ..., end      a reload that has to wait -> what it says at last
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from deploy.modelserver.echo import EchoLoader
from deploy.modelserver.server import ModelServer
from deploy.types import VersionState
from deploy.waiting import Deadline, poll
from deploy.wire import config_pb2, methods
from deploy.wire import serving_pb2 as pb
from deploy.wire.flags import Options

ROOT = Path(__file__).parents[2]
LONGEST = 30.0  # seconds
Steps = list[tuple[str, str]]

SCENARIOS: dict[str, Steps] = {
    "a new version takes over": [
        ("put a/1", ""), ("reload a=latest:1", "OK"), ("ask a", "1"),
        ("put a/2", ""), ("states a", "2:AVAILABLE 1:END"), ("ask a", "2"), ("ask a/1", "NOT_FOUND"),
    ],
    "a lower version is passed over": [
        ("put a/5", ""), ("reload a=latest:1", "OK"), ("put a/4", ""), ("states a", "5:AVAILABLE"),
        ("ask a/4", "NOT_FOUND"),
    ],
    "when the newest goes, the next lower one comes back": [
        ("put a/1", ""), ("put a/2", ""), ("reload a=latest:1", "OK"), ("rm a/2", ""),
        ("states a", "2:END 1:AVAILABLE"), ("ask a", "1"),
    ],
    "when all versions go, the model does": [
        ("put a/1", ""), ("reload a=latest:1", "OK"), ("rm a/1", ""), ("states a", "1:END"), ("ask a", "NOT_FOUND"),
    ],
    "all": [
        ("put a/1", ""), ("put a/3", ""), ("reload a=all", "OK"), ("states a", "3:AVAILABLE 1:AVAILABLE"),
        ("put a/2", ""),
        ("states a", "3:AVAILABLE 2:AVAILABLE 1:AVAILABLE"), ("ask a", "3"), ("ask a/1", "1"),
        ("rm a/3", ""), ("states a", "3:END 2:AVAILABLE 1:AVAILABLE"), ("ask a", "2"),
    ],
    "latest of several": [
        ("put a/1", ""), ("put a/2", ""), ("put a/3", ""), ("reload a=latest:2", "OK"),
        ("states a", "3:AVAILABLE 2:AVAILABLE"), ("put a/4", ""), ("states a", "4:AVAILABLE 3:AVAILABLE 2:END"),
    ],
    "latest of none means one": [
        ("put a/1", ""), ("put a/2", ""), ("reload a=latest:0", "OK"), ("states a", "2:AVAILABLE"),
    ],
    "specific versions, one of which comes later": [
        ("put a/1", ""), ("put a/2", ""), ("reload a=specific:1,3", "OK"), ("states a", "1:AVAILABLE"),
        ("put a/3", ""), ("states a", "3:AVAILABLE 1:AVAILABLE"), ("put a/4", ""),
        ("states a", "3:AVAILABLE 1:AVAILABLE"),
    ],
    "odd names": [
        ("put a/007", ""), ("put a/+5", ""), ("put a/0", ""), ("put a/-3", ""), ("put a/1.5", ""),
        ("put a/.tmp-9", ""),
        ("put a/9x", ""), ("reload a=all", "OK"), ("states a", "7:AVAILABLE 5:AVAILABLE 0:AVAILABLE -3:AVAILABLE"),
    ],
    "a file counts as a version": [
        ("put a/1", ""), ("reload a=latest:1", "OK"), ("put a/2 file", ""), ("states a", "2:END 1:AVAILABLE"),
        ("ask a", "1"),
    ],
    "a broken version leaves the old one, and its number is burnt": [
        ("put a/1", ""), ("reload a=latest:1", "OK"), ("put a/2 broken", ""), ("states a", "2:END 1:AVAILABLE"),
        ("rm a/2", ""), ("put a/2", ""), ("states a", "2:END 1:AVAILABLE"), ("ask a", "1"),
        ("put a/3", ""), ("states a", "3:AVAILABLE 2:END 1:END"),
    ],
    "with policy all a broken number may come back": [
        ("put a/1", ""), ("reload a=all", "OK"), ("put a/2 broken", ""), ("states a", "2:END 1:AVAILABLE"),
        ("rm a/2", ""), ("put a/2", ""), ("states a", "2:AVAILABLE 1:AVAILABLE"),
    ],
    "a loaded version that is overwritten stays as it is": [
        ("put a/1", ""), ("reload a=latest:1", "OK"), ("put a/1 broken", ""), ("states a", "1:AVAILABLE"),
        ("ask a", "1"),
    ],
    "two names on one base path": [
        ("put a/1", ""), ("put a/2", ""), ("reload a=latest:1 b=all:a", "OK"), ("states a", "2:AVAILABLE"),
        ("states b", "2:AVAILABLE 1:AVAILABLE"), ("ask a/1", "NOT_FOUND"), ("ask b/1", "1"),
    ],
    "models come and go by reload": [
        ("put a/1", ""), ("put b/2", ""), ("reload a=all", "OK"), ("ask b", "NOT_FOUND"),
        ("reload a=all b=all", "OK"),
        ("ask b", "2"), ("reload b=all", "OK"), ("states a", "1:END"), ("ask a", "NOT_FOUND"), ("ask b", "2"),
        ("reload a=all b=all", "OK"), ("ask a", "1"),
    ],
    "a new policy is carried out later": [
        ("put a/1", ""), ("put a/2", ""), ("reload a=latest:1", "OK"), ("reload a=specific:1", "OK"),
        ("states a", "2:END 1:AVAILABLE"), ("reload a=all", "OK"), ("states a", "2:AVAILABLE 1:AVAILABLE"),
    ],
    "another base path": [
        ("put a/1", ""), ("put b/1", ""), ("put c/2", ""), ("reload a=latest:1", "OK"), ("reload a=latest:1:b", "OK"),
        ("put other/1", ""), ("states a", "1:AVAILABLE"), ("reload a=latest:1:c", "OK"),
        ("states a", "2:AVAILABLE 1:END"),
    ],
    "a new model that fails is told once": [
        ("put a/1", ""), ("put b/1 broken", ""), ("reload a=all", "OK"), ("reload a=all b=all", "UNKNOWN"),
        ("reload a=all b=all", "OK"), ("ask b", "NOT_FOUND"), ("states b", "1:END"), ("ask a", "1"),
    ],
    "the same name twice": [
        ("put a/1", ""), ("reload a=all", "OK"), ("reload a=all a=latest:1", "INVALID_ARGUMENT"), ("ask a", "1"),
    ],
    "an empty list unloads everything": [
        ("put a/1", ""), ("reload a=all", "OK"), ("reload", "OK"), ("states a", "1:END"), ("ask a", "NOT_FOUND"),
    ],
    "labels need loaded versions": [
        ("put a/1", ""), ("reload a=all", "OK"), ("reload a=all a.stable=2", "FAILED_PRECONDITION"),
        ("ask a@stable", "INVALID_ARGUMENT"), ("reload a=all a.stable=1", "OK"), ("ask a@stable", "1"),
        ("ask a@canary", "INVALID_ARGUMENT"), ("ask nobody@stable", "INVALID_ARGUMENT"),
    ],
    "labels of a model that is new are refused": [
        ("put a/1", ""), ("reload a=all a.stable=1", "FAILED_PRECONDITION"), ("reload a=all", "OK"),
    ],
    "labels move, and each reload replaces them": [
        ("put a/1", ""), ("put a/2", ""), ("reload a=all", "OK"), ("reload a=all a.stable=1 a.canary=2", "OK"),
        ("ask a@stable", "1"), ("ask a@canary", "2"), ("reload a=all a.stable=2", "OK"), ("ask a@stable", "2"),
        ("ask a@canary", "INVALID_ARGUMENT"), ("reload a=all", "OK"), ("ask a@stable", "INVALID_ARGUMENT"),
    ],
    "a refused label changes nothing, and stays refused until its version is there": [
        ("put a/1", ""), ("reload a=all", "OK"), ("reload a=all a.stable=1", "OK"),
        ("reload a=all a.stable=2", "FAILED_PRECONDITION"), ("ask a@stable", "1"),
        ("reload a=all a.stable=2", "FAILED_PRECONDITION"), ("put a/2", ""), ("states a", "2:AVAILABLE 1:AVAILABLE"),
        ("reload a=all a.stable=2", "OK"), ("ask a@stable", "2"),
    ],
    "a label outlives its version": [
        ("put a/1", ""), ("put a/2", ""), ("reload a=all", "OK"), ("reload a=all a.stable=1", "OK"), ("rm a/1", ""),
        ("states a", "2:AVAILABLE 1:END"), ("ask a@stable", "NOT_FOUND"), ("ask a", "2"),
    ],
    "two labels on one version": [
        ("put a/1", ""), ("reload a=all", "OK"), ("reload a=all a.x=1 a.y=1", "OK"), ("ask a@x", "1"),
        ("ask a@y", "1"),
    ],
}

WITH_FLAG: dict[str, Steps] = {
    "new labels may point anywhere": [
        ("put a/1", ""), ("reload a=all a.stable=1 a.canary=9", "OK"), ("ask a@stable", "1"),
        ("ask a@canary", "NOT_FOUND"),
        ("put a/9", ""), ("states a", "9:AVAILABLE 1:AVAILABLE"), ("ask a@canary", "9"),
    ],
    "labels that exist need a loaded version to move to": [
        ("put a/1", ""), ("reload a=all a.stable=1", "OK"), ("reload a=all a.stable=2", "FAILED_PRECONDITION"),
        ("ask a@stable", "1"), ("put a/2", ""), ("states a", "2:AVAILABLE 1:AVAILABLE"),
        ("reload a=all a.stable=2", "OK"),
        ("ask a@stable", "2"),
    ],
}

ALONE: dict[str, Steps] = {  # these hold up everything else on the server
    "a missing base path holds up reloads and all models' new versions until it is there": [
        ("put a/1", ""), ("reload a=latest:1", "OK"), ("begin reload a=latest:1 b=latest:1", ""),
        ("begin reload a=all", ""),
        ("put a/2", ""), ("states a", "1:AVAILABLE"), ("ask a", "1"),
        ("put b/1", ""), ("end", "OK"), ("end", "OK"), ("states a", "2:AVAILABLE 1:AVAILABLE"),
        ("ask b", "NOT_FOUND"),
    ],
    "an empty base path holds up reloads, but not other models": [
        ("put a/1", ""), ("mkdir b", ""), ("reload a=latest:1", "OK"), ("begin reload a=latest:1 b=latest:1", ""),
        ("put a/2", ""), ("states a", "2:AVAILABLE 1:END"), ("put b/1", ""), ("end", "OK"), ("ask b", "1"),
    ],
    "a base path that vanishes hides all models' new versions": [
        ("put a/1", ""), ("put b/1", ""), ("reload a=latest:1 b=latest:1", "OK"), ("rmdir b", ""), ("put a/2", ""),
        ("states a", "1:AVAILABLE"), ("ask b", "1"), ("mkdir b", ""), ("states a", "2:AVAILABLE 1:END"),
        ("states b", "1:END"),
    ],
}


class Driver:
    """Carries out a scenario's steps in a directory of its own, under model names of its own.

    After each change of files it waits until the server has looked at them: until a model that is there for this
    only, the last in each configuration, is served in a new version.
    """

    def __init__(self, where: Path, server: InProcess | Process) -> None:
        self.where, self._server = where, server
        self._channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")
        self._marker = 0
        self._paths: set[str] = set()  # what the server looks at
        self._waiting: list[Future[str]] = []
        self._threads = ThreadPoolExecutor(2)

    def run(self, steps: Steps) -> None:
        self._make("marker/0")
        for number, (step, expected) in enumerate(steps, 1):
            verb, *rest = step.split()
            seen = self.states(*rest, expected) if verb == "states" else getattr(self, verb)(*rest)
            assert (seen or "") == expected, f"step {number}: {step}"

    def close(self) -> None:
        self._channel.close()
        self._threads.shutdown(wait=False)

    def _look(self) -> None:
        if not self._paths:
            return
        if not all((self.where / path).exists() for path in self._paths):
            self._server.look_in_vain()
            return
        self._marker += 1
        self._make(f"marker/{self._marker}")
        self._server.look()
        marker = f"{self._marker}:AVAILABLE {self._marker - 1}:END"
        assert poll(lambda: self._states("marker").startswith(marker) or None, Deadline(LONGEST),
                    first=0.001, most=0.05)

    # -- files

    def put(self, path: str, kind: str = "") -> None:
        self._make(path, kind)
        self._look()

    def _make(self, path: str, kind: str = "") -> None:
        target, made = self.where / path, self.where / ".new"
        if kind == "file":
            made.write_text("")
        elif self._server.source is None:
            made.mkdir()
            (made / "saved_model.pb").touch()
        else:
            shutil.copytree(self._server.source, made)
        if kind == "broken":
            (made / "saved_model.pb").write_bytes(b"\xff broken")
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)

    def rm(self, path: str) -> None:
        shutil.rmtree(self.where / path)
        self._look()

    rmdir = rm

    def mkdir(self, path: str) -> None:
        (self.where / path).mkdir()
        self._look()

    # -- requests

    def reload(self, *words: str) -> str:
        request = pb.ReloadConfigRequest()
        request.config.model_config_list.SetInParent()
        for word in words:
            left, right = word.split("=")
            model, _, label = left.partition(".")
            if label:
                request.config.model_config_list.config[-1].version_labels[label] = int(right)
            else:
                self._add(request.config.model_config_list, model, *right.split(":"))
        if words:
            self._add(request.config.model_config_list, "marker", "latest", "1")
        paths = {Path(m.base_path).name for m in request.config.model_config_list.config}
        self._paths |= paths
        code = self._call(methods.HANDLE_RELOAD_CONFIG_REQUEST, request, pb.ReloadConfigResponse)[0]
        if code == "OK" and not self._waiting:
            self._paths = paths
        return code

    def _add(self, models: config_pb2.ModelConfigList, name: str, policy: str, *more: str) -> None:
        """more: the policy's number(s), then the directory if it isn't the model's own."""
        numbers = more[0] if more and more[0][:1].isdigit() else ""
        directory = more[-1] if more and not more[-1][:1].isdigit() else name
        model = models.config.add(name=self._name(name), base_path=str(self.where / directory),
                                  model_platform="tensorflow")
        if policy == "all":
            model.model_version_policy.all.SetInParent()
        elif policy == "latest":
            model.model_version_policy.latest.num_versions = int(numbers)
        else:
            model.model_version_policy.specific.versions.extend(map(int, numbers.split(",")))

    def begin(self, *words: str) -> None:
        self._waiting.append(self._threads.submit(self.reload, *words[1:]))
        self._look()

    def end(self) -> str:
        return self._waiting.pop(0).result(LONGEST)

    def states(self, model: str, expected: str) -> str:
        """Waits for the expected states; what else the last change of files led to is done by then."""
        poll(lambda: self._states(model) == expected or None, Deadline(LONGEST), first=0.001, most=0.05)
        return self._states(model)

    def _states(self, model: str) -> str:
        request = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name=self._name(model)))
        reply = self._call(methods.GET_MODEL_STATUS, request, pb.GetModelStatusResponse)[1]
        assert isinstance(reply, pb.GetModelStatusResponse)
        return " ".join(f"{s.version}:{VersionState(s.state).name}" for s in reply.model_version_status)

    def ask(self, what: str) -> str:
        """Metadata tells which version answers, without a word about inputs."""
        model, _, label = what.partition("@")
        model, _, version = model.partition("/")
        request = pb.GetModelMetadataRequest(model_spec=pb.ModelSpec(name=self._name(model)),
                                             metadata_field=["signature_def"])
        if version:
            request.model_spec.version.value = int(version)
        if label:
            request.model_spec.version_label = label
        code, reply = self._call(methods.GET_MODEL_METADATA, request, pb.GetModelMetadataResponse)
        return str(reply.model_spec.version.value) if isinstance(reply, pb.GetModelMetadataResponse) else code

    def _name(self, model: str) -> str:
        return f"{self.where.name}.{model}"

    def _call(self, method: str, request: object, reply: type) -> tuple[str, object]:
        call = self._channel.unary_unary(method, lambda m: m.SerializeToString(), reply.FromString)
        try:
            return "OK", call(request, timeout=LONGEST)
        except grpc.RpcError as error:
            return error.code().name, None


class InProcess:
    """The echo server: looks when it is told to."""

    source: Path | None = None

    def __init__(self, flag: bool) -> None:
        options = Options(max_num_load_retries=0, file_system_poll_wait_seconds=3600,
                          allow_version_labels_for_unavailable_models=flag)
        self._server = ModelServer(options, EchoLoader(), free_ports=True)
        config = config_pb2.ModelServerConfig()
        config.model_config_list.SetInParent()
        self._server.load(config)
        self._server.listen()
        assert self._server.grpc is not None
        self.port = self._server.grpc.ports[0]

    def look(self) -> None:
        self._server.poller.poll_once()

    def look_in_vain(self) -> None:
        """It knows of a base path that is missing, and has looked."""
        poller = self._server.poller
        assert poll(lambda: any(not Path(m.base_path).exists() for m in poller._models.values()) or None,
                    Deadline(LONGEST), first=0.001)
        poller.poll_once()

    def stop(self) -> None:
        self._server.stop()


class Process:
    """The server with the engine: looks every second."""

    def __init__(self, flag: bool, where: Path, source: Path) -> None:
        self.source: Path | None = source
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = int(found.getsockname()[1])
        where.mkdir()
        config, self._log = where / "models.config", where / "log"
        config.write_text("model_config_list {}")
        argv = [sys.executable, "-m", "deploy.modelserver", f"--port={self.port}", f"--model_config_file={config}",
                "--max_num_load_retries=0", f"--allow_version_labels_for_unavailable_models={str(flag).lower()}"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(argv, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        assert poll(self._open, Deadline(LONGEST)), self._log.read_text()

    def _open(self) -> bool | None:
        assert self._process.poll() is None, self._log.read_text()
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return None

    def look(self) -> None:
        """It does so by itself."""

    def look_in_vain(self) -> None:
        """It has looked twice, and told that there was a path missing."""
        seen = self._complaints()
        assert poll(lambda: self._complaints() >= seen + 2 or None, Deadline(LONGEST))

    def _complaints(self) -> int:
        return self._log.read_text().count("encountered a filesystem access error")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


KINDS = ["echo", pytest.param("engine", marks=pytest.mark.tensorflow)]


@pytest.fixture(scope="module", params=KINDS)
def make(request: pytest.FixtureRequest,
         tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], InProcess | Process]:
    if request.param == "echo":
        return InProcess
    source = request.getfixturevalue("models") / "half_plus_two"
    return lambda flag: Process(flag, tmp_path_factory.mktemp("server") / "run", source)


@pytest.fixture(scope="module")
def shared(make: Callable[[bool], InProcess | Process]) -> Iterator[Callable[[bool], InProcess | Process]]:
    """One server for all scenarios, with and without the flag for labels."""
    made: dict[bool, InProcess | Process] = {}

    def get(flag: bool) -> InProcess | Process:
        if flag not in made:
            made[flag] = make(flag)
        return made[flag]

    yield get
    for server in made.values():
        server.stop()


def carry_out(steps: Steps, server: InProcess | Process, where: Path) -> None:
    driver = Driver(where, server)
    try:
        driver.run(steps)
    finally:
        driver.close()


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenarios(name: str, shared: Callable[[bool], InProcess | Process], tmp_path: Path) -> None:
    carry_out(SCENARIOS[name], shared(False), tmp_path)


@pytest.mark.parametrize("name", WITH_FLAG)
def test_scenarios_with_the_flag_for_labels(name: str, shared: Callable[[bool], InProcess | Process],
                                            tmp_path: Path) -> None:
    carry_out(WITH_FLAG[name], shared(True), tmp_path)


@pytest.mark.parametrize("name", ALONE)
def test_scenarios_that_hold_up_others(name: str, make: Callable[[bool], InProcess | Process], tmp_path: Path) -> None:
    server = make(False)
    try:
        carry_out(ALONE[name], server, tmp_path)
    finally:
        server.stop()

"""What `tfs status` tells of a server that isn't as it should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy import serving
from deploy.errors import Malformed, Rejected, Unreachable
from deploy.serving import observe as looking
from deploy.serving import planning
from deploy.spec import Spec
from deploy.types import Endpoint, ServedModel, VersionState, VersionStatus
from tests.support.serving import FakeControl, FakeServer, available, spec_at

TEXT = "models: [{name: m, versions: latest, labels: {stable: 2}}]"


class Described(FakeServer):
    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "running": self.alive(), "returncode": self.code}


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    (tmp_path / "models/m/2").mkdir(parents=True)
    return spec_at(tmp_path, TEXT, grpc_port=8500, rest_port=8501)


def status(spec: Spec, control: FakeControl, monkeypatch: pytest.MonkeyPatch, **server: Any) -> dict[str, Any]:
    labels = {planning.CONFIG_LABEL: planning.digest(spec)}
    found = Described(endpoint=Endpoint(), **{"labels": labels, **server})
    monkeypatch.setattr(looking.backends, "find", lambda *_: found)
    return serving.status(spec, connect=lambda _: {"gRPC": control}).to_json()


def control(statuses: Any, stable: Any = 2) -> FakeControl:
    return FakeControl({"m": [statuses]}, {"m@stable": stable})


def test_all_is_well(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    history = VersionStatus(1, VersionState.END, 3, "broken, but long gone")
    told = status(spec, control([*available(2), history]), monkeypatch)
    assert told["ready"] and told["problems"] == [] and not told["changed"]
    assert told["models"][0]["versions"][1] == {"version": 1, "state": "END", "error": "broken, but long gone"}


@pytest.mark.parametrize(("answers", "problem"), [
    (control(available(1)), "m serves 1, wanted 2"),
    (control([VersionStatus(2, VersionState.END, 5, "no such op")]), "m/2 can't be loaded: no such op"),
    (control(available(2), stable=1), "m@stable resolves to 1, wanted 2"),
    (control(available(2), stable=Rejected("unknown", code="INVALID_ARGUMENT")),
     "m@stable resolves to nothing, wanted 2"),
    (control(Unreachable("nobody answers"), stable=2), "gRPC doesn't answer (nobody answers)"),
])
def test_each_problem_is_a_sentence(spec: Spec, monkeypatch: pytest.MonkeyPatch, answers: FakeControl, problem: str
                                    ) -> None:
    told = status(spec, answers, monkeypatch)
    assert not told["ready"] and problem in told["problems"]


def test_what_makes_ready_say_no_makes_status_say_so(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(model: ServedModel, version: int, *, tflite: bool) -> None:
        raise Malformed(f"{model.name}/{version}: damaged golden answers, {tflite}")

    monkeypatch.setattr(looking, "golden_of", damaged)
    told = status(spec, control(available(2)), monkeypatch)
    assert not told["ready"] and told["problems"] == ["m/2: damaged golden answers, False"]


def test_a_port_that_is_gone(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    told = status(spec, control(available(2)), monkeypatch, open=frozenset({8500}))
    assert told["problems"] == ["REST port 8501 isn't open"]


def test_a_spec_that_changed_since_the_start(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    assert status(spec, control(available(2)), monkeypatch, labels={})["changed"]


def test_a_server_that_ended(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    told = status(spec, control([]), monkeypatch, code=137)
    assert told["problems"] == ["serving ended with exit code 137"] and told["models"][0]["served"] == []

"""`deploy` as one namespace: what it says of a server that nobody started, as values."""

from __future__ import annotations

from pathlib import Path

import deploy


def spec(tmp_path: Path) -> deploy.Spec:
    path = tmp_path / "serving.yaml"
    path.write_text("models: [{name: m, versions: [1]}]\nserver: {backend: embedded, grpc_port: 0, rest_port: 0}\n")
    return deploy.load_spec(path)


def test_a_server_that_nobody_started_isnt_ready(tmp_path: Path) -> None:
    answer = deploy.ready(spec(tmp_path))
    assert isinstance(answer, deploy.ReadyAnswer)
    assert not answer.ready and "isn't running" in answer.why


def test_a_diagnosis_is_a_value(tmp_path: Path) -> None:
    diagnosis = deploy.diagnose(spec(tmp_path))
    assert isinstance(diagnosis, deploy.Diagnosis)
    assert not diagnosis.well and isinstance(diagnosis.most_likely, deploy.Cause)


def test_the_status_is_a_value_and_there_is_no_history(tmp_path: Path) -> None:
    status = deploy.status(spec(tmp_path))
    assert isinstance(status, deploy.ServerStatus)
    assert [m.name for m in status.models] == ["m"]
    assert deploy.history(spec(tmp_path)) == []

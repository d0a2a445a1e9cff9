"""When a server counts as ready, as a table; and what is told when it doesn't get there."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.errors import NotReady, Rejected, StartFailed, TimedOut, Unreachable
from deploy.readiness import Desired
from deploy.serving import startup
from deploy.serving.resolving import ResolvedModel
from deploy.serving.snapshot import look
from deploy.state import Release
from deploy.types import Contract, Serving, Signature, TensorSpec, VersionState, VersionStatus
from deploy.waiting import Deadline, poll
from tests.support.serving import AVAILABLE, END, LOADING, FakeClock, FakeControl, FakeServer, available

M = ResolvedModel("m", {1: Path("/m/1"), 2: Path("/m/2")}, {"stable": 1})
CLOSED = Unreachable("nobody answers")


def control(*answers: object, stable: object = 1) -> FakeControl:
    return FakeControl({"m": list(answers)}, {"m@stable": stable})  # type: ignore[arg-type,dict-item]


def wait(server: FakeServer, grpc: FakeControl, rest: FakeControl | None = None, seconds: float = 10) -> list[str]:
    told: list[str] = []
    controls = {"REST": rest or control(available(1, 2)), "gRPC": grpc}
    startup.wait(server, controls, [M], Deadline(seconds, FakeClock()), told.append)  # type: ignore[arg-type]
    return told


def test_ready_at_once() -> None:
    assert wait(FakeServer(), control(available(1, 2))) == []


def test_a_step_of_an_open_release_is_ready() -> None:
    before = Serving(frozenset({1, 2}), {"stable": 1})
    release = Release("r1", "m", "rollout", 3, before, Serving(frozenset({3}), {"stable": 3}), {}, "2026-01-01")
    controls = {protocol: control(available(1, 2, 3)) for protocol in ("REST", "gRPC")}
    startup.wait(FakeServer(), controls, [M], Deadline(10, FakeClock()), changes={"m": release})  # type: ignore[arg-type]
    with pytest.raises(NotReady):
        startup.wait(FakeServer(), controls, [M], Deadline(10, FakeClock()))  # type: ignore[arg-type]


def test_a_server_that_does_not_answer_is_asked_once() -> None:
    closed = control(CLOSED)
    seen = look({"REST": closed, "gRPC": control(available(1))}, [Desired("m"), Desired("n")])
    assert [len(snapshots) for snapshots in seen.values()] == [1, 0] and not seen["m"][0].answered


def test_history_of_unloaded_versions_is_no_failure() -> None:
    history = [VersionStatus(9, END), VersionStatus(8, END, 3, "broken, but not wanted")]
    assert wait(FakeServer(), control([*available(2, 1), *history])) == []


def test_progress_tells_each_reason_once() -> None:
    loading = [VersionStatus(1, AVAILABLE), VersionStatus(2, LOADING)]
    told = wait(FakeServer(), control(CLOSED, CLOSED, loading, loading, available(1, 2)))
    assert told == ["waiting: gRPC doesn't answer", "waiting: m serves 1 over gRPC, wanted 1, 2"]


@pytest.mark.parametrize(("server", "grpc", "rest", "reason"), [
    (FakeServer(open=frozenset({8500})), control(available(1, 2)), None, "REST port 8501 isn't open"),
    (FakeServer(open=frozenset()), control(available(1, 2)), None, "gRPC port 8500 isn't open, REST port 8501"),
    (FakeServer(), control(CLOSED), None, "gRPC doesn't answer (nobody answers)"),
    (FakeServer(), control(available(1, 2)), control(TimedOut("too slow")), "REST doesn't answer (too slow)"),
    (FakeServer(), control(available(1, 2)), control(available(1)), "serves 1 over REST, wanted 1, 2"),
    (FakeServer(), control(Rejected("no such model", code="NOT_FOUND")), None,
     "m serves nothing over gRPC, wanted 1, 2 (no such model)"),
    (FakeServer(), control(available(1, 2, 3)), None, "serves 1, 2, 3 over gRPC, wanted 1, 2"),
    (FakeServer(), control([]), None, "serves nothing over gRPC"),
    (FakeServer(), control(available(1, 2), stable=2), None, "m@stable resolves to 2 over gRPC, wanted 1"),
    (FakeServer(), control(available(1, 2), stable=Rejected("unknown label", code="INVALID_ARGUMENT")), None,
     "m@stable resolves to nothing over gRPC, wanted 1"),
    (FakeServer(), control(available(1, 2), stable=Rejected("busy", code="RESOURCE_EXHAUSTED")), None,
     "m@stable can't be asked for over gRPC: busy"),
])
def test_at_the_deadline_the_reason_is_told(server: FakeServer, grpc: FakeControl, rest: FakeControl | None,
                                            reason: str) -> None:
    with pytest.raises(NotReady) as e:
        wait(server, grpc, rest)
    assert reason in e.value.message and "after 10 s" in e.value.message
    assert e.value.argv == server.argv and e.value.details["mounts"]


def test_a_wanted_version_that_fails_ends_the_wait_early() -> None:
    broken = [*available(1), VersionStatus(2, VersionState.END, 5, "Could not find meta graph")]
    with pytest.raises(NotReady) as e:
        wait(FakeServer(said="log line"), control(available(1), broken), seconds=1e9)
    assert e.value.message == "m/2 can't be loaded over gRPC: Could not find meta graph"
    assert e.value.logs == "log line"
    assert e.value.details["statuses"] == [{"version": 1, "state": "AVAILABLE", "error": ""},
                                           {"version": 2, "state": "END", "error": "Could not find meta graph"}]


@pytest.mark.parametrize(("code", "hint"), [
    (255, ""), (137, "memory"), (-9, "memory"), (-11, "SIGSEGV"), (139, "SIGSEGV")])
def test_a_server_that_ends_is_reported_with_its_last_words(code: int, hint: str) -> None:
    with pytest.raises(StartFailed) as e:
        wait(FakeServer(code=code, said="first\nFailed to start server. Error: x\n\n"), control(CLOSED), seconds=1e9)
    assert e.value.message == (f"fake ended with exit code {code} while starting; "
                               "its last words: Failed to start server. Error: x")
    assert e.value.returncode == code and hint in e.value.hint and bool(hint) == bool(e.value.hint)


CAN = Contract((Signature("serving_default", (TensorSpec("x", "float32", (None,)),), ()),))
UNREGISTERED = Rejected("refused: Op type not registered 'X'", code="NOT_FOUND",
                        details={"server": "Op type not registered 'X'"})


def asked(answer: object, **server: object) -> tuple[FakeControl, list[str]]:
    grpc, told = control(available(1, 2)), list[str]()
    grpc.contract, grpc.answer = CAN, answer  # type: ignore[assignment]
    startup.wait(FakeServer(**server), {"REST": control(available(1, 2)), "gRPC": grpc}, [M],  # type: ignore[arg-type,dict-item]
                   Deadline(10, FakeClock()), told.append)
    return grpc, told


def test_each_version_is_asked_over_grpc() -> None:
    assert asked(None)[0].asked == ["m/1:serving_default", "m/2:serving_default"]


def test_a_version_that_is_available_and_cannot_answer_is_not_ready() -> None:
    with pytest.raises(NotReady) as e:
        asked(UNREGISTERED)
    assert e.value.message == ("m/1 is AVAILABLE, but can't answer (signature 'serving_default'): "
                               "Op type not registered 'X'")
    assert e.value.argv and "tfs check" in e.value.hint


def test_a_refused_made_up_request_and_a_slow_answer_are_no_reason() -> None:
    refusal = Rejected("refused", code="INVALID_ARGUMENT", details={"server": "not a JPEG"})
    assert asked(refusal)[1] == [f"m/{v} refuses a generated request for signature 'serving_default', as a model may: "
                                 "not a JPEG" for v in (1, 2)]
    assert asked(TimedOut("slow"))[1] == []


class Noisy:
    """Gets a signal just when it is destroyed."""

    def __init__(self, number: signal.Signals) -> None:
        self._number = number

    def __del__(self) -> None:
        signal.raise_signal(self._number)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_that_came_while_an_object_was_destroyed_ends_the_wait(number: signal.Signals) -> None:
    def probe() -> None:
        Noisy(number)  # what its handler raises in there is dropped

    before = {each: signal.signal(each, signal.default_int_handler) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(KeyboardInterrupt):
            poll(probe, Deadline(10, FakeClock()))
        assert signal.getsignal(number) is signal.default_int_handler
        with pytest.raises(KeyboardInterrupt):  # and what comes as ever does as ever
            poll(lambda: signal.raise_signal(number), Deadline(10, FakeClock()))
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_a_wait_in_another_thread_leaves_signals_alone() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(poll, lambda: signal.getsignal(signal.SIGINT), Deadline(1)).result() \
            is signal.getsignal(signal.SIGINT)

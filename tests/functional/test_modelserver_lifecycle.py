"""Errors that nobody expected, in threads that nobody waits for: they are logged, and a version has an end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from deploy.modelserver.catalog import Action
from deploy.modelserver.echo import ANY, EchoModel, signature_defs
from deploy.modelserver.lifecycle import Lifecycle
from deploy.modelserver.loader import Model
from deploy.types import VersionState
from deploy.wire import model_pb2


class Closed(EchoModel):
    """Tells whether it was freed."""

    closed = False

    def close(self) -> None:
        self.closed = True


class Odd(Closed):
    """A model whose signatures can't be had."""

    @property
    def signatures(self) -> Mapping[str, model_pb2.SignatureDef]:  # type: ignore[override]
        raise ValueError("odd")

    @signatures.setter
    def signatures(self, value: object) -> None:
        pass


class Loader:
    """Version 1 can be had, version 2 is odd."""

    def __init__(self) -> None:
        self.made: dict[int, Closed] = {}

    def load(self, name: str, version: int, path: str) -> Model:
        self.made[version] = (Odd if version == 2 else Closed)(signature_defs(ANY))
        return self.made[version]


@contextmanager
def living(threads: int) -> Iterator[tuple[Lifecycle, Loader]]:
    loader = Loader()
    lifecycle = Lifecycle(loader, load_threads=threads, unload_threads=threads)
    try:
        yield lifecycle, loader
    finally:
        lifecycle.close()


def ended(lifecycle: Lifecycle, version: int) -> Callable[[], bool]:
    return lambda: any(s.version == version and s.state is VersionState.END for s in lifecycle._catalog.states("m"))


def available(lifecycle: Lifecycle, version: int) -> Callable[[], bool]:
    return lambda: any(s.version == version and s.state is VersionState.AVAILABLE
                       for s in lifecycle._catalog.states("m"))


@pytest.mark.parametrize("threads", [0, 2])
def test_a_load_that_fails_unforeseen_has_an_end(threads: int, caplog: pytest.LogCaptureFixture) -> None:
    with living(threads) as (lifecycle, loader), caplog.at_level(logging.ERROR, "modelserver"):
        lifecycle.aspire("m", {2: "/m/2"})
        assert lifecycle.wait(ended(lifecycle, 2), 10)
        (status,) = lifecycle.states("m")
        assert (status.error_code, status.error) == (13, "ValueError: odd")
        assert loader.made[2].closed
        assert "m" in caplog.text and "could not be loaded" in caplog.text and "ValueError: odd" in caplog.text
        lifecycle.aspire("m", {1: "/m/1"})
        assert lifecycle.wait(available(lifecycle, 1), 10)


@pytest.mark.parametrize("threads", [0, 2])
def test_an_unload_that_fails_unforeseen_is_logged(threads: int, caplog: pytest.LogCaptureFixture) -> None:
    with living(threads) as (lifecycle, loader), caplog.at_level(logging.ERROR, "modelserver"):
        lifecycle.aspire("m", {1: "/m/1"})
        assert lifecycle.wait(available(lifecycle, 1), 10)

        def broken() -> None:
            raise OSError("odd")

        loader.made[1].close = broken  # type: ignore[method-assign]
        lifecycle.aspire("m", {})
        assert lifecycle.wait(ended(lifecycle, 1), 10)
        assert "could not be freed" in caplog.text


def test_a_decision_that_fails_isnt_the_last(caplog: pytest.LogCaptureFixture) -> None:
    with living(0) as (lifecycle, _), caplog.at_level(logging.ERROR, "modelserver"):
        decide, failures = lifecycle._catalog.next_action, iter([True])

        def clumsy() -> Action | None:
            if next(failures, False):
                raise KeyError("odd")
            return decide()

        lifecycle._catalog.next_action = clumsy  # type: ignore[method-assign]
        lifecycle.aspire("m", {1: "/m/1"})
        assert lifecycle.wait(available(lifecycle, 1), 10)
        assert "could not act" in caplog.text


def test_threads_that_cant_be_had_end_the_load(caplog: pytest.LogCaptureFixture) -> None:
    with living(1) as (lifecycle, _), caplog.at_level(logging.ERROR, "modelserver"):
        pool: Any = lifecycle._loads
        pool.shutdown()
        lifecycle.aspire("m", {1: "/m/1"})
        assert lifecycle.wait(ended(lifecycle, 1), 10)
        assert "could not act" in caplog.text

"""Servers that tests need: of a spec, a repository, a SavedModel or a model object, on free ports of this machine."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import msgspec

from deploy import backends, client, serving, smoke
from deploy.client import Client
from deploy.errors import DeployError, SpecError
from deploy.smoke import CheckId, Settings, SmokeReport
from deploy.spec import BackendKind, ServerPart, SmokePart, Spec
from deploy.testing.runs import TestRun, once_free
from deploy.testing.sources import as_spec
from deploy.types import Endpoint
from deploy.waiting import Deadline

_LONGEST = 32  # letters of a spec's name that are kept; a container's name has to stay readable
_TAIL = 30  # lines of a log that a failure shows
_numbers = itertools.count(1)


class ServerUnderTest:
    """A running server, and what it should serve.

    spec: what it was started from. backend: where it runs; empty for one that somebody else started.
    """

    def __init__(self, spec: Spec, connect: Callable[[], Client], endpoint: Endpoint | None = None, backend: str = ""
                 ) -> None:
        self.spec, self.backend, self._connect, self._endpoint = spec, backend, connect, endpoint

    @property
    def endpoint(self) -> Endpoint:
        """Host and ports. Raises SpecError for a server that somebody else started: only `client` can reach that."""
        if self._endpoint is None:
            raise SpecError("the server was given by its addresses, so its ports aren't known", hint="use its client")
        return self._endpoint

    @cached_property
    def client(self) -> Client:
        """Numpy arrays in and out, over gRPC where it is offered; client.rest for REST. Closed with the server."""
        return self._connect()

    @property
    def models(self) -> dict[str, list[int]]:
        """The versions of each model that are served now."""
        return {model.name: sorted(status.version for status in self.client.status(model.name) if status.serving)
                for model in self.spec.models}

    @property
    def settings(self) -> Settings:
        """How smoke checks ask it."""
        return replace(smoke.settings_of(self.spec), repeats=0)

    def smoke_test(self, only: Collection[CheckId] | None = None) -> SmokeReport:
        """Everything that `tfs smoke` asks, or some of it."""
        return smoke.smoke_test(self.client, self.spec.models, smoke.source_of(self.spec), self.settings, only=only)

    def logs(self, tail: int = _TAIL) -> str:
        """The last lines that the server printed; empty if they can't be seen."""
        if not self.backend:
            return ""
        with suppress(DeployError):
            return serving.logs(self.spec, tail)
        return ""

    def stop(self) -> None:
        """End a server that was started here; running requests aren't waited for. Done twice is no error."""
        self.close()
        if self.backend and backends.BACKENDS[self.backend].capabilities.starts:
            serving.down(self.spec)

    def close(self) -> None:
        """Let go of the connections; the server runs on."""
        if (opened := self.__dict__.pop("client", None)) is not None:
            opened.close()

    def __repr__(self) -> str:
        return f"ServerUnderTest({self.spec.name!r}, {self.client.endpoint})"


def start(run: TestRun, source: object, *, shared: bool = False, backend: BackendKind | None = None,
          image: str | None = None, name: str = "", labels: Mapping[str, Mapping[str, int]] | None = None
          ) -> ServerUnderTest:
    """Start a server within a run, on free ports; returns when it serves all that it should.

    source, name, labels: as for sources.as_spec. backend, image: instead of the spec's.
    shared: every process of the run that asks for the same spec gets the same server.
    Raises what `up`, `load_spec` and `export_model` raise.
    """
    number = f"{os.getpid()}-{next(_numbers)}"
    spec = as_spec(source, run.directory / number, name=name, labels=labels)
    choice = {key: value for key, value in (("backend", backend), ("image", image)) if value}
    key = hashlib.sha256(repr((str(spec.path), sorted(choice.items()))).encode()).hexdigest()[:6] if shared else number
    spec = _adapted(spec, run, key, choice)
    backends.find(spec)  # an engine that doesn't answer has nothing to be ended, and couldn't be asked to
    if backends.preferred(spec).capabilities.starts:
        run.remember(spec)
    # Another worker may be starting the same server: then there are two waits
    running = once_free(partial(serving.up, spec), Deadline(spec.server.start_timeout))
    return ServerUnderTest(spec, partial(client.connect, running.endpoint, timeout=spec.smoke.timeout),
                           running.endpoint, running.backend)


def why_not(backend: BackendKind) -> str:
    """Why servers can't run on a backend here; empty if they can."""
    spec = Spec(name="tests", path=Path("serving.yaml").absolute(), repository=Path("models").absolute(), models=(),
                server=ServerPart(backend=backend), smoke=SmokePart())
    try:
        here = backends.preferred(spec).surroundings(spec)
    except DeployError as error:
        return error.message
    return here.engine_error or here.program_error


def _adapted(spec: Spec, run: TestRun, key: str, choice: Mapping[str, str]) -> Spec:
    """The spec with free ports, its state in the run, and a name that no other run has."""
    server: ServerPart = msgspec.structs.replace(spec.server, grpc_port=_free(spec.server.grpc_port), restart="no",
                                                 rest_port=_free(spec.server.rest_port), drain=0, **choice)
    spec = msgspec.structs.replace(spec, server=server, state=run.directory,
                                   name=f"{spec.name[:_LONGEST]}-{run.id[:8]}-{key}")
    chosen = serving.choose_backend(spec).backend.name  # whoever ends the run has to know where to look
    return msgspec.structs.replace(spec, server=msgspec.structs.replace(server, backend=chosen))


def _free(port: int | None) -> int | None:
    return None if port is None else 0


@contextmanager
def start_server(source: object, *, backend: BackendKind | None = None, image: str | None = None, name: str = "",
                 labels: Mapping[str, Mapping[str, int]] | None = None) -> Iterator[ServerUnderTest]:
    """A server until the block ends, or this process does, however it ends.

        with start_server("models") as server:
            assert server.client.predict("ranking", {"x": x})["scores"].shape == (2,)

    source: a serving.yaml, a repository, the directory of a model's versions, a SavedModel or model file, what
        `export_model` takes, or a mapping of names to models. backend: as in serving.yaml; by default what `tfs up`
        would take. name: of a single model; labels: model -> label -> version.
    Raises what `up`, `load_spec` and `export_model` raise.
    """
    run = TestRun.begin()
    try:
        server = start(run, source, backend=backend, image=image, name=name, labels=labels)
        try:
            yield server
        finally:
            server.close()
    finally:
        run.end()

"""What both protocols' clients share: refs, deadlines, the kept signatures, where an error happened."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from deploy.client.contracts import Contracts
from deploy.client.failures import CallSite
from deploy.client.headers import Given, Headers
from deploy.client.interfaces import Metadata
from deploy.errors import BadReply, BadRequest, SpecError
from deploy.types import ModelRef, ModelVersion
from deploy.waiting import Deadline

T = TypeVar("T")
C = TypeVar("C", bound="Base")

NO_MODEL = ModelRef("")
"""Stands in calls that aren't about a model."""


def as_ref(ref: ModelRef | str) -> ModelRef:
    """`mnist`, `mnist/3`, `mnist@stable` as a ModelRef. Raises SpecError."""
    return ModelRef.parse(ref) if isinstance(ref, str) else ref


class Base:
    """One endpoint, spoken to in one protocol."""

    def __init__(self, endpoint: str, timeout: float, metadata: Given, attempts: int) -> None:
        if not timeout > 0 or attempts < 1:
            raise SpecError(f"timeout {timeout!r} and attempts {attempts!r} have to be positive")
        self.endpoint, self._timeout, self._attempts = endpoint, timeout, attempts
        self._headers = metadata if isinstance(metadata, Headers) else Headers(metadata)
        self._contracts = Contracts(self._metadata)
        self._closed = False

    def metadata(self, ref: ModelRef | str, *, timeout: float | None = None) -> Metadata:
        """As Control says; always asks the server."""
        call, deadline = self._begin("metadata", ref, timeout)
        return self._contracts.refresh(call.ref, deadline)

    def resolve(self, ref: ModelRef | str, *, timeout: float | None = None) -> ModelVersion:
        """As Control says."""
        call, deadline = self._begin("metadata", ref, timeout)
        return ModelVersion(call.ref.name, self._contracts.refresh(call.ref, deadline).version)

    def close(self) -> None:
        """Let go of the connections. Done twice is no error; calls that come later raise BadRequest."""
        self._closed = True

    def __enter__(self: C) -> C:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.endpoint!r})"

    def _metadata(self, ref: ModelRef, deadline: Deadline) -> Metadata:
        raise NotImplementedError

    def _begin(self, verb: str, ref: ModelRef | str, timeout: float | None) -> tuple[CallSite, Deadline]:
        """What is about to be done, and its deadline."""
        ref = as_ref(ref)
        deadline = Deadline(self._timeout if timeout is None else timeout)
        call = self._call(verb, ref, deadline)
        if self._closed:
            raise call.bad_request("the client is closed")
        if deadline.seconds is not None and deadline.seconds <= 0:
            raise call.bad_request(f"a timeout of {timeout} s leaves no time")
        return call, deadline

    def _call(self, verb: str, ref: ModelRef, deadline: Deadline) -> CallSite:
        what = f"{verb} of {ref}" if ref is not NO_MODEL else verb
        return CallSite(what, self.endpoint, ref, deadline.seconds)

    def _located(self, read: Callable[[], T], call: CallSite) -> T:
        """What `read` makes of a request or reply; its errors get the endpoint and ref that it doesn't know."""
        try:
            return read()
        except (BadReply, BadRequest) as error:
            if not error.endpoint:
                error.endpoint, error.ref = call.endpoint, call.ref
                error.details.setdefault("call", f"{call.what} at {call.endpoint}")
            raise

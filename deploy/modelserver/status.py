"""The server's answers that aren't results: a google.rpc code and a text, as the real server words them."""

from __future__ import annotations

import enum


class Code(enum.IntEnum):
    """google.rpc.Code; the names are what error texts quote."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


HTTP_STATUS = {
    Code.OK: 200, Code.CANCELLED: 499, Code.UNKNOWN: 500, Code.INVALID_ARGUMENT: 400, Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404, Code.ALREADY_EXISTS: 409, Code.PERMISSION_DENIED: 403, Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400, Code.ABORTED: 409, Code.OUT_OF_RANGE: 400, Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500, Code.UNAVAILABLE: 503, Code.DATA_LOSS: 500, Code.UNAUTHENTICATED: 401,
}


class StatusError(Exception):
    """A request, a load or a start that fails with this code and text. Never leaves the room: it becomes an answer."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = as_code(code), message

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


class Fatal(Exception):
    """What the real server can't go on with: it ends with SIGABRT, and so do we."""


class NeverAnswered(Exception):
    """A request that the real server leaves without an answer, for good; so do we."""


def as_code(number: int) -> Code:
    """The code with this number; UNKNOWN for a number that isn't one."""
    return Code(number) if number in Code.__members__.values() else Code.UNKNOWN


def invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)


def not_found(message: str) -> StatusError:
    return StatusError(Code.NOT_FOUND, message)


def failed_precondition(message: str) -> StatusError:
    return StatusError(Code.FAILED_PRECONDITION, message)

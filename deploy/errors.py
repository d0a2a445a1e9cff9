"""The error tree. Each class is a decision, and knows the exit code of the command line.

    DeployError                     1
      SpecError                     2  fix the file or the argument
      ExportError                   3  fix the model or its signature
        ParityError                    what was saved answers differently
        CheckFailed                    `tfs check` refuses it: fix it, or allow it with a reason
        BreakingChange                 clients of the version before would be refused
      RepositoryError               4  fix the repository
        VersionExists                  publish another number
        VersionNotFound
        IncompleteVersion              not a whole SavedModel
        DigestMismatch                 bytes differ from the manifest
        Untrusted                      nobody whom you trust has signed it: have it signed, or don't serve it
        Malformed                      a file isn't what its name says: damaged, too big, or made to harm
      LockHeld                      5  another operation holds the lock
      ServerError                   6  fix the server's surroundings
        BackendMissing                 no engine, image or binary
        PortTaken
        StartFailed                    it ended (exit code, log tail)
        NotReady                       it runs, but not everything is served
        Gone                           it ended while in use
      ClientError                   7  a request failed
        Unreachable                    retry
        TimedOut                       retry
        Rejected                       the server's answer is no: don't retry
        BadReply                       the answer can't be read
        BadRequest                     never sent: doesn't fit the signature
      RolloutError                  8
      SmokeFailed                   9  what is served isn't right
      ReviewRequired               10  nothing is broken for certain: look, then decide

130 is Ctrl-C, as everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar


class DeployError(Exception):
    """Base of all errors that the toolkit raises on purpose.

    message: one sentence: what was expected, what was seen, where.
    hint: what to do about it.
    id: its name in `tfs explain ID` and docs/troubleshooting.md, which never changes: the class's own (`port-taken`
    of PortTaken), or a narrower one.
    details: evidence for people and for JSON (log tail, argv, expected, seen, ...).
    """

    exit_code: ClassVar[int] = 1
    id: str = "internal-error"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.id = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", cls.__name__).lower()

    def __init__(self, message: str, *, hint: str = "", id: str = "", details: Mapping[str, object] | None = None
                 ) -> None:
        super().__init__(message)
        self.message, self.hint, self.details = message, hint, dict(details or {})
        self.id = id or self.id

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def to_json(self) -> dict[str, object]:
        return {"error": type(self).__name__, "id": self.id, "message": self.message, "hint": self.hint,
                "exit_code": self.exit_code, "details": self.details}


class SpecError(DeployError):
    """A file or an argument is wrong. `path` says where: models/0/labels/stable."""

    exit_code = 2

    def __init__(self, message: str, *, path: str = "", hint: str = "", id: str = "",
                 details: Mapping[str, object] | None = None) -> None:
        super().__init__(f"{path}: {message}" if path else message, hint=hint, id=id, details=details)
        self.path = path


class ExportError(DeployError):
    """The model can't be exported, or not served once it is."""

    exit_code = 3


class ParityError(ExportError):
    """What was saved doesn't answer as the live object did."""


class BreakingChange(ExportError):
    """A version can't take the place of another: its clients would be refused, or misread the answers."""


class CheckFailed(ExportError):
    """A check refuses the model. details["findings"] says why, where, and what to do."""


class RepositoryError(DeployError):
    """A version in the repository, or the repository itself, isn't as it should be."""

    exit_code = 4


class VersionExists(RepositoryError):
    """Published versions never change."""


class VersionNotFound(RepositoryError):
    """No such model or version in the repository."""


class IncompleteVersion(RepositoryError):
    """Not a whole SavedModel: missing, empty, truncated, or without its variables."""


class Malformed(RepositoryError):
    """A file can't be read as what it should be: truncated, damaged, of another kind, or bigger than makes sense."""


class Untrusted(RepositoryError):
    """A version isn't signed, or not by anybody whom the caller trusts."""


class DigestMismatch(RepositoryError):
    """A file isn't what the manifest says."""


class LockHeld(DeployError):
    """Another operation holds the lock."""

    exit_code = 5

    def __init__(self, message: str, *, by: str, since: str, why: str = "", hint: str = "", id: str = ""
                 ) -> None:
        super().__init__(message, hint=hint, id=id, details={"by": by, "since": since, "why": why})
        self.by, self.since, self.why = by, since, why


class ServerError(DeployError):
    """A server can't be started, doesn't become ready, or is gone. Carries its command line and log tail."""

    exit_code = 6

    def __init__(self, message: str, *, argv: Sequence[str] = (), logs: str = "", returncode: int | None = None,
                 hint: str = "", id: str = "", details: Mapping[str, object] | None = None) -> None:
        evidence = {"argv": list(argv), "logs": logs, "returncode": returncode}
        super().__init__(message, hint=hint, id=id,
                         details={**{k: v for k, v in evidence.items() if v}, **(details or {})})
        self.argv, self.logs, self.returncode = tuple(argv), logs, returncode


class BackendMissing(ServerError):
    """There is no Docker engine, image or binary to run."""


class PortTaken(ServerError):
    """Another program listens on a port that the spec names."""


class StartFailed(ServerError):
    """The server ended while starting."""


class NotReady(ServerError):
    """The server runs, but doesn't serve what it should: deadline over, or a version failed."""


class Gone(ServerError):
    """The server ended while it was in use."""


class ClientError(DeployError):
    """A request failed. `endpoint` and `ref` say which one."""

    exit_code = 7

    def __init__(self, message: str, *, endpoint: str = "", ref: object = None, hint: str = "", id: str = "",
                 details: Mapping[str, object] | None = None) -> None:
        super().__init__(message, hint=hint, id=id, details=details)
        self.endpoint, self.ref = endpoint, ref


class Unreachable(ClientError):
    """No connection. Safe to try again."""


class TimedOut(ClientError):
    """No answer before the deadline. The server may still have done it."""


class Rejected(ClientError):
    """The server answered with an error. `code` is gRPC's name of it (NOT_FOUND), `status` HTTP's number."""

    def __init__(self, message: str, *, code: str, status: int | None = None, endpoint: str = "", ref: object = None,
                 hint: str = "", id: str = "", details: Mapping[str, object] | None = None) -> None:
        super().__init__(message, endpoint=endpoint, ref=ref, hint=hint, id=id,
                         details={"code": code, "status": status, **(details or {})})
        self.code, self.status = code, status


class BadReply(ClientError):
    """The server's answer isn't what the protocol says."""


class BadRequest(ClientError):
    """The request was never sent: it doesn't fit the signature or can't be encoded."""


class RolloutError(DeployError):
    """A release didn't end as it should."""

    exit_code = 8


class SmokeFailed(DeployError):
    """What is served isn't what was published."""

    exit_code = 9


class ReviewRequired(DeployError):
    """Something changed that may be meant or not. A person decides."""

    exit_code = 10

"""What the Docker engine and the way to it refuse, in our words: the one place where its errors become ours."""

from __future__ import annotations

import json
import re
import ssl
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from deploy.backends import docker_host
from deploy.errors import BackendMissing, PortTaken, ServerError

_START = "start it (Linux: `sudo systemctl start docker`; else Docker Desktop), or use backend: embedded"
_HELPER = re.compile(r"docker-credential-[\w.-]*\w")
_GROUP = "add yourself to the group `docker` and log in again, or use backend: embedded"
_NO_CLIENT = "takes clients only that show a certificate of its authority"
_CLOSED = f"closes the connection, as one does that {_NO_CLIENT}"
_TLS = "see server/docker_tls (or DOCKER_CERT_PATH): ca.pem, cert.pem and key.pem of this engine"
_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
_TAKEN = re.compile(r":(\d+)(?::| ).*(?:port is already allocated|address already in use)")
OLDEST = "1.25"  # of the engine's API: from there on a container can have an init process


@contextmanager
def translated(doing: str, where: str = "") -> Iterator[None]:
    """Turn whatever the SDK raises into a ServerError. `doing` completes "can't ..."; `where`: the engine's address.

    The SDK lets errors of requests (which are OSErrors), of urllib3 and of paramiko through.
    """
    import docker.errors
    import urllib3.exceptions

    paramiko = sys.modules.get("paramiko")
    ssh: tuple[type[Exception], ...] = (paramiko.SSHException,) if paramiko else ()
    foreign: tuple[type[BaseException], ...] = (
        *ssh, docker.errors.DockerException, docker.errors.StreamParseError, urllib3.exceptions.HTTPError,
        urllib3.exceptions.ProxySchemeUnsupported, OSError)
    try:
        with warnings.catch_warnings():  # the error that follows is told in our words
            warnings.filterwarnings("ignore", message="docker-credential-")
            yield
    except foreign as e:
        _translate(e, doing, where)


def _translate(error: BaseException, doing: str, where: str) -> NoReturn:
    import docker.errors
    from docker.credentials.errors import StoreError

    at = f" at {where}" if where else ""
    if isinstance(error, docker.errors.APIError) and not _speaks_tls(error):
        explanation = str(error.explanation or error)
        if _FULL.search(explanation):
            raise ServerError(f"can't {doing}: the disk of the Docker engine{at} is full", id="engine-disk-full",
                              hint="make room there: docker system df says what takes it") from error
        if taken := _TAKEN.search(explanation):
            raise PortTaken(f"can't {doing}: port {taken[1]} of the Docker engine's machine{at} is taken",
                            hint="stop what has it, or choose another port (0 takes any free one)",
                            details={"port": int(taken[1])}) from error
        raise ServerError(f"can't {doing}: the Docker engine says: {explanation}",
                          details={"status": error.status_code, "engine": where}, id="docker-refused") from error
    for e in _chain(error):
        if isinstance(e, StoreError):
            raise _helper_failed(e, doing) from error
        if why := _tls_refusal(e):
            raise BackendMissing(f"can't {doing}: the Docker engine{at} {why}", hint=_TLS, id="docker-tls") from error
        if isinstance(e, docker.errors.InvalidVersion):
            raise too_old(where) from error
    if any(isinstance(e, PermissionError) for e in _chain(error)):
        raise BackendMissing(f"can't {doing}: no permission to talk to the Docker engine{at}", hint=_GROUP,
                             id="docker-permission") from error
    if any(isinstance(e, ConnectionError | FileNotFoundError) for e in _chain(error)):
        raise BackendMissing(f"no Docker engine answers{at}", hint=_start(where), id="engine-missing") from error
    if type(error) is docker.errors.DockerException and (other := _of_another_service(error)):
        raise BackendMissing(f"what answers{at} is no Docker engine: asked for its version it says {other}",
                             hint="check the address, or use backend: embedded", id="engine-missing") from error
    if type(error) is docker.errors.DockerException:  # the SDK's word for "not even its version can be asked"
        raise BackendMissing(f"no Docker engine answers{at}: {_innermost(error)}", hint=_start(where),
                             id="engine-missing") from error
    raise ServerError(f"can't {doing}: {type(error).__name__}: {error}", details={"engine": where},
                      id="docker-refused") from error


def too_old(where: str, version: str = "") -> BackendMissing:
    """For an engine without what servers need."""
    import docker.constants

    seen = f"has version {version}" if version else f"is older than {docker.constants.MINIMUM_DOCKER_API_VERSION}"
    return BackendMissing(f"the Docker engine at {where} is too old: its API {seen}; at least {OLDEST} is needed",
                          hint="install Docker 1.13 or newer there, or use another backend", id="engine-too-old")


def _of_another_service(error: BaseException) -> str:
    """What something that isn't an engine says to a question of engines; empty if nothing answers."""
    import docker.errors

    for e in _chain(error):
        if isinstance(e, docker.errors.APIError):
            return f"status {e.status_code}"
        if isinstance(e, json.JSONDecodeError):
            return "something that is no JSON"
    return "nothing of it" if '"ApiVersion" is missing' in str(error) else ""


@contextmanager
def tls_expected(where: str) -> Iterator[None]:
    """The first words over TLS: an engine that closes the connection hasn't got the certificate that it wants."""
    try:
        yield
    except BackendMissing as error:
        if any(isinstance(e, ConnectionResetError | BrokenPipeError) for e in _chain(error)):
            raise BackendMissing(f"the Docker engine at {where} {_CLOSED}", hint=_TLS, id="docker-tls") from error
        raise


def _tls_refusal(error: BaseException) -> str:
    """What about TLS keeps us from talking to the engine, as the end of a sentence; empty if it is something else."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"has a certificate that can't be trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason = str(error.reason or error).replace("_", " ").lower()
        if "wrong version number" in reason or "http request" in reason or "record layer" in reason:
            return "doesn't speak TLS on that port"
        if "certificate required" in reason or "bad certificate" in reason or "unknown ca" in reason:
            return _NO_CLIENT
        if "eof" in reason.split():
            return _CLOSED
        return f"can't agree on TLS: {reason}"
    return "speaks TLS only, and none was asked for" if _speaks_tls(error) else ""


def _speaks_tls(error: BaseException) -> bool:
    return "HTTP request to an HTTPS server" in str(error)


def _helper_failed(error: BaseException, doing: str) -> BackendMissing:
    """The program of credsStore or credHelpers, which the CLI's configuration names, isn't there or fails."""
    name = _HELPER.search(str(error))
    helper = f"the credential helper {name[0]}" if name else "the credential helper"
    what = "isn't installed" if "not installed" in str(error) else f"fails: {error}"
    return BackendMissing(f"can't {doing}: {helper} {what}", details={"helper": f"{helper} {what}"},
                          hint=f"install it, or take credsStore and credHelpers out of "
                               f"{docker_host.config_dir() / 'config.json'}, or use backend: embedded",
                          id="docker-credentials")


def _start(where: str) -> str:
    """What to do about an engine that doesn't answer: somebody may have named the wrong one."""
    return f"is that the right address? {_START}" if "(from " in where else _START


def _innermost(error: BaseException) -> str:
    """The SDK wraps urllib3's errors, and those wrap the socket's: the last one says it best."""
    *_, last = _chain(error)
    if last is error:
        return str(error)
    return str(getattr(last, "strerror", None) or last).rpartition(": ")[2] or type(last).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, those behind it, and those that requests and urllib3 hide in arguments."""
    waiting, visited = [error], set[int]()
    while waiting:
        e = waiting.pop()
        if id(e) in visited:
            continue
        visited.add(id(e))
        yield e
        hidden = [a for a in (*e.args, getattr(e, "reason", None)) if isinstance(a, BaseException)]
        waiting.extend(x for x in (e.__cause__, e.__context__, *hidden) if x is not None)

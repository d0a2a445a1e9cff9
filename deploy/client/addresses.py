"""What an address may look like, and what is meant by one that isn't quite."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from deploy.errors import SpecError
from deploy.types import bracketed

_GRPC_PORT, _REST_PORT = 8500, 8501  # TensorFlow Serving's
_RESOLVED = re.compile(r"(dns|unix|unix-abstract|ipv4|ipv6|vsock):.+")  # gRPC's own forms of a target
_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%a-z]+\]|[^\s/:\[\]@,?#]+):(?P<port>[0-9]{1,5})", re.ASCII)


def is_url(text: str) -> bool:
    """Whether an address is one of REST's."""
    return text.lower().startswith(("http://", "https://"))


def grpc_target(text: str) -> str:
    """`host:port`, or another of gRPC's targets, as gRPC takes it. Raises SpecError."""
    if _RESOLVED.fullmatch(text):
        return text
    plain = text[len("grpc://"):] if text.lower().startswith("grpc://") else text
    plain = plain.rstrip("/") if plain.count("/") == 1 else plain  # a trailing slash
    found = _HOST_PORT.fullmatch(plain)
    if found and 0 < int(found["port"]) <= 65535 and "\\" not in plain:
        return f"{found['host']}:{int(found['port'])}"
    raise SpecError(f"expected host:port, got {text!r}: {_wrong_target(plain, found)}",
                    hint=f"for gRPC write host:{_GRPC_PORT}, for REST http://host:{_REST_PORT}")


def _wrong_target(text: str, found: re.Match[str] | None) -> str:
    ipv6 = _ipv6(text)
    reasons = (
        (found and "\\" not in text, f"ports are 1 to 65535, not {found['port'] if found else ''}"),
        (not text.strip(), "it is empty"),
        (len(text.split()) > 1 or text != text.strip(), "it has spaces in it"),
        (is_url(text), "that is a REST address"),
        ("://" in text, f"{text.partition('://')[0]}:// isn't spoken by TensorFlow Serving"),
        ("," in text, "one address at a time"),
        (ipv6, f"an IPv6 address stands in brackets, and the port behind them: {ipv6}"),
        ("/" in text, "it has a path, which only REST has"),
        (":" not in text.rstrip(":"), "it has no port"))
    return next((why for wrong, why in reasons if wrong), "that is no name of a host and no port")


def _ipv6(text: str) -> str:
    """How an IPv6 address, with a port or without one, is written; empty if it is none."""
    head, _, port = text.rpartition(":")
    for host, number in ((head, port), (text, str(_GRPC_PORT))):
        try:
            if number.isdecimal() and len(number) > 2:
                return f"{bracketed(str(ipaddress.IPv6Address(host.strip('[]'))))}:{number}"
        except ValueError:
            continue
    return ""


def rest_url(text: str) -> str:
    """A REST base URL. Raises SpecError."""
    if len(text.split()) > 1 or text != text.strip():
        raise _no_url(text, "it has spaces in it")
    if not is_url(text):
        raise _no_url(text, "it has no http:// in front")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as e:
        host = _ipv6(text.partition("://")[2].partition("/")[0])
        port_wrong = "ports are 1 to 65535" if "ort" in str(e) else str(e)
        raise _no_url(text, f"an IPv6 address stands in brackets: {host}" if host else port_wrong) from None
    if not parts.hostname:
        raise _no_url(text, "it names no host")
    if port == 0:
        raise _no_url(text, "port 0 is none to connect to")
    if parts.username or parts.password:
        raise _no_url(text.replace(parts.netloc, f"...@{parts.hostname}"), "credentials belong in metadata")
    if parts.query or parts.fragment:
        raise _no_url(text, "it has a query")
    path = parts.path.rstrip("/")
    if re.search(r"/v1(/.*)?$", path):
        raise _no_url(text, "the base URL ends before /v1")
    return text


def _no_url(text: str, why: str) -> SpecError:
    return SpecError(f"expected http://host:port, got {text!r}: {why}",
                     hint=f"for REST write http://host:{_REST_PORT}, for gRPC host:{_GRPC_PORT}")

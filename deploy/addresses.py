"""Where a repository is: a directory, or an address such as `s3://bucket/models`; where a server answers: `host:port`,
or a URL over REST. Parsed here and nowhere else."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from deploy.errors import SpecError
from deploy.types import bracketed

REMOTE = ("s3", "gs", "az", "ssh", "oci")  # what stores/addresses.py opens, beside directories and memory
EXAMPLES = "s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, ssh://user@host/path or oci://registry/name"

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(?=/|[A-Za-z0-9_.-]+$)")  # a single letter is a Windows drive
_ALIASES = {"gcs": "gs", "s3a": "s3", "s3n": "s3", "abfs": "az", "abfss": "az", "wasb": "az", "wasbs": "az",
            "azure": "az", "sftp": "ssh", "docker": "oci"}
_HOST = re.compile(r"(?:[A-Za-z0-9_.-]+@)?(?:[A-Za-z0-9_.-]+|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?")
_SEGMENT = re.compile(r"[A-Za-z0-9_.=+@~ -]+")
_GRPC_PORT, _REST_PORT = 8500, 8501  # TensorFlow Serving's
_RESOLVED = re.compile(r"(dns|unix|unix-abstract|ipv4|ipv6|vsock):.+")  # gRPC's own forms of a target
_THIS_MACHINE = ("", "localhost", "127.0.0.1", "::1", "0.0.0.0", "::")  # noqa: S104 -- compared only
_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%a-z]+\]|[^\s/:\[\]@,?#]+):(?P<port>[0-9]{1,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """A repository that is no directory of this machine. It never holds a secret.

    scheme: one of REMOTE, or `memory`. host: the bucket, the container, `user@host:port`, the registry.
    path: below it, segments joined by single slashes, without one at either end; "" for its root.
    """

    scheme: str
    host: str
    path: str = ""

    def __str__(self) -> str:
        if self.scheme == "memory":
            return f"memory:{self.host}"
        return f"{self.scheme}://{self.host}" + (f"/{self.path}" if self.path else "")

    @property
    def slug(self) -> str:
        """A file's name that no other address has, and that a person recognises."""
        text = str(self)
        plain = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:60]
        return f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @classmethod
    def parse(cls, text: str | Path, where: str | None = None) -> Address | None:
        """The address that a text means, None for a directory's path (`file:` ones among them, see `file_path`).

        where: the field that holds it, for messages. Raises SpecError for addresses that no store can have.
        """
        match = _SCHEME.match(text) if isinstance(text, str) else None
        if match is None or not isinstance(text, str) or match[1].lower() == "file":
            return None
        scheme = match[1].lower()
        if scheme == "memory":
            return cls(scheme, text[len(match[0]):].strip("/"))
        if scheme not in REMOTE:
            other = _ALIASES.get(scheme)
            hint = f"write {other}://" if other else f"copy it to a directory of this machine, or to {EXAMPLES}"
            raise SpecError(f"{_shown(text)!r}: a repository can't be at {scheme}://", path=where or "", hint=hint,
                            id="bad-address")
        if not text[len(match[0]):].startswith("//"):
            raise SpecError(f"{_shown(text)!r} isn't a whole address", path=where or "", hint=f"for example {EXAMPLES}",
                            id="bad-address")
        return cls._parsed(scheme, text, where or "")

    @classmethod
    def _parsed(cls, scheme: str, text: str, where: str) -> Address:
        try:
            parts = urlsplit(text)
            password = parts.password
        except ValueError as e:
            raise SpecError(f"{_shown(text)!r}: {e}", path=where, hint=f"for example {EXAMPLES}",
                            id="bad-address") from None
        if password is not None:
            raise SpecError(f"{_shown(text)!r} holds a password", path=where,
                            hint="take it out of the address; credentials come from the environment or a file",
                            id="bad-address")
        if parts.query or parts.fragment:
            raise SpecError(f"{_shown(text)!r}: an address of a repository has no '?' and no '#'", path=where,
                            hint="options and credentials come from the environment", id="bad-address")
        if not _HOST.fullmatch(parts.netloc):
            raise SpecError(f"{_shown(text)!r} names no {_HOSTS[scheme]}", path=where, hint=f"for example {EXAMPLES}",
                            id="bad-address")
        segments = [segment for segment in parts.path.split("/") if segment]
        for segment in segments:
            if segment in (".", "..") or not _SEGMENT.fullmatch(segment):
                raise SpecError(f"{_shown(text)!r}: {segment!r} can't be part of an address", path=where,
                                hint="use letters, digits, '_', '-', '.' between the slashes", id="bad-address")
        return cls(scheme, parts.netloc, "/".join(segments))


_HOSTS = {"s3": "bucket", "gs": "bucket", "az": "container", "ssh": "host", "oci": "registry"}


def is_address(text: str) -> bool:
    """Whether a text that should be a path is an address of a store: of one that is known here, or of any other."""
    scheme = text.partition(":")[0].lower()
    return _SCHEME.match(text) is not None and scheme != "file" and (
        "://" in text or scheme in (*REMOTE, *_ALIASES, "memory"))


def file_path(text: str) -> str:
    """The path in a `file:` URL; any other text as it is. Raises SpecError for one of another host."""
    if text[:5].lower() != "file:":
        return text
    rest = text[5:]
    if rest.startswith("//"):
        host, slash, rest = rest[2:].partition("/")
        if host not in ("", "localhost") or not slash:
            raise SpecError(f"{text!r} names another host, {host!r}", hint="a file's address is file:///path",
                            id="bad-address")
        rest = f"/{rest}"
    return unquote(rest)


def _shown(text: str) -> str:
    """The text without what may be a secret."""
    return re.sub(r"(?<=://)([^/@]*?):[^/]*@", r"\1:***@", text).partition("?")[0][:300]


# -- a server's addresses

def is_url(text: str) -> bool:
    """Whether an address is one of REST's."""
    return text.lower().startswith(("http://", "https://"))


def grpc_target(text: str) -> str:
    """`host:port`, or another of gRPC's targets, as gRPC takes it. Raises SpecError."""
    if _RESOLVED.fullmatch(text):
        return text
    plain = text[len("grpc://"):] if text.lower().startswith("grpc://") else text
    plain = plain.rstrip("/") if plain.count("/") == 1 else plain  # a trailing slash
    match = _HOST_PORT.fullmatch(plain)
    if match and 0 < int(match["port"]) <= 65535 and "\\" not in plain:
        return f"{match['host']}:{int(match['port'])}"
    raise SpecError(f"expected host:port, got {text!r}: {_wrong_target(plain, match)}",
                    hint=f"for gRPC write host:{_GRPC_PORT}, for REST http://host:{_REST_PORT}", id="bad-address")


def grpc_address(text: str) -> tuple[str, int]:
    """Host, without brackets, and port of a target that names one machine. Raises SpecError."""
    named = _named_host(text)
    if named is None:
        raise SpecError(f"expected host:port, got {text!r}: a server that others reach has a port",
                        hint=f"write host:{_GRPC_PORT}", id="bad-address")
    host, _, port = grpc_target(named).rpartition(":")
    return host.strip("[]"), int(port)


def _named_host(text: str) -> str | None:
    """The host in a target, and the port if it has one, without gRPC's own form: of dns://name-server/host:1 host:1.
    None where it names none (unix:). Raises SpecError."""
    form = _RESOLVED.fullmatch(text)
    if form is None:
        return grpc_target(text)
    return None if form[1].startswith(("unix", "vsock")) else text.partition(":")[2].rpartition("/")[2]


def _wrong_target(text: str, match: re.Match[str] | None) -> str:
    ipv6 = _ipv6(text)
    reasons = (
        (match and "\\" not in text, f"ports are 1 to 65535, not {match['port'] if match else ''}"),
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
                     hint=f"for REST write http://host:{_REST_PORT}, for gRPC host:{_GRPC_PORT}", id="bad-address")


def same_place(text: str) -> str:
    """What all ways to write one server's address have in common: host and port, and the path if there is one. Names
    aren't looked up: only this machine's own are known to mean the same."""
    if is_url(text):
        parts = urlsplit(text)
        port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
        return f"{_same_host(parts.hostname or '')}:{port}{parts.path.rstrip('/')}"
    named = _named_host(text)
    if named is None:
        scheme, _, rest = text.partition(":")
        return f"{scheme}:{re.sub('^/+', '/', rest)}"
    host, colon, number = named.rpartition(":")
    if not colon or not number.isdecimal():  # gRPC's own default
        host, number = named, "443"
    return f"{_same_host(unquote(host))}:{int(number)}"


def _same_host(host: str) -> str:
    plain = host.lower().strip("[]").rstrip(".")
    try:
        address = ipaddress.ip_address(plain)
        plain = str(getattr(address, "ipv4_mapped", None) or address)
    except ValueError:  # a name
        pass
    return "localhost" if plain in _THIS_MACHINE else bracketed(plain)

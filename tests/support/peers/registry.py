"""Debian's docker-registry (CNCF Distribution 2.8): no referrers API, deleting as it is configured."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.support.peers import answers, program, running
from tests.support.ports import free_ports

USER, SECRET = "tester", "secret-of-the-tests"
_HTPASSWD = "tester:$2b$05$abcdefghijklmnopqrstuu6o3dlyWnvEiDh3K/MBghWoid.93Z6L2\n"  # bcrypt of SECRET


@contextmanager
def docker_registry(directory: Path, *, login: bool = False, delete: bool = True,
                    tls: tuple[Path, Path] | None = None) -> Iterator[str]:
    """`127.0.0.1:port` of one that keeps its blobs in `directory`. login: it wants USER and SECRET. tls: certificate
    and key."""
    directory.mkdir(exist_ok=True)
    auth = []
    if login:
        (directory / "htpasswd").write_text(_HTPASSWD)
        auth = [f"auth: {{htpasswd: {{realm: tests, path: '{directory / 'htpasswd'}'}}}}"]
    with _registry(directory, auth, delete=delete, tls=tls) as host:
        yield host


@contextmanager
def _registry(directory: Path, auth: list[str], *, delete: bool, tls: tuple[Path, Path] | None = None
              ) -> Iterator[str]:
    (port,) = free_ports(1)
    files = f", tls: {{certificate: '{tls[0]}', key: '{tls[1]}'}}" if tls else ""
    argv = [program("docker-registry", "apt-get install docker-registry"), "serve", str(directory / "config.yml")]
    lines = ["version: 0.1", "log: {level: warn}", f"http: {{addr: '127.0.0.1:{port}'{files}}}",
             f"storage: {{filesystem: {{rootdirectory: '{directory / 'blobs'}'}}, "
             f"delete: {{enabled: {str(delete).lower()}}}}}", *auth]
    (directory / "config.yml").write_text("\n".join(lines) + "\n")
    with running(argv, answers(f"http://127.0.0.1:{port}/v2/", 200, 401, 400)):
        yield f"127.0.0.1:{port}"


@contextmanager
def token_registry(directory: Path) -> Iterator[tuple[str, list[str]]]:
    """One that wants tokens, and a service that gives USER what is below `team/`. Yields the scopes asked for, too."""
    key, certificate = _self_signed()
    (directory / "tokens.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    asked: list[str] = []

    class Tokens(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            (scope,) = query.get("scope", [""])
            asked.append(scope)
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            basic = "Basic " + base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
            allowed = self.headers.get("Authorization") == basic and name.startswith("team/")
            access = [{"type": kind, "name": name, "actions": actions.split(",")}] if allowed else []
            body = json.dumps({"token": _token(key, certificate, access)}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Tokens) as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        auth = f"auth: {{token: {{realm: 'http://127.0.0.1:{service.server_address[1]}/token', service: tests, " \
               f"issuer: tests, rootcertbundle: '{directory / 'tokens.pem'}'}}}}"
        with _registry(directory, [auth], delete=True) as host:
            yield host, asked
        service.shutdown()
        thread.join(10)


def _self_signed() -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    return key, builder.add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256())


def _token(key: rsa.RSAPrivateKey, certificate: x509.Certificate, access: object) -> str:
    """A JSON web token, as Distribution reads it."""
    der = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
    now = int(time.time())
    claims = {"iss": "tests", "sub": USER, "aud": "tests", "exp": now + 300, "nbf": now - 300, "iat": now, "jti": "1",
              "access": access}
    signed = ".".join(_base64url(json.dumps(part).encode())
                      for part in ({"alg": "RS256", "typ": "JWT", "x5c": [der]}, claims))
    return f"{signed}.{_base64url(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def docker_config(directory: Path, host: str, user: str = USER, secret: str = SECRET) -> Path:
    """The directory of a Docker config that knows one registry."""
    directory.mkdir(parents=True, exist_ok=True)
    auth = base64.b64encode(f"{user}:{secret}".encode()).decode()
    (directory / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return directory

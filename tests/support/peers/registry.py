"""Debian's docker-registry (CNCF Distribution 2.8): no referrers API, deleting as it is configured."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.peers import answers, free_ports, program, running

USER, SECRET = "tester", "secret-of-the-tests"
_HTPASSWD = "tester:$2b$05$abcdefghijklmnopqrstuu6o3dlyWnvEiDh3K/MBghWoid.93Z6L2\n"  # bcrypt of SECRET


@contextmanager
def docker_registry(directory: Path, *, login: bool = False, delete: bool = True) -> Iterator[str]:
    """`127.0.0.1:port` of one that keeps its blobs in `directory`. login: it wants USER and SECRET."""
    (port,) = free_ports(1)
    argv = [program("docker-registry", "apt-get install docker-registry"), "serve", str(directory / "config.yml")]
    deleting = str(delete).lower()
    lines = ["version: 0.1", "log: {level: warn}", f"http: {{addr: '127.0.0.1:{port}'}}",
             f"storage: {{filesystem: {{rootdirectory: '{directory / 'blobs'}'}}, delete: {{enabled: {deleting}}}}}"]
    if login:
        (directory / "htpasswd").write_text(_HTPASSWD)
        lines.append(f"auth: {{htpasswd: {{realm: tests, path: '{directory / 'htpasswd'}'}}}}")
    (directory / "config.yml").write_text("\n".join(lines) + "\n")
    with running(argv, answers(f"http://127.0.0.1:{port}/v2/", 200, 401)):
        yield f"127.0.0.1:{port}"


def docker_config(directory: Path, host: str, user: str = USER, secret: str = SECRET) -> Path:
    """The directory of a Docker config that knows one registry."""
    directory.mkdir(parents=True, exist_ok=True)
    auth = base64.b64encode(f"{user}:{secret}".encode()).decode()
    (directory / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return directory

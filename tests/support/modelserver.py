"""The embedded server as a process, for tests."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import grpc
from google.protobuf.message import Message

from deploy.waiting import Deadline, poll
from tests.support.ports import free_ports

ROOT = Path(__file__).parents[2]


class Process:
    """A server process, its ports and what it printed."""

    def __init__(self, where: Path, *flags: str, rest: bool = True) -> None:
        self.port, self.rest_port = free_ports()
        ports = [f"--port={self.port}", *([f"--rest_api_port={self.rest_port}"] if rest else [])]
        self.log = where / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "deploy.modelserver", *ports, *flags], cwd=ROOT,
                                            stdout=log, stderr=subprocess.STDOUT)

    def wait_open(self, port: int) -> None:
        assert poll(lambda: self.open(port) or None, Deadline(30)), self.log.read_text()

    def open(self, port: int) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return is_open(port)

    def rest(self, path: str, body: object = None) -> tuple[int, object]:
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.rest_port}{path}", data, timeout=30) as reply:
                return reply.status, json.loads(reply.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def grpc(self, method: str, request: object, reply: type[Message]) -> object:
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            return channel.unary_unary(method, lambda m: m.SerializeToString(), reply.FromString)(request, timeout=30)

    def ended(self) -> int:
        return self.process.wait(30)


@contextmanager
def server(where: Path, *flags: str, rest: bool = True, wait: bool = True) -> Iterator[Process]:
    running = Process(where, *flags, rest=rest)
    try:
        if wait:
            running.wait_open(running.rest_port if rest else running.port)
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def publish(source: Path, base: Path, version: int) -> None:
    """Copy beside, then rename: a half-copied version would be loaded."""
    stage = base / f".stage-{version}"
    shutil.copytree(source, stage)
    stage.rename(base / str(version))


def echoable(base: Path, version: int) -> None:
    """A version that the echo loader takes."""
    stage = base / f".stage-{version}"
    stage.mkdir(parents=True)
    (stage / "saved_model.pb").touch()
    stage.rename(base / str(version))


def read_reply(file: BinaryIO) -> tuple[int, bytes]:
    """The next HTTP reply's status and body; status 0 for a connection that was closed instead."""
    line = file.readline()
    if not line:
        return 0, b""
    length = 0
    while (header := file.readline()) not in (b"\r\n", b""):
        name, _, value = header.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    return int(line.split()[1]), file.read(length)

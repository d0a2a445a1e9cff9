#!/usr/bin/env python3
"""Stands in for tensorflow_model_server where only a program that behaves is needed. Standard library only.

Listens on --port and --rest_api_port and says so. Flags that make it misbehave:
  --fake_exit=N        print a last word and exit with N before listening
  --fake_memory=N      fill N MB of memory first
  --fake_unready=true  answer HTTP requests with 503
  --fake_deaf=true     ignore SIGTERM
  --fake_child=true    start a child process that would outlive it
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys


def listen(host: str, port: int) -> socket.socket:
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, port))
    s.listen()
    return s


def main(argv: list[str]) -> int:
    flags = dict(a.lstrip("-").partition("=")[::2] for a in argv)
    print("arguments:", *argv, flush=True)
    print(f"uid {os.getuid()} pid {os.getpid()}", flush=True)
    if "fake_exit" in flags:
        print("Failed to start server. Error: a fake reason", flush=True)
        return int(flags["fake_exit"])
    filled = bytearray(int(flags.get("fake_memory", 0)) << 20)
    filled[::4096] = b"x" * len(filled[::4096])
    status = b"503 Service Unavailable" if "fake_unready" in flags else b"200 OK"
    if "fake_deaf" in flags:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "fake_child" in flags:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print("child", child.pid, flush=True)
    host = flags.get("tfs_bind_address", "0.0.0.0")
    sockets = [listen(host, int(flags[f])) for f in ("port", "rest_api_port")]
    print("Entering the event loop ...", flush=True)
    while True:
        for s in select.select(sockets, [], [])[0]:
            with s.accept()[0] as connection, contextlib.suppress(OSError):
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

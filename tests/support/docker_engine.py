"""What answers where a Docker engine would, on a socket of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NO_CONTAINERS = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n[]\n"


@contextmanager
def engine_that_says(reply: bytes, directory: Path) -> Iterator[list[bytes]]:
    """The same answer to every request; DOCKER_HOST is to name `directory`/s. Yields what was asked."""
    asked: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "s"))
        listener.listen()

        def answer() -> None:
            with suppress(OSError):  # closed
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        asked.append(connection.recv(1 << 16))
                        connection.sendall(reply)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield asked
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)

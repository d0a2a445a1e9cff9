"""An HTTP/2 connection of the embedded server without sockets: bytes in, frames out, the loop's turns by hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from hpack import Encoder

from deploy.modelserver.status import Code, StatusError
from deploy.net.http2 import frames as http2
from deploy.net.http2 import messages
from deploy.net.http2.connection import Connection
from deploy.net.http2.frames import frame, number32
from deploy.net.http2.limits import Limits, Memory
from deploy.net.http2.streams import Stream

SETTINGS = frame(http2.SETTINGS, 0, 0)
END = http2.END_STREAM | http2.END_HEADERS
FIELDS = {":method": "POST", ":scheme": "http", ":path": "/a/B", ":authority": "localhost", "te": "trailers",
          "content-type": "application/grpc"}


class Frame(NamedTuple):
    kind: int
    flags: int
    number: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error code of a RST_STREAM or GOAWAY."""
        return int.from_bytes(self.payload[-4:] if self.kind == http2.RST_STREAM else self.payload[4:8], "big")


class Transport:
    """Keeps what is written. room: bytes until the writer is to pause."""

    def __init__(self) -> None:
        self.written, self.closed, self.aborted, self.reading = bytearray(), False, False, True
        self.room: int | None = None
        self.unsent = 0
        self.protocol: Connection | None = None

    def write(self, data: bytes) -> None:
        self.written += data
        if self.room is not None and self.protocol is not None:
            self.room -= len(data)
            if self.room <= 0 and not self.protocol._full:
                self.protocol.pause_writing()

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        """Bytes that wait for the client to read."""
        return self.unsent

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def get_extra_info(self, _: str) -> None:
        return None


class Client:
    """A connection to an echo: replies have the request's body. Paths that begin with /no are refused."""

    def __init__(self, limits: Limits | None = None, answer: bool = True) -> None:
        self.limits = limits or Limits()
        self.transport, self.encoder, self.served = Transport(), Encoder(), list[Stream]()
        self.answer, self.is_gone = answer, False
        self.turns: deque[Callable[[], None]] = deque()
        self.memory = Memory(self.limits.held_by_all, lambda: self.connection.fail(http2.ENHANCE_YOUR_CALM))
        self.connection = Connection(self, self.limits, self.turns.append)
        self.transport.protocol = self.connection
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]

    # -- the server's side

    def come(self, _: Connection) -> bool:
        return True

    def gone(self, _: Connection) -> None:
        self.is_gone = True

    def accept(self, connection: Connection, stream: Stream) -> None:
        if stream.headers[b":path"].startswith(b"/no"):
            self.refuse(stream, "", Code.UNIMPLEMENTED)
        elif stream.headers[b":method"] != b"POST":
            connection.reply(stream, messages.NOT_POST, messages.SPEAKS_GRPC, b"")

    def too_long(self, connection: Connection, stream: Stream, size: int) -> None:
        connection.refuse(stream, messages.FAILED, messages.failure(messages.too_long(size, self.limits.message)))

    def too_many_headers(self, connection: Connection, stream: Stream, size: int) -> None:
        self.refuse(stream, f"{size} bytes of headers", Code.RESOURCE_EXHAUSTED)

    def serve(self, connection: Connection, stream: Stream) -> None:
        self.served.append(stream)
        if self.answer:
            self.reply(stream, bytes(stream.body))

    def reply(self, stream: Stream, body: bytes) -> None:
        self.connection.reply(stream, messages.HEADERS, body, messages.TRAILERS)

    def refuse(self, stream: Stream, text: str, code: Code = Code.DEADLINE_EXCEEDED) -> None:
        self.connection.refuse(stream, messages.FAILED, messages.failure(StatusError(code, text)))

    # -- the client's side

    def greet(self, settings: bytes = b"") -> Client:
        self.send(http2.PREFACE + frame(http2.SETTINGS, 0, 0, settings))
        self.frames()
        return self

    def send(self, *parts: bytes) -> None:
        """Bytes that arrive, and all the turns that they take."""
        for part in parts:
            self.connection.data_received(part)
            self.run()

    def run(self) -> int:
        """All turns of the loop that the connection has asked for; how many that were."""
        count = 0
        while self.turns:
            self.turns.popleft()()
            count += 1
        return count

    def block(self, **fields: str | None) -> bytes:
        """A request's header block; None leaves a field out."""
        wanted = {**FIELDS, **{key.replace("_", ":", 1) if key[0] == "_" else key: v for key, v in fields.items()}}
        return bytes(self.encoder.encode([(key, value) for key, value in wanted.items() if value is not None]))

    def headers(self, number: int, flags: int = http2.END_HEADERS, **fields: str | None) -> bytes:
        return frame(http2.HEADERS, flags, number, self.block(**fields))

    def call(self, number: int, body: bytes = b"x", **fields: str | None) -> bytes:
        return (frame(http2.HEADERS, http2.END_HEADERS, number, self.block(**fields))
                + frame(http2.DATA, http2.END_STREAM, number, body))

    def body(self, number: int, body: bytes, flags: int = http2.END_STREAM) -> bytes:
        """DATA frames, as long as they may be from the first."""
        parts = [body[at:at + http2.FRAME] for at in range(0, len(body), http2.FRAME)]
        return b"".join(frame(http2.DATA, 0 if part is not parts[-1] else flags, number, part) for part in parts)

    def frames(self) -> list[Frame]:
        """What was written since the last look."""
        found, data = [], bytes(self.transport.written)
        self.transport.written.clear()
        while data:
            size = int.from_bytes(data[:3], "big")
            found.append(Frame(data[3], data[4], int.from_bytes(data[5:9], "big"), data[9:9 + size]))
            data = data[9 + size:]
        return found

    def failed(self) -> int | None:
        """The code of the GOAWAY that ended the connection."""
        last = self.frames()[-1:]
        if not last or last[0].kind != http2.GOAWAY or not self.transport.closed:
            return None
        return last[0].code


def window(number: int, more: int) -> bytes:
    return frame(http2.WINDOW_UPDATE, 0, number, number32(more))


def reset(number: int, code: int = http2.CANCEL) -> bytes:
    return frame(http2.RST_STREAM, 0, number, number32(code))

"""HTTP/2's clauses, a row for each: what a client sends, and what it gets for it.

The numbers with a slash are those of h2spec's cases (generic, http2, hpack), which all have their row; the others are
sections of RFC 9113. Kept back on purpose:

- 8.2.1, values with spaces around them are malformed: gRPC allows them in metadata, and strips them.
- 5.1, closed: frames that cross a RST_STREAM of ours are passed over for as long as it is remembered, not only briefly.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hpack import Encoder

from deploy.net.http2 import frames as http2
from deploy.net.http2.frames import END_HEADERS, END_STREAM, frame, number32
from deploy.net.http2.limits import RECEIVE_WINDOW, Limits
from tests.support.http2 import END, Client, Frame, reset, window

Sent = Callable[[Client], "bytes | list[bytes]"]
PING = frame(http2.PING, 0, 0, b"12345678")
ALIVE, ANSWERED = "goes on", "is answered"
PROTOCOL, CLOSED, SIZE, FLOW, COMPRESSION, CALM = (
    http2.PROTOCOL_ERROR, http2.STREAM_CLOSED, http2.FRAME_SIZE_ERROR, http2.FLOW_CONTROL_ERROR,
    http2.COMPRESSION_ERROR, http2.ENHANCE_YOUR_CALM)


def get(client: Client, number: int = 1, flags: int = END, **fields: str | None) -> bytes:
    """A request as h2spec makes them: answered, but not served."""
    return client.headers(number, flags, **{"_method": "GET", **fields})


def raw(client: Client, *fields: tuple[str, str], number: int = 1, flags: int = END) -> bytes:
    return frame(http2.HEADERS, flags, number, client.encoder.encode(list(fields)))


def with_block(extra: bytes, *, first: bytes = b"") -> Sent:
    """A request with more bytes of HPACK behind its block, or in front of it."""
    return lambda c: frame(http2.HEADERS, END, 1, first + c.block(_method="GET") + extra)


def after(*data: bytes) -> Sent:
    """The same bytes whatever was before."""
    return lambda _: list(data)


def data(number: int, payload: bytes = b"test", flags: int = END_STREAM) -> bytes:
    return frame(http2.DATA, flags, number, payload)


def settings(*values: tuple[int, int]) -> bytes:
    return frame(http2.SETTINGS, 0, 0, b"".join(key.to_bytes(2, "big") + number32(value) for key, value in values))


def continuation(number: int, payload: bytes, flags: int = END_HEADERS) -> bytes:
    return frame(http2.CONTINUATION, flags, number, payload)


def priority(number: int, on: int, payload: bytes | None = None) -> bytes:
    return frame(http2.PRIORITY, 0, number, number32(on) + b"\xff" if payload is None else payload)


def goaway(code: int) -> str:
    return f"GOAWAY {code}"


def rst(code: int, number: int = 1) -> str:
    return f"RST_STREAM {number} {code}"


def literal(name: bytes, value: bytes, kind: bytes = b"\0") -> bytes:
    return kind + bytes((len(name),)) + name + bytes((len(value),)) + value


LONG = {f"x-dummy{n}": "x" * 4000 for n in range(5)}
HUFFMAN = bytes.fromhex("87b505b161cc5a93849c48aca4")  # user-agent: h2spec
TEST = bytes.fromhex("85f2b24a84ff849c48aca4")  # x-test: h2spec
POST = [(":method", "POST"), (":scheme", "http"), (":path", "/a/B"), ("content-type", "application/grpc")]

ROWS: list[tuple[str, Sent, str]] = [
    # how streams and frames are taken at all
    ("generic/2/1 PRIORITY on an idle stream", after(priority(1, 0)), ALIVE),
    ("generic/2/4 RST_STREAM on a half-closed stream", lambda c: [get(c), reset(1)], ALIVE),
    ("generic/2/5 PRIORITY on a closed stream", lambda c: [get(c), priority(1, 0)], ALIVE),
    ("generic/3.1/1 DATA", lambda c: c.headers(1) + data(1), ANSWERED),
    ("generic/3.1/2 several DATA", lambda c: c.headers(1) + data(1, flags=0) + data(1), ANSWERED),
    ("generic/3.1/3 padded DATA", lambda c: c.headers(1) + data(1, b"\x02test\0\0", 9), ANSWERED),
    ("generic/3.2/1 HEADERS", get, ANSWERED),
    ("generic/3.2/2 padded HEADERS",
     lambda c: frame(http2.HEADERS, END | 8, 1, b"\x01" + c.block(_method="GET") + b"\0"), ANSWERED),
    ("generic/3.2/3 HEADERS with priority",
     lambda c: frame(http2.HEADERS, END | 0x20, 1, b"\0\0\0\0\xff" + c.block(_method="GET")), ANSWERED),
    ("generic/3.3/1 PRIORITY with a weight", after(priority(1, 0)), ALIVE),
    ("generic/3.3/3 exclusive PRIORITY", after(priority(1, 1 << 31)), ALIVE),
    ("generic/3.3/4 PRIORITY on a stream that is idle", after(priority(5, 3)), ALIVE),
    ("generic/3.3/5 PRIORITY of a lower stream", lambda c: [get(c, 5), priority(1, 5)], ALIVE),
    ("generic/3.4/1 RST_STREAM", lambda c: [c.headers(1), reset(1)], ALIVE),
    ("generic/3.5/1 SETTINGS", after(settings((1, 4096), (2, 0), (3, 100), (6, 4096))), ALIVE),
    ("generic/3.7/1 PING", after(PING), ALIVE),
    ("generic/3.8/1 GOAWAY", after(frame(http2.GOAWAY, 0, 0, bytes(8))), ALIVE),
    ("generic/3.9/1 WINDOW_UPDATE of the connection", after(window(0, 1)), ALIVE),
    ("generic/3.9/2 WINDOW_UPDATE of a stream", lambda c: [c.headers(1), window(1, 1)], ALIVE),
    ("generic/3.10/1 CONTINUATION",
     lambda c: frame(http2.HEADERS, END_STREAM, 1, c.block(_method="GET")) + continuation(1, literal(b"x", b"y")),
     ANSWERED),
    ("generic/3.10/2 several CONTINUATION",
     lambda c: frame(http2.HEADERS, END_STREAM, 1, c.block(_method="GET")) + continuation(1, literal(b"x", b"y"), 0)
     + continuation(1, literal(b"z", b"y")), ANSWERED),
    ("generic/4/1 GET", get, ANSWERED),
    ("generic/4/2 HEAD", lambda c: get(c, _method="HEAD"), ANSWERED),
    ("generic/4/3 POST", lambda c: c.headers(1) + data(1), ANSWERED),
    ("generic/4/4 POST with trailers", lambda c: c.headers(1, trailer="x-test") + data(1, flags=0)
     + raw(c, ("x-test", "ok")), ANSWERED),
    # HPACK
    ("generic/5/1 an indexed field", with_block(b"\xba"), ANSWERED),
    *[(f"generic/5/{n} a literal field", with_block(extra), ANSWERED) for n, extra in enumerate((
        b"\x40" + HUFFMAN, literal(b"user-agent", b"h2spec", b"\x40"), literal(b"x-test", b"h2spec", b"\x40"),
        b"\x40" + TEST, literal(b"user-agent", b"h2spec"), b"\0" + HUFFMAN, literal(b"x-test", b"h2spec"), b"\0" + TEST,
        literal(b"user-agent", b"h2spec", b"\x10"), b"\x10" + HUFFMAN, literal(b"x-test", b"h2spec", b"\x10"),
        b"\x10" + TEST), 2)],
    ("generic/5/14 an update of the table's size", with_block(b"", first=b"\x20"), ANSWERED),
    ("generic/5/15 several of them", with_block(b"", first=b"\x20\x3f\xe1\x1f"), ANSWERED),
    ("hpack/2.3.3/1 an index that isn't in the table", with_block(b"\xff\xff"), goaway(COMPRESSION)),
    ("hpack/2.3.3/2 a literal's index that isn't in the table", with_block(b"\x7f\x50\x01\x78"), goaway(COMPRESSION)),
    ("hpack/4.2/1 an update at the end of a block", with_block(b"\x3f\xe1\x1f"), goaway(COMPRESSION)),
    ("hpack/5.2/1 padding of more than 7 bits", with_block(bytes.fromhex("0085f2b24a84ff879c5187ff")),
     goaway(COMPRESSION)),
    ("hpack/5.2/2 padding of zeros", with_block(bytes.fromhex("0085f2b24a84ff83505c00")), goaway(COMPRESSION)),
    ("hpack/5.2/3 the end of a string as a symbol", with_block(bytes.fromhex("0085f2b24a84ff85ffffffffff")),
     goaway(COMPRESSION)),
    ("hpack/6.1/1 index 0", with_block(b"\x80"), goaway(COMPRESSION)),
    ("hpack/6.3/1 a table larger than allowed", with_block(b"", first=b"\x3f\xe1\xff\x03"), goaway(COMPRESSION)),
    # 4, frames
    ("http2/4.1/1 an unknown type", after(frame(22, 0, 0, bytes(8))), ALIVE),
    ("http2/4.1/2 unknown flags", after(frame(http2.PING, 0x16, 0, b"12345678")), ALIVE),
    ("http2/4.1/3 the reserved bit", after(frame(http2.PING, 0, 1 << 31, b"12345678")), ALIVE),
    ("http2/4.2/1 DATA of 2^14 bytes", lambda c: c.headers(1) + data(1, bytes(1 << 14)), ANSWERED),
    ("http2/4.2/2 longer DATA than allowed", lambda c: c.headers(1) + data(1, bytes((1 << 14) + 1)), goaway(SIZE)),
    ("http2/4.2/3 longer HEADERS than allowed", lambda c: get(c, **LONG), goaway(SIZE)),
    ("http2/4.3/1 a block that can't be read", after(frame(http2.HEADERS, END, 1, b"\x00\x00\x00\x00\x80")),
     goaway(COMPRESSION)),
    ("http2/4.3/2 PRIORITY within a block", lambda c: [c.headers(1, END_STREAM), priority(1, 0)], goaway(PROTOCOL)),
    ("http2/4.3/3 HEADERS of another stream within a block", lambda c: [c.headers(1, END_STREAM), get(c, 3)],
     goaway(PROTOCOL)),
    # 5.1, states
    ("http2/5.1/1 idle: DATA", after(data(1)), goaway(PROTOCOL)),
    ("http2/5.1/2 idle: RST_STREAM", after(reset(1)), goaway(PROTOCOL)),
    ("http2/5.1/3 idle: WINDOW_UPDATE", after(window(1, 100)), goaway(PROTOCOL)),
    ("http2/5.1/4 idle: CONTINUATION", lambda c: continuation(1, c.block()), goaway(PROTOCOL)),
    ("http2/5.1/5 half-closed: DATA", lambda c: [stopped(c), data(1)], rst(CLOSED)),
    ("http2/5.1/6 half-closed: HEADERS", lambda c: [stopped(c), c.headers(1, END)], rst(CLOSED)),
    ("http2/5.1/7 half-closed: CONTINUATION", lambda c: [stopped(c), continuation(1, c.block())], goaway(PROTOCOL)),
    ("http2/5.1/8 reset: DATA", lambda c: [c.headers(1), reset(1), data(1)], rst(CLOSED)),
    ("http2/5.1/9 reset: HEADERS", lambda c: [c.headers(1), reset(1), c.headers(1, END)], rst(CLOSED)),
    ("http2/5.1/10 reset: CONTINUATION", lambda c: [c.headers(1), reset(1), continuation(1, c.block())],
     goaway(PROTOCOL)),
    ("http2/5.1/11 closed: DATA", lambda c: [get(c), data(1)], goaway(CLOSED)),
    ("http2/5.1/12 closed: HEADERS", lambda c: [get(c), get(c)], goaway(CLOSED)),
    ("http2/5.1/13 closed: CONTINUATION", lambda c: [get(c), continuation(1, c.block())], goaway(PROTOCOL)),
    ("5.1 closed: WINDOW_UPDATE", lambda c: [get(c), window(1, 5)], ALIVE),
    ("5.1 reset: WINDOW_UPDATE", lambda c: [c.headers(1), reset(1), window(1, 5)], ALIVE),
    ("5.1 closed: RST_STREAM twice", lambda c: [c.headers(1), reset(1), reset(1)], ALIVE),
    ("5.1 reset: DATA again and again is told once",
     lambda c: [c.headers(1), reset(1), data(1), data(1), data(1)], rst(CLOSED)),
    ("5.1 half-closed by us: DATA, and the end", lambda c: [c.headers(1, _path="/no"), data(1, b"x" * 500, 0), data(1)],
     ANSWERED),
    ("5.1 half-closed by us: DATA after the end", lambda c: [c.headers(1, _path="/no"), data(1), data(1)],
     goaway(CLOSED)),
    ("http2/5.1.1/1 an even number", lambda c: get(c, 2), goaway(PROTOCOL)),
    ("http2/5.1.1/2 a lower number than before", lambda c: [get(c, 5), get(c, 3)], goaway(PROTOCOL)),
    ("5.1.1 DATA on a stream that was passed over", lambda c: [get(c, 5), data(3)], goaway(CLOSED)),
    ("5.1.1 stream 0", lambda c: get(c, 0), goaway(PROTOCOL)),
    ("http2/5.3.1/1 HEADERS that depend on themselves",
     lambda c: frame(http2.HEADERS, END | 0x20, 1, b"\0\0\0\x01\xff" + c.block(_method="GET")), rst(PROTOCOL)),
    ("http2/5.3.1/2 PRIORITY that depends on itself", after(priority(1, 1)), goaway(PROTOCOL)),
    ("5.3.1 PRIORITY of an open stream that depends on itself", lambda c: [c.headers(1), priority(1, 1)],
     rst(PROTOCOL)),
    ("http2/5.4.1/1 a connection error ends the connection", after(frame(http2.PING, 0, 0, b"1")), goaway(SIZE)),
    ("http2/5.5/1 an unknown frame", after(frame(255, 0, 0, bytes(8))), ALIVE),
    ("http2/5.5/2 an unknown frame within a block", lambda c: [c.headers(1, END_STREAM), frame(255, 0, 0, bytes(8))],
     goaway(PROTOCOL)),
    # 6, frames
    ("http2/6.1/1 DATA on stream 0", after(data(0)), goaway(PROTOCOL)),
    ("http2/6.1/2 DATA on a closed stream", lambda c: [stopped(c), data(1)], rst(CLOSED)),
    ("http2/6.1/3 DATA with too much padding", lambda c: c.headers(1) + data(1, b"\x09test", 9), goaway(PROTOCOL)),
    ("6.1 DATA, padded, without a length", lambda c: c.headers(1) + data(1, b"", 9), goaway(SIZE)),
    ("http2/6.2/1 HEADERS without an end, and PRIORITY", lambda c: [c.headers(1, END_STREAM), priority(1, 0)],
     goaway(PROTOCOL)),
    ("http2/6.2/2 HEADERS of another stream within a block", lambda c: [c.headers(1, END_STREAM), c.headers(3, END)],
     goaway(PROTOCOL)),
    ("http2/6.2/3 HEADERS on stream 0", lambda c: c.headers(0, END), goaway(PROTOCOL)),
    ("http2/6.2/4 HEADERS with too much padding",
     lambda c: frame(http2.HEADERS, END | 8, 1, b"\xff" + c.block()), goaway(PROTOCOL)),
    ("6.2 HEADERS too short for a priority", after(frame(http2.HEADERS, END | 0x20, 1, b"\0\0")), goaway(SIZE)),
    ("http2/6.3/1 PRIORITY on stream 0", after(priority(0, 1)), goaway(PROTOCOL)),
    ("http2/6.3/2 PRIORITY of a wrong length", lambda c: [c.headers(1), priority(1, 0, b"\x80\0\0\x01")], rst(SIZE)),
    ("6.3 PRIORITY of a wrong length on an idle stream", after(priority(1, 0, b"")), goaway(SIZE)),
    ("http2/6.4/1 RST_STREAM on stream 0", after(reset(0)), goaway(PROTOCOL)),
    ("http2/6.4/2 RST_STREAM on an idle stream", after(reset(1)), goaway(PROTOCOL)),
    ("http2/6.4/3 RST_STREAM of a wrong length", lambda c: [c.headers(1), frame(http2.RST_STREAM, 0, 1, bytes(3))],
     goaway(SIZE)),
    ("http2/6.5/1 an acknowledgement with parameters", after(frame(http2.SETTINGS, 1, 0, bytes(6))), goaway(SIZE)),
    ("http2/6.5/2 SETTINGS on a stream", after(frame(http2.SETTINGS, 0, 1, b"")), goaway(PROTOCOL)),
    ("http2/6.5/3 SETTINGS of a wrong length", after(frame(http2.SETTINGS, 0, 0, bytes(3))), goaway(SIZE)),
    ("http2/6.5.2/1 ENABLE_PUSH of 2", after(settings((2, 2))), goaway(PROTOCOL)),
    ("http2/6.5.2/2 INITIAL_WINDOW_SIZE over 2^31-1", after(settings((4, 2**31))), goaway(FLOW)),
    ("http2/6.5.2/3 MAX_FRAME_SIZE below 2^14", after(settings((5, 16383))), goaway(PROTOCOL)),
    ("http2/6.5.2/4 MAX_FRAME_SIZE of 2^24", after(settings((5, 2**24))), goaway(PROTOCOL)),
    ("http2/6.5.2/5 an unknown parameter", after(settings((0xFF, 1))), ALIVE),
    ("6.5.2 ENABLE_PUSH of 1", after(settings((2, 1))), ALIVE),
    ("6.6 PUSH_PROMISE of a client", lambda c: [c.headers(1), frame(http2.PUSH_PROMISE, 4, 1, bytes(4))],
     goaway(PROTOCOL)),
    ("http2/6.7/2 an acknowledgement that nobody waits for", after(frame(http2.PING, 1, 0, b"badresp!")), ALIVE),
    ("http2/6.7/3 PING on a stream", after(frame(http2.PING, 0, 1, bytes(8))), goaway(PROTOCOL)),
    ("http2/6.7/4 PING of a wrong length", after(frame(http2.PING, 0, 0, bytes(6))), goaway(SIZE)),
    ("http2/6.8/1 GOAWAY on a stream", after(frame(http2.GOAWAY, 0, 1, bytes(8))), goaway(PROTOCOL)),
    ("6.8 GOAWAY of a wrong length", after(frame(http2.GOAWAY, 0, 0, bytes(7))), goaway(SIZE)),
    ("http2/6.9/1 WINDOW_UPDATE of 0, connection", after(window(0, 0)), goaway(PROTOCOL)),
    ("http2/6.9/2 WINDOW_UPDATE of 0, stream", lambda c: [c.headers(1), window(1, 0)], rst(PROTOCOL)),
    ("http2/6.9/3 WINDOW_UPDATE of a wrong length", after(frame(http2.WINDOW_UPDATE, 0, 0, bytes(3))), goaway(SIZE)),
    ("http2/6.9.1/2 windows over 2^31-1, connection", after(window(0, 2**31 - 1)), goaway(FLOW)),
    ("http2/6.9.1/3 windows over 2^31-1, stream", lambda c: [c.headers(1), window(1, 2**31 - 1)], rst(FLOW)),
    ("http2/6.9.2/3 INITIAL_WINDOW_SIZE over 2^31-1", after(settings((4, 2**31))), goaway(FLOW)),
    ("6.9.2 INITIAL_WINDOW_SIZE that lifts a window over 2^31-1",
     lambda c: [c.headers(1), window(1, 2**31 - 1 - 65535), settings((4, 65536))], goaway(FLOW)),
    ("http2/6.10/1 several CONTINUATION", lambda c: c.headers(1, END_STREAM)
     + continuation(1, literal(b"x", b"y"), 0) + continuation(1, literal(b"z", b"y")), ANSWERED),
    ("http2/6.10/2 CONTINUATION, then DATA",
     lambda c: [c.headers(1, END_STREAM), continuation(1, literal(b"x", b"y"), 0), data(1)], goaway(PROTOCOL)),
    ("http2/6.10/3 CONTINUATION on stream 0",
     lambda c: [c.headers(1, END_STREAM), continuation(0, literal(b"x", b"y"))], goaway(PROTOCOL)),
    ("http2/6.10/4 CONTINUATION after the end", lambda c: [c.headers(1), continuation(1, literal(b"x", b"y"))],
     goaway(PROTOCOL)),
    ("http2/6.10/5 CONTINUATION after a CONTINUATION's end", lambda c: [
        c.headers(1, 0), continuation(1, b""), continuation(1, literal(b"x", b"y"))], goaway(PROTOCOL)),
    ("http2/6.10/6 CONTINUATION after DATA", lambda c: [c.headers(1), data(1, flags=0), continuation(1, b"")],
     goaway(PROTOCOL)),
    ("6.10 CONTINUATION of another stream", lambda c: [c.headers(1, 0), continuation(3, b"")], goaway(PROTOCOL)),
    ("http2/7/1 GOAWAY with an unknown code", after(frame(http2.GOAWAY, 0, 0, bytes(7) + b"\xff")), ALIVE),
    ("http2/7/2 RST_STREAM with an unknown code", lambda c: [c.headers(1), reset(1, 0xFF)], ALIVE),
    # 8, requests
    ("http2/8.1/1 trailers without an end", lambda c: [c.headers(1), raw(c, ("x", "y"), flags=END_HEADERS)],
     rst(PROTOCOL)),
    ("8.1 trailers with pseudo-header fields", lambda c: [c.headers(1), c.headers(1, END)], rst(PROTOCOL)),
    ("http2/8.1.2/1 a name in capitals", lambda c: capital(c, b"X-TEST"), rst(PROTOCOL)),
    ("http2/8.1.2.1/1 an unknown pseudo-header field", lambda c: raw(c, (":test", "ok"), *POST), rst(PROTOCOL)),
    ("http2/8.1.2.1/2 a response's pseudo-header field", lambda c: raw(c, (":status", "200"), *POST), rst(PROTOCOL)),
    ("http2/8.1.2.1/3 a pseudo-header field as a trailer",
     lambda c: [c.headers(1), data(1, flags=0), raw(c, (":method", "200"))], rst(PROTOCOL)),
    ("http2/8.1.2.1/4 a pseudo-header field after others", lambda c: raw(c, *POST[1:], POST[0]), rst(PROTOCOL)),
    ("http2/8.1.2.2/1 connection", lambda c: get(c, connection="keep-alive"), rst(PROTOCOL)),
    ("http2/8.1.2.2/2 te other than trailers", lambda c: get(c, te="trailers, deflate"), rst(PROTOCOL)),
    *[(f"8.2.2 {name}", lambda c, name=name: raw(c, *POST, (name, "x")), rst(PROTOCOL))
      for name in ("keep-alive", "proxy-connection", "transfer-encoding", "upgrade")],
    ("http2/8.1.2.3/1 an empty :path", lambda c: get(c, _path=""), rst(PROTOCOL)),
    ("http2/8.1.2.3/2 no :method", lambda c: get(c, _method=None), rst(PROTOCOL)),
    ("http2/8.1.2.3/3 no :scheme", lambda c: get(c, _scheme=None), rst(PROTOCOL)),
    ("http2/8.1.2.3/4 no :path", lambda c: get(c, _path=None), rst(PROTOCOL)),
    *[(f"http2/8.1.2.3/{n} {POST[which][0]} twice", lambda c, which=which: raw(c, *POST[:3], POST[which], POST[3]),
       rst(PROTOCOL)) for n, which in ((5, 0), (6, 1), (7, 2))],
    ("8.3.1 an empty :method", lambda c: get(c, _method=""), rst(PROTOCOL)),
    ("8.3.1 an empty :scheme", lambda c: get(c, _scheme=""), rst(PROTOCOL)),
    ("8.3.1 an empty :authority", lambda c: raw(c, (":authority", ""), *POST), rst(PROTOCOL)),
    ("8.3.1 a :path that isn't one", lambda c: get(c, _path="a/B"), rst(PROTOCOL)),
    ("8.3.1 the path of OPTIONS", lambda c: get(c, _method="OPTIONS", _path="*"), ANSWERED),
    ("8.5 CONNECT with a path", lambda c: get(c, _method="CONNECT"), rst(PROTOCOL)),
    ("8.2.1 a line's end in a value", lambda c: get(c, x="a\r\nb: c"), rst(PROTOCOL)),
    ("8.2.1 a zero in a value", lambda c: get(c, x="a\0b"), rst(PROTOCOL)),
    ("8.2.1 a space in a name", lambda c: capital(c, b"a b"), rst(PROTOCOL)),
    ("8.2.1 a name that isn't ASCII", lambda c: capital(c, b"a\xe4"), rst(PROTOCOL)),
    ("8.2.1 an empty name", lambda c: capital(c, b""), rst(PROTOCOL)),
    ("8.2.1 spaces around a value", lambda c: get(c, x=" a "), ANSWERED),
    ("http2/8.1.2.6/1 content-length, one DATA",
     lambda c: [c.headers(1, **{"content-length": "1"}), data(1)], rst(PROTOCOL)),
    ("http2/8.1.2.6/2 content-length, several DATA",
     lambda c: [c.headers(1, **{"content-length": "1"}), data(1, flags=0), data(1)], rst(PROTOCOL)),
    ("8.1.1 content-length of a request that was refused at once",
     lambda c: [c.headers(1, _path="/no", **{"content-length": "1"}), data(1)], rst(PROTOCOL)),
    ("8.1.1 content-length without DATA", lambda c: get(c, **{"content-length": "1"}), rst(PROTOCOL)),
    ("8.1.1 content-length, and trailers before it is reached",
     lambda c: [c.headers(1, **{"content-length": "9"}), data(1, flags=0), raw(c, ("x", "y"))], rst(PROTOCOL)),
    ("8.1.1 content-length that is kept",
     lambda c: c.headers(1, **{"content-length": "8"}) + data(1, flags=0) + data(1), ANSWERED),
    *[(f"8.1.1 content-length {value!r}", lambda c, value=value: c.headers(1, **{"content-length": value}),
       rst(PROTOCOL)) for value in ("-1", "+4", "4x", "4, 4", "", "9" * 30)],
    ("http2/8.2/1 PUSH_PROMISE", lambda c: frame(http2.PUSH_PROMISE, 4, 1, number32(3) + c.block()), goaway(PROTOCOL)),
]


def stopped(client: Client) -> bytes:
    """A request that has ended, and waits for its answer."""
    client.answer = False
    return client.headers(1, END)


def capital(client: Client, name: bytes) -> bytes:
    """A request with this name of a header field: the encoder would write it small."""
    return frame(http2.HEADERS, END, 1, client.block() + literal(name, b"ok"))


def outcome(client: Client) -> set[str]:
    """What became of a connection and of its streams."""
    found = client.frames()
    if client.transport.closed:
        assert found[-1].kind == http2.GOAWAY
        return {goaway(found[-1].code)}
    resets = [rst(f.code, f.number) for f in found if f.kind == http2.RST_STREAM]
    told = set(resets)
    assert len(told) == len(resets)
    if any(f.kind == http2.HEADERS and f.number in (1, 5) for f in found):
        told.add(ANSWERED)
    client.send(PING)
    assert client.frames()[-1] == Frame(http2.PING, http2.ACK, 0, b"12345678")
    return told


@pytest.mark.parametrize(("sent", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_clause(sent: Sent, expected: str) -> None:
    client = Client().greet()
    parts = sent(client)
    client.send(*([parts] if isinstance(parts, bytes) else parts))
    told = outcome(client)
    if expected == ANSWERED:
        assert told == {ANSWERED}
    else:
        assert told - {ANSWERED} == ({expected} - {ALIVE})


@pytest.mark.parametrize(("first", "code"), [
    (b"INVALID CONNECTION PREFACE\r\n\r\n", PROTOCOL),  # http2/3.5/2
    (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", PROTOCOL),
    (http2.PREFACE + PING, PROTOCOL),
    (http2.PREFACE + frame(http2.SETTINGS, http2.ACK, 0), PROTOCOL),
    (http2.PREFACE + frame(http2.HEADERS, END, 1, Encoder().encode(POST)), PROTOCOL),
])
def test_3_4_a_connection_begins_with_the_preface_and_settings(first: bytes, code: int) -> None:
    client = Client()
    client.send(first)
    assert client.failed() == code


def test_3_4_ours_begins_with_settings() -> None:
    """http2/3.5/1, generic/1."""
    assert Client().frames()[0][:3] == (http2.SETTINGS, 0, 0)


def test_5_1_2_more_streams_than_announced() -> None:
    """http2/5.1.2/1: with no window, none of the replies ends."""
    client = Client().greet(number32(4)[2:] + number32(0))
    client.send(*(get(client, 2 * n + 1) for n in range(Limits().streams + 1)))
    last = 2 * Limits().streams + 1
    assert [f for f in client.frames() if f.kind == http2.RST_STREAM] == [
        Frame(http2.RST_STREAM, 0, last, number32(http2.REFUSED_STREAM))]


def test_6_5_3_settings_are_taken_in_their_order_and_acknowledged() -> None:
    """http2/6.5.3/1 and 2."""
    client = Client().greet()
    client.send(settings((4, 100), (4, 1)))
    assert client.frames() == [Frame(http2.SETTINGS, http2.ACK, 0, b"")]
    client.send(get(client))
    assert [len(f.payload) for f in client.frames() if f.kind == http2.DATA] == [1]


def test_6_9_replies_wait_for_the_windows() -> None:
    """http2/6.9.1/1, http2/6.9.2/1 and 2, generic/2/2 and 3."""
    client = Client().greet(number32(4)[2:] + number32(0))
    client.send(get(client))
    assert [f.kind for f in client.frames()] == [http2.HEADERS]
    client.send(priority(1, 0), settings((4, 3)))
    assert [len(f.payload) for f in client.frames() if f.kind == http2.DATA] == [3]
    client.send(settings((4, 1)))
    client.send(window(1, 2))
    assert [f.kind for f in client.frames()] == [http2.SETTINGS]
    client.send(window(1, 1))
    assert [len(f.payload) for f in client.frames()] == [1]


def test_6_9_clients_keep_to_our_windows() -> None:
    """The connection's isn't enlarged while 64 MiB of requests wait for their answers."""
    client = Client(answer=False).greet()
    for number in range(1, 99, 2):
        client.send(client.headers(number), client.body(number, bytes(4 * RECEIVE_WINDOW // 32)))
        if client.transport.closed:
            break
    assert (client.failed(), len(client.served)) == (FLOW, 15)


def test_old_streams_are_forgotten() -> None:
    client = Client().greet()
    for number in range(1, 4001, 2):
        client.send(client.call(number))
    assert len(client.connection._closed._recent) + len(client.connection._closed._older) <= 1024
    client.frames()
    client.send(data(1))
    assert client.failed() == CLOSED

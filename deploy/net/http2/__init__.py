"""HTTP/2 (RFC 9113) as a gRPC server needs it, and gRPC's messages in it.

    connection  one client as the event loop sees it: turns, seconds
    receiving   requests that come in; control: frames that are none
    sending     replies, windows, ends, and what a connection asks of its server
    streams     a request and its reply, the state they are in, and header fields
    frames      numbers, how frames are read and written
    limits      what a client may ask, and what it costs
    messages    requests and replies as gRPC writes them into HTTP/2

Own code, since the protocol's part of a unary call on the server's side was measured as 8 microseconds here, and as 160
to 300 in Python's `h2` 4 (no sockets, 500 calls on one connection), which would be most of a call. The tests have `h2`
as the other side. Where speed doesn't matter, `h2` is the better choice.
"""

from deploy import extras

extras.require("server", "the model server")

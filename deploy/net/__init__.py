"""Protocols of the wire, without a word about models.

    http1  HTTP/1.1: connections, a parser in C and what a request may have, replies
    http2  HTTP/2 and gRPC's messages in it: connections, streams, frames
    pool   threads for calls: a limited number, and calls that none of them gets to are refused
    ssh    one SSH connection, to hosts that are known
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)

"""HTTP/1.1 as libevent's server speaks it, which the real model server is built on; stricter where RFC 9112 is.

    connection  one client: requests in, replies out in their order, by turns
    parser      bytes -> requests, by httptools, and which are refused
    heads       what is wrong with a head or its target; heads that needn't be parsed again
    messages    requests and replies as values
    limits      what a client may take
"""

from deploy import extras

extras.require("server", "the model server")

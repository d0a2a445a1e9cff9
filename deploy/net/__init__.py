"""Protocols of the wire, without a word about models.

    http1    HTTP/1.1: connections, a parser in C and what a request may have, replies
    inflate  compressed bodies, unpacked within limits
"""

"""The page: `tfs ui`. What runs, where each version stands, releases step by step; in a browser, live.

    watching    one server, looked at again and again while somebody watches; `Feed`: the newest of everything, awaited
    timeline    a release's ledger lines as its steps, and the judge's numbers beside them
    answers     golden answers of a model's versions, and how they drift from version to version
    metrics     the server's own counters as rates and latencies over time
    actions     continue, abort, roll back: the same calls as the command line's, one at a time for each server
    web         the addresses (Starlette): JSON of the same values as `--json`, events, and the files in assets/
    guarding    which requests are answered at all: Host, Origin, token; the headers of every answer
    running     a port, uvicorn, and the address to open
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)

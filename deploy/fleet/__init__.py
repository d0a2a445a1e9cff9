"""Several servers of one spec: which of them, one verb on all of those, and a release of all in waves.

    members      which servers: by name, by group
    parallel     one verb on many servers, in a bounded number of threads; each server's result or error
    ready        are all of them ready?
    policy       a release of many, in waves: what comes next, decided from a snapshot alone
    server       one server of a release: where it stands, and each step of it, by the rollout of that server
    driver       carries a release out
    kept         what an open release keeps of the spec
    context      one operation: the lock, the ledger, a release that is begun, gone on with, driven
    running      roll_out, roll_back, go_on, abort, history: releases from the caller's side
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)

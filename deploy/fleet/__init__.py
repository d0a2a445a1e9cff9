"""Several servers of one spec: which of them, and one verb on all of those.

    members      which servers: by name, by group
    parallel     one verb on many servers, in a bounded number of threads; each server's result or error
    ready        are all of them ready?
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

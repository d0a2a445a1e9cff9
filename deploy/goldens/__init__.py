"""Recorded requests with their answers, kept inside a version; and how answers are compared.

    recorded   `Golden`, the only recorded request: from and to the version's file of warm-up requests
    warmup     that file, checked without a server
    examples   requests that fit a signature
    tolerances   how far an answer may be from the recorded one
    compare    are two answers the same, within tolerances? how far apart are those of two versions?
    timing     how long requests take

What is known of a whole version, its goldens with it, is `deploy.repository.VersionFacts`.
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)

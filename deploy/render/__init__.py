"""From values to what a server reads. Pure functions, but for `write`.

    configs   config files, command line, and the paths that the server finds things under; an existing models.config
              as a spec
    kubernetes/   the objects of a cluster
    writing   files that appear whole or not at all
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)

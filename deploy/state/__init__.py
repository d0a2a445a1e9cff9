"""What a server's state directory remembers between commands: what was released, and what is known to be good.

    ledger     append-only JSON lines; a line that a crash tore is passed over, an older release's read in today's words
    release    the ledger's lines as releases; what a restart may rely on
    fleet_release   the same of a ledger of many servers
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)

"""What a server's state directory remembers between commands: what was released, and what is known to be good.

    ledger     append-only JSON lines; a line that a crash tore is passed over, an older release's read in today's words
    release    the ledger's lines as releases; what a restart may rely on
    fleet_release   the same of a ledger of many servers
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

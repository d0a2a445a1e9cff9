"""What a server's state directory remembers between commands: what was released, and what is known to be good.

    ledger     append-only JSON lines; a line that a crash tore is passed over
    release    the ledger's lines as releases; what a restart may rely on
    lines      what each kind of line has; those of older releases in today's words
    fleet_release   the same of a ledger of many servers
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)

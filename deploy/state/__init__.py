"""What is remembered of a server between commands: what was released, what is known to be good; and who may change it.

    ledger     append-only JSON lines; a line that a crash tore is passed over
    release    the ledger's lines as releases; what a restart may rely on
    lines      what each kind of line has; those of older releases in today's words
    replacement     the ledger's lines as replacements of pods
    fleet_release   the same of a ledger of many servers
    exclusive  one operator at a time, wherever the others are; which ledger a server has
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)

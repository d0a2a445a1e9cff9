"""What a server's state directory remembers between commands: what was released, and what is known to be good.

    ledger     append-only JSON lines; a line that a crash tore is passed over, an older release's read in today's words
    releases   the ledger's lines as releases; what a restart may rely on
"""

from __future__ import annotations

from deploy.state.ledger import Ledger
from deploy.state.releases import Release, releases, started_from
from deploy.types import Serving

__all__ = ["Ledger", "Release", "Serving", "releases", "started_from"]

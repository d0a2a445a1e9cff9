"""No rollout begins in a freeze window of the spec, unless somebody says why. Rollbacks always do."""

from __future__ import annotations

from datetime import datetime

from deploy.errors import RolloutError
from deploy.spec import RolloutPart
from deploy.state.ledger import utc_now


def refuse_frozen(part: RolloutPart, despite: str = "", now: datetime | None = None) -> None:
    """Raises RolloutError within a window of rollout/freeze, unless `despite` says why it can't wait."""
    moment = now or utc_now()
    for number, window in enumerate(part.freeze):
        end = window.until(moment)
        if end is not None and not despite:
            why = f" ({window.why})" if window.why else ""
            raise RolloutError(f"no rollout begins until {end:%Y-%m-%d %H:%M %Z}: rollout/freeze/{number}{why}",
                               hint="wait, or give the reason why it can't: --despite-freeze REASON; a rollback is "
                                    "never kept waiting", id="frozen")

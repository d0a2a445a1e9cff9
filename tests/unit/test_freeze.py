"""Times in which nothing is released."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from deploy.errors import RolloutError, SpecError
from deploy.rollout.freezing import refuse_frozen
from deploy.spec import FreezeWindow, RolloutPart, parse

WEEKEND = FreezeWindow(start="Fri 16:00", end="Mon 08:00", zone="Europe/Berlin", why="nobody is here")
HOLIDAYS = FreezeWindow(start="2026-12-20", end="2027-01-02 08:00")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


@pytest.mark.parametrize(("window", "now", "frozen"), [
    (WEEKEND, "2026-11-27 14:59", False),
    (WEEKEND, "2026-11-27 15:00", True),
    (WEEKEND, "2026-11-29 12:00", True),
    (WEEKEND, "2026-11-30 06:59", True),
    (WEEKEND, "2026-11-30 07:00", False),
    (HOLIDAYS, "2026-12-19 23:59", False),
    (HOLIDAYS, "2026-12-20 00:00", True),
    (HOLIDAYS, "2027-01-02 07:59", True),
    (HOLIDAYS, "2027-01-02 08:00", False),
])
def test_when(window: FreezeWindow, now: str, frozen: bool) -> None:
    assert (window.until(utc(now)) is not None) is frozen


def test_a_rollout_is_refused_unless_somebody_says_why() -> None:
    part = RolloutPart(freeze=[HOLIDAYS, WEEKEND])
    says = r"until 2026-11-30 08:00 CET: rollout/freeze/1 \(nobody is here\); .*--despite-freeze"
    with pytest.raises(RolloutError, match=says):
        refuse_frozen(part, now=utc("2026-11-29 12:00"))
    refuse_frozen(part, "an outage", now=utc("2026-11-29 12:00"))
    refuse_frozen(part, now=utc("2026-12-01 12:00"))


@pytest.mark.parametrize(("window", "path", "says"), [
    ("{from: soon, to: later}", "rollout/freeze/0/from", "expected a weekday with a time or a date, got 'soon'"),
    ("{from: 'Fri 25:00', to: 'Mon 08:00'}", "rollout/freeze/0/from", "got 'Fri 25:00'"),
    ("{from: 'Fri 16:00', to: '2026-12-20'}", "rollout/freeze/0", "don't go together"),
    ("{from: '2026-12-20', to: '2026-12-20'}", "rollout/freeze/0", "before it begins"),
    ("{from: '2026-13-20', to: '2026-12-20'}", "rollout/freeze/0/from", "got '2026-13-20'"),
    ("{from: 2026-12-20, to: '2026-12-21'}", "rollout/freeze/0/from", "put it in quotes"),
    ("{from: 'Fri 16:00', to: 'fri 16:00'}", "rollout/freeze/0", "it would never end"),
    ("{from: 'Fri 16:00', to: 'Mon 08:00', timezone: Berlin}", "rollout/freeze/0/timezone", "no time zone 'Berlin'"),
])
def test_windows_that_can_not_be(window: str, path: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(f"models: [{{name: m, versions: 1}}]\nrollout: {{freeze: [{window}]}}", Path("/x/serving.yaml"))
    assert caught.value.path == path
    assert says in str(caught.value)

"""Times in which nothing is released: every week, or between two dates."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo

from msgspec import Meta, field

from deploy.errors import SpecError
from deploy.spec.base import Struct

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEKLY = re.compile(r"(?i)(mon|tue|wed|thu|fri|sat|sun) ([01][0-9]|2[0-3]):([0-5][0-9])")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}( [0-9]{2}:[0-9]{2})?")
_MOMENT = Annotated[str, Meta(description="a weekday and a time (Fri 16:00), or a date (2026-12-20, or with a time: "
                                          "2026-12-20 08:00)")]
_WEEK = timedelta(days=7)


class FreezeWindow(Struct, frozen=True):
    """No rollout begins from `from` up to `to`. Rollbacks do."""

    start: _MOMENT = field(name="from")
    end: _MOMENT = field(name="to")
    zone: Annotated[str, Meta(description="as Europe/Berlin")] = field(default="UTC", name="timezone")
    why: str = ""

    def until(self, now: datetime) -> datetime | None:
        """When it ends, if it is on at `now` (with a time zone). Raises SpecError for what `check` refuses."""
        zone = _zone(self.zone)
        here = now.astimezone(zone)
        if _WEEKLY.fullmatch(self.start):
            start = _latest(self.start, here)
            end = _latest(self.end, start) + _WEEK  # the first one after it
            return end if here < end else None
        begin, finish = (datetime.fromisoformat(text).replace(tzinfo=zone) for text in (self.start, self.end))
        return finish if begin <= here < finish else None


def check(windows: Iterable[FreezeWindow], path: str) -> None:
    """Raises SpecError for a window that means nothing."""
    for i, window in enumerate(windows):
        where = f"{path}/{i}"
        for name, text in (("from", window.start), ("to", window.end)):
            if not (_WEEKLY.fullmatch(text) or _is_date(text)):
                raise SpecError(f"expected a weekday with a time or a date, got {text!r}", path=f"{where}/{name}",
                                hint="write `Fri 16:00`, `2026-12-20` or `2026-12-20 08:00`, in quotes",
                                id="wrong-value")
        weekly = [bool(_WEEKLY.fullmatch(text)) for text in (window.start, window.end)]
        if weekly[0] != weekly[1]:
            raise SpecError(f"{window.start!r} and {window.end!r} don't go together", path=where,
                            hint="give two weekdays, or two dates", id="wrong-value")
        if not weekly[0] and datetime.fromisoformat(window.start) >= datetime.fromisoformat(window.end):
            raise SpecError(f"it ends at {window.end}, before it begins at {window.start}", path=where,
                            id="wrong-value")
        if weekly[0] and window.start.lower() == window.end.lower():
            raise SpecError(f"it would never end: it goes from {window.start} to {window.end}", path=where,
                            id="wrong-value")
        try:
            _zone(window.zone)
        except SpecError as e:
            raise SpecError(e.message, path=f"{where}/timezone", hint=e.hint, id=e.id) from None


def _is_date(text: str) -> bool:
    try:
        return bool(_DATE.fullmatch(text)) and bool(datetime.fromisoformat(text))
    except ValueError:
        return False


def _latest(text: str, before: datetime) -> datetime:
    """The last moment at or before `before` that is this weekday and time."""
    match = _WEEKLY.fullmatch(text)
    assert match is not None, text
    days = (before.weekday() - _DAYS.index(match[1].lower())) % 7
    day = (before - timedelta(days=days)).replace(hour=int(match[2]), minute=int(match[3]), second=0, microsecond=0)
    return day if day <= before else day - _WEEK


def _zone(name: str) -> tzinfo:
    if name.upper() == "UTC":  # needs no data
        return timezone.utc
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise SpecError(f"there is no time zone {name!r}", hint="write it as Europe/Berlin, or UTC; a machine without "
                        "any needs the package tzdata", id="wrong-value") from None

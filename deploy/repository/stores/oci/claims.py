"""Who gets a number, in a registry that knows neither locks nor conditional writes.

A put overwrites a tag, but nobody overwrites somebody else's, and what was put before a listing is in it:

    claim-4-<id>             somebody wants number 4; the note under it says who
    claim-4-<id>-held        and has it
    claim-4-<id>-withdrawn   wants it no more, where the registry lets nobody delete
    retired-4                there was a version 4

Whoever wants a number puts its claim first and lists the tags then. Alone, it has the number: whoever lists later sees
its claim. Of several that see each other the one with the lowest id waits until the others, who see it, have gone.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from deploy.errors import RepositoryError
from deploy.locks import Owner
from deploy.repository.stores.oci.image import LABEL
from deploy.repository.stores.oci.remote import Remote
from deploy.waiting import Deadline, poll
from deploy.wire.model_config import by_version

CLAIM = "application/vnd.tfs-deploy.claim.v1"
_OWNER = f"{LABEL}.owner"
_TAG = re.compile(r"claim-([1-9][0-9]{0,18})-([0-9a-f]{12})(?:-(held|withdrawn))?")
_RETIRED = re.compile(r"retired-([1-9][0-9]{0,18})")
_WAIT = 15.0  # seconds for others that want the same number to go


@dataclass(slots=True)
class Claim:
    """A number that somebody wants. states: `held`, `withdrawn`."""

    number: int
    id: str
    states: set[str] = field(default_factory=set)

    @property
    def tag(self) -> str:
        return f"claim-{self.number}-{self.id}"


def claims(tags: Iterable[str]) -> list[Claim]:
    """All that are among tags, of all numbers."""
    there: dict[tuple[str, str], Claim] = {}
    for match in filter(None, map(_TAG.fullmatch, tags)):
        claim = there.setdefault((match[1], match[2]), Claim(int(match[1]), match[2]))
        if match[3]:
            claim.states.add(match[3])
    return list(there.values())


def is_note(tag: str) -> bool:
    """Whether a tag isn't a version's, but ours to remember something."""
    return bool(_TAG.fullmatch(tag) or _RETIRED.fullmatch(tag))


def next_number(tags: Iterable[str]) -> int:
    """One more than the highest number that exists, existed, or is claimed."""
    tags = list(tags)
    retired = [int(match[1]) for match in map(_RETIRED.fullmatch, tags) if match]
    claimed = [claim.number for claim in claims(tags) if "withdrawn" not in claim.states]
    return max((0, *by_version(tags), *retired, *claimed)) + 1


def take(remote: Remote, number: int) -> Claim | None:
    """Claim a number; None if it is somebody else's, or exists."""
    claim = Claim(number, secrets.token_hex(6))
    annotations = {_OWNER: json.dumps(Owner.here("publish").to_json()), f"{LABEL}.claim": claim.tag}
    remote.note(claim.tag, CLAIM, annotations)

    def mine() -> bool | None:
        tags = remote.tags()
        others = [other for other in claims(tags) if other.number == number and other.id != claim.id
                  and "withdrawn" not in other.states and _is_there(remote, other)]
        if number in by_version(tags) or any("held" in other.states or other.id < claim.id for other in others):
            return False
        if others:
            return None
        # Between the pages of the list its last owner may have shown the version and taken the claim back
        return remote.find_digest(str(number)) is None

    try:
        won = poll(mine, Deadline(_WAIT))
        if won:
            remote.note(f"{claim.tag}-held", CLAIM, annotations)
            return claim
    except BaseException:
        with suppress(OSError):
            withdraw(remote, claim)
        raise
    withdraw(remote, claim)
    return None


def _is_there(remote: Remote, claim: Claim) -> bool:
    """docker-registry lists tags that it doesn't have yet, whose owner will see our claim; and some that it deleted."""
    return remote.find_digest(claim.tag) is not None


def withdraw(remote: Remote, claim: Claim) -> None:
    """Take a claim back: whoever wants the number may have it."""
    forget(remote, claim) or remote.note(f"{claim.tag}-withdrawn", CLAIM, {f"{LABEL}.claim": claim.tag})


def forget(remote: Remote, claim: Claim) -> bool:
    """Remove a claim. False where the registry doesn't let anybody delete."""
    digest = remote.find_digest(claim.tag)
    return digest is None or remote.delete(digest)


def retire(remote: Remote, number: int) -> None:
    """Remember that there was a version, so that its number isn't given again."""
    remote.note(f"retired-{number}", CLAIM, {f"{LABEL}.retired": str(number)})


def holder(remote: Remote, number: int, tags: Iterable[str]) -> Owner | None:
    """Who claims a number, as far as that can be read."""
    for claim in claims(tags):
        if claim.number == number and "withdrawn" not in claim.states and (owner := _owner(remote, claim)[0]):
            return owner
    return None


def abandoned(remote: Remote, claim: Claim, older_than: float) -> bool:
    """Whether its process is dead, or can't be seen from here and has claimed it so many seconds ago."""
    owner, since = _owner(remote, claim)
    if owner is not None and owner.on_this_host:
        return not owner.alive
    return time.time() - since > older_than


def _owner(remote: Remote, claim: Claim) -> tuple[Owner | None, float]:
    """Who, since when."""
    try:
        annotations = remote.manifest(claim.tag).fields["annotations"]
        owner = Owner.from_json(json.loads(annotations[_OWNER]))
        return owner, datetime.fromisoformat(owner.since).timestamp()
    except (FileNotFoundError, RepositoryError, ValueError, TypeError, LookupError, RecursionError):
        return None, 0.0

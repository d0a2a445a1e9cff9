"""More or fewer recorded requests: in another version of the same model, since published ones never change."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from deploy import checks, goldens
from deploy.errors import DeployError, ExportError, Malformed, RepositoryError, SpecError
from deploy.goldens.recorded import ENGINE, FILE, LIMIT, Golden
from deploy.goldens.tolerances import Tolerances
from deploy.regression.comparing import Ask, answer, on_engine
from deploy.repository import Published, Repository
from deploy.types import ModelVersion
from deploy.wire import records

if TYPE_CHECKING:
    from deploy.checks import Gate

Progress = Callable[[str], None]

_MOST_RECORDS = 10 * LIMIT  # that can be thinned out here

EDITED_FROM = "edited_from"
"""In the manifest's `producer`: the version whose files a version shares, all but its recorded requests."""


@dataclass(frozen=True, slots=True)
class Edited:
    """The version that was made. added, removed: records. notes: what was left out, and why."""

    published: Published
    added: int = 0
    removed: int = 0
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Plain JSON data."""
        return {"model": self.published.mv.name, "version": self.published.mv.version,
                "path": str(self.published.path), "goldens": self.published.manifest.goldens, "added": self.added,
                "removed": self.removed, "notes": list(self.notes)}


def add(repository: Repository, mv: ModelVersion, requests: Sequence[Golden], version: int | None = None,
        progress: Progress | None = None, *, gate: Gate | None = None) -> Edited:
    """Publish `mv` again with these requests and the answers that it gives, run without a server as `on_engine` does.

    gate: what refuses to run or to publish; by default `checks.gate()`.
    Raises CheckFailed, ExportError for a request that it refuses or answers differently from call to call,
    RepositoryError for more records than a server takes (1000).
    """
    path = repository.path(mv)
    have = stored(path)
    if len(have) + len(requests) > LIMIT:
        raise RepositoryError(f"{mv} has {len(have)} records, and {len(requests)} more are over {LIMIT}, the most that "
                              "a server takes", hint="remove some with `tfs goldens remove`, or add fewer")
    if progress:
        progress(f"asking {mv}")
    with on_engine(path, gate) as ask:
        limits = repository.facts(mv).tolerances
        new = [_required(answered(ask, request, limits)) for request in requests]
    published = publish(repository, mv, [*have, *(goldens.encode(golden, mv.name) for golden in new)], version, gate)
    return Edited(published, added=len(new))


def remove(repository: Repository, mv: ModelVersion, numbers: Sequence[int], version: int | None = None, *,
           gate: Gate | None = None) -> Edited:
    """Publish `mv` again without these records, by their numbers from 0. Raises SpecError for a number without one.

    The file may hold records that can't be read as goldens; their bytes have to be whole TFRecords.
    """
    have = stored(repository.path(mv))
    wrong = [number for number in numbers if not 0 <= number < len(have)]
    if wrong:
        there = f"it has {len(have)}, from 0 to {len(have) - 1}" if have else "it has none"
        raise SpecError(f"{mv} has no record {wrong[0]}", hint=f"{there}; see `tfs goldens list {mv}`")
    left = [data for number, data in enumerate(have) if number not in set(numbers)]
    return Edited(publish(repository, mv, left, version, gate), removed=len(have) - len(left))


def stored(directory: Path) -> list[bytes]:
    """The records of a version as they stand in its file. Raises Malformed for a damaged one."""
    path = directory / FILE
    if not os.path.lexists(path):
        return []
    stored_records = list(islice(records.read(path, goldens.MOST_BYTES), _MOST_RECORDS + 1))
    if len(stored_records) > _MOST_RECORDS:
        raise Malformed(f"{path} has more than {_MOST_RECORDS:,} records, and a server takes {LIMIT}",
                        hint="write the file again, or remove it")
    return stored_records


def answered(ask: Ask, request: Golden, limits: Tolerances) -> Golden | str:
    """The request with its answer; a sentence if it is refused, or answered differently a second time."""
    signature, inputs = request.signature, request.inputs
    first, second = answer(ask, signature, inputs), answer(ask, signature, inputs)
    if isinstance(first, str) or isinstance(second, str):
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
        return f"signature {signature!r} refuses a request ({shapes}): {first if isinstance(first, str) else second}"
    changed = goldens.differences(signature, first, second, limits)
    if changed:
        return f"signature {signature!r} answers differently from call to call: {changed[0]}"
    return replace(request, outputs=first, origin=ENGINE)


def publish(repository: Repository, mv: ModelVersion, data: Sequence[bytes], version: int | None,
            gate: Gate | None = None) -> Published:
    """Another version with the files of `mv` and these records, if the gate lets it pass. Tolerances and producers
    stay.
    """
    source = repository.path(mv)
    with repository.stage(mv.name, version) as stage:
        stage.fill(source, without=FILE)
        if data:
            (stage.path / FILE).parent.mkdir(exist_ok=True)
            records.write(stage.path / FILE, data)
        try:
            (gate or checks.gate())(stage.path)
        except DeployError as error:  # the stage's name tells nobody anything
            error.message = error.message.replace(str(stage.path), str(source))
            raise
        return stage.publish(producer={EDITED_FROM: str(mv)})


def _required(reply: Golden | str) -> Golden:
    if isinstance(reply, str):
        raise ExportError(reply, hint="a golden needs an answer that repeats itself; nothing was published")
    return reply

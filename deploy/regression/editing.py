"""Another version of the same model with more or fewer records: added, removed, or imported from a server's."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy import checks, goldens, savedmodel
from deploy.checks import Gate
from deploy.errors import BadReply, DeployError, ExportError, Malformed, RepositoryError, SpecError
from deploy.goldens import warmup
from deploy.goldens.recorded import ENGINE, FILE, LIMIT, SERVER, Golden
from deploy.goldens.tolerances import Tolerances
from deploy.regression.comparing import Ask, answer, on_engine
from deploy.repository import Published, Repository
from deploy.types import DEFAULT_SIGNATURE, Contract, ModelVersion
from deploy.wire import records
from deploy.wire import serving_pb2 as pb

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
                              "a server takes", hint="remove some with `tfs goldens remove`, or add fewer",
                              id="too-many-goldens")
    if progress:
        progress(f"asking {mv}")
    with on_engine(path, gate) as ask:
        limits = tolerances_of(repository, mv)
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
        raise SpecError(f"{mv} has no record {wrong[0]}", hint=f"{there}; see `tfs goldens list {mv}`",
                        id="unknown-record")
    left = [data for number, data in enumerate(have) if number not in set(numbers)]
    return Edited(publish(repository, mv, left, version, gate), removed=len(have) - len(left))


def tolerances_of(repository: Repository, mv: ModelVersion) -> Tolerances:
    """As published; none of another tool's version. Its recorded requests aren't read for that."""
    manifest = repository.find_manifest(mv)
    return manifest.limits() if manifest else {}


def stored(directory: Path) -> list[bytes]:
    """The records of a version as they stand in its file. Raises Malformed for a damaged one."""
    path = directory / FILE
    if not os.path.lexists(path):
        return []
    stored_records = list(islice(records.read(path, goldens.MOST_BYTES), _MOST_RECORDS + 1))
    if len(stored_records) > _MOST_RECORDS:
        raise Malformed(f"{path} has more than {_MOST_RECORDS:,} records, and a server takes {LIMIT}",
                        hint="write the file again, or remove it", id="too-many-goldens")
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
        raise ExportError(reply, hint="a golden needs an answer that repeats itself; nothing was published",
                          id="golden-not-repeatable")
    return reply


def import_file(repository: Repository, mv: ModelVersion, file: str | Path, version: int | None = None, *,
                most: int | None = None, recorded_answers: bool = True, progress: Progress | None = None,
                gate: Gate | None = None) -> Edited:
    """Publish `mv` again with the requests of a TFRecord file of PredictionLogs.

    Requests that stand in the file twice, or in the version already, are taken once. More than there is room for (or
    than `most`): evenly spread over the file. Recorded answers are kept and marked so; requests without one, or with
    a part of one, are answered by the version itself, run without a server, and marked so. Classify, regress and
    multi-inference requests become warm-up without an answer. What doesn't fit the version is left out; notes tell.

    gate: as of `add`. recorded_answers: False: the version itself answers all.
    Raises RepositoryError if the file is damaged, or holds nothing that fits.
    """
    path = repository.path(mv)
    contract = savedmodel.read(path).contract
    have = stored(path)
    survey = _survey(Path(file), contract, {_request(data) for data in have})
    room = LIMIT - len(have) if most is None else min(most, LIMIT - len(have))
    chosen = set(_spread(survey.numbers, room))
    if len(chosen) < len(survey.numbers):
        survey.left_out[f"there was room for {len(chosen)} only"] = len(survey.numbers) - len(chosen)
    if progress:
        progress(f"asking {mv}")
    with on_engine(path, gate) as ask:
        job = _Job(ask, tolerances_of(repository, mv), mv.name, recorded_answers, survey.left_out)
        new = [record for number, data in enumerate(records.read(file)) if number in chosen
               if (record := job.record(pb.PredictionLog.FromString(data))) is not None]
    if not new:
        raise RepositoryError(f"nothing of {file} was taken: {_counted(survey.left_out) or 'it is empty'}",
                              hint=f"its requests have to fit the signatures of {mv}")
    published = publish(repository, mv, [*have, *new], version, gate)
    return Edited(published, added=len(new), notes=tuple(f"{count} left out: {why}" for why, count in
                                                    survey.left_out.items()))


@dataclass(slots=True)
class _Survey:
    numbers: list[int] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def _survey(path: Path, contract: Contract, known: set[bytes]) -> _Survey:
    """Which records fit. Only numbers and digests are kept: such files are large."""
    survey = _Survey()
    for number, data in enumerate(records.read(path)):
        log = goldens.parse(data, f"{path}: record {number}")
        why = _misfit(log, contract)
        request = _request(data)
        if why or request in known:
            survey.left_out[why or "the same request again"] += 1
        else:
            known.add(request)
            survey.numbers.append(number)
    return survey


def _misfit(log: pb.PredictionLog, contract: Contract) -> str:
    if log.HasField("session_run_log"):
        return "a session run, which belongs to one graph only"
    if not log.WhichOneof("log_type"):
        return "no request in it"
    return next((what for fatal, what in warmup.examine(log, contract) if fatal), "")


@dataclass(slots=True)
class _Job:
    ask: Ask
    limits: Tolerances
    model: str
    keep: bool
    left_out: Counter[str]

    def record(self, log: pb.PredictionLog) -> bytes | None:
        """What is stored of it; None if nothing can be."""
        if not log.HasField("predict_log"):
            return log.SerializeToString(deterministic=True)
        try:
            golden = goldens.golden(log)
        except BadReply as error:
            self.left_out[error.message] += 1
            return None
        if self.keep and golden.outputs and not log.predict_log.request.output_filter:
            return goldens.encode(replace(golden, origin=golden.origin or SERVER), self.model)
        reply = answered(self.ask, golden, self.limits)
        if isinstance(reply, str):
            self.left_out[reply] += 1
            return None
        return goldens.encode(reply, self.model)


def _request(data: bytes) -> bytes:
    """A digest of what makes two records the same: kind, signature and inputs."""
    log = pb.PredictionLog.FromString(data)
    log_type = log.WhichOneof("log_type") or ""
    request: Any = getattr(log, log_type).request if log_type else log
    if "model_spec" in request.DESCRIPTOR.fields_by_name:
        request.model_spec.ClearField("name")
        request.model_spec.ClearField("version_choice")
        request.model_spec.signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    return hashlib.blake2b(log_type.encode() + b"\0" + request.SerializeToString(deterministic=True),
                           digest_size=16).digest()


def _spread(numbers: list[int], room: int) -> list[int]:
    if len(numbers) <= room:
        return numbers
    return [numbers[index * len(numbers) // room] for index in range(max(room, 0))]


def _counted(left_out: Counter[str]) -> str:
    return "; ".join(f"{count}: {why}" for why, count in left_out.most_common(3))

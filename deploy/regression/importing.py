"""Requests that a server has recorded become goldens of a version."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deploy import goldens, savedmodel
from deploy.checks import Gate
from deploy.errors import BadReply, RepositoryError
from deploy.goldens import warmup
from deploy.goldens.recorded import LIMIT, SERVER
from deploy.goldens.tolerances import Tolerances
from deploy.regression.comparing import Ask, on_engine
from deploy.regression.editing import Edited, Progress, answered, publish, stored
from deploy.repository import Repository
from deploy.types import DEFAULT_SIGNATURE, Contract, ModelVersion
from deploy.wire import records
from deploy.wire import serving_pb2 as pb


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
        job = _Job(ask, repository.facts(mv).tolerances, mv.name, recorded_answers, survey.left_out)
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

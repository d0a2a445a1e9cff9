"""A file of warm-up requests, checked without a server: what would make a version fail when it loads?

Sources: tensorflow_serving/servables/tensorflow/saved_model_warmup_util.cc, saved_model_warmup.cc; seen on 2.20.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from deploy import wire
from deploy.errors import BadReply, IncompleteVersion, RepositoryError
from deploy.goldens.recorded import FILE, LIMIT, MOST_BYTES, answered
from deploy.savedmodel import tflite
from deploy.types import CLASSIFY_METHOD, DEFAULT_SIGNATURE, REGRESS_METHOD, Contract, Signature, TensorSpec
from deploy.wire import records
from deploy.wire import serving_pb2 as pb
from deploy.wire.dtypes import dtype_from_number

UNSUPPORTED = ("predict_streamed_log",)
SESSION_RUN = "session_run_log"
"""It feeds and runs any node of the graph, also what no signature reaches: a server does it, and mustn't."""

_COUNTED = 10 * LIMIT
_SHOWN = 20  # problems of a record, and names in a sentence
_METHODS = {"classify_log": CLASSIFY_METHOD, "regress_log": REGRESS_METHOD}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong. record: its number from 0; None: with the file. fatal: a server refuses the version, or should."""

    record: int | None
    fatal: bool
    what: str

    def __str__(self) -> str:
        return self.what if self.record is None else f"record {self.record}: {self.what}"

    def to_json(self) -> dict[str, object]:
        return {"record": self.record, "fatal": self.fatal, "what": self.what}


@dataclass(frozen=True, slots=True)
class Checked:
    """A warm-up file. kinds: how many records of each kind of log. goldens: records that have their answer."""

    path: Path
    records: int
    goldens: int
    kinds: Mapping[str, int]
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """A server would take it."""
        return not any(problem.fatal for problem in self.problems)

    def raise_if_refused(self) -> None:
        """Raises RepositoryError with the first thing that a server refuses."""
        fatal = [problem for problem in self.problems if problem.fatal]
        if fatal:
            more = f"; and {len(fatal) - 1} more" if len(fatal) > 1 else ""
            raise RepositoryError(f"{self.path}: {fatal[0]}{more}", hint="a server refuses to load a version with such "
                                  "a file: export it again, or remove the record with `tfs goldens remove`",
                                  details={"problems": [problem.to_json() for problem in self.problems]},
                                  id="warmup-broken")

    def to_json(self) -> dict[str, object]:
        """Plain JSON data."""
        return {"path": str(self.path), "ok": self.ok, "records": self.records, "goldens": self.goldens,
                "kinds": dict(self.kinds), "problems": [problem.to_json() for problem in self.problems]}


def check(version_dir: str | Path, contract: Contract) -> Checked | None:
    """Read a version's file of warm-up requests, record by record, and hold each against the signatures.

    None if there is no such file. Never raises for what stands in it.
    """
    path = Path(version_dir) / FILE
    if not os.path.lexists(path):
        return None
    kinds, problems, goldens, number = dict[str, int](), list[Problem](), 0, -1
    try:
        for number, data in enumerate(islice(records.read(path, MOST_BYTES), _COUNTED)):
            if number >= LIMIT:  # they are counted only; there may be millions
                continue
            kind, golden, complaints = _record(data, contract)
            kinds[kind] = kinds.get(kind, 0) + 1
            goldens += golden
            problems += [Problem(number, fatal, what) for fatal, what in complaints]
    except RepositoryError as error:
        problems.append(Problem(None, True, error.message.removeprefix(f"{path}: ")))
    if number >= LIMIT:
        count = f"{number + 1}{' or more' * (number + 1 == _COUNTED)}"
        problems.insert(0, Problem(None, True, f"{count} records, and a server refuses more than {LIMIT}"))
    return Checked(path, number + 1, goldens, kinds, tuple(problems))


def for_tflite(version_dir: str | Path) -> tuple[Problem, ...]:
    """Why a server that prefers the version's model.tflite would refuse it for its warm-up file.

    Raises IncompleteVersion or BadReply for a TFLite file that can't be read.
    """
    path = Path(version_dir) / tflite.FILE
    if not path.is_file() or not (Path(version_dir) / FILE).exists():
        return ()
    checked = check(version_dir, tflite.served(path))
    return tuple(problem for problem in checked.problems if problem.fatal) if checked else ()


def with_tflite(checked: Checked, version_dir: str | Path) -> Checked:
    """`checked`, and notes about what a server that prefers the version's model.tflite would refuse."""
    try:
        refused = for_tflite(version_dir)
    except (IncompleteVersion, BadReply) as error:
        refused = (Problem(None, True, error.message),)
    notes = (Problem(p.record, False, f"with --prefer_tflite_model a server refuses the version: {p.what}")
             for p in refused if p not in checked.problems)
    return replace(checked, problems=(*checked.problems, *notes))


Complaint = tuple[bool, str]


def _record(data: bytes, contract: Contract) -> tuple[str, bool, list[Complaint]]:
    try:
        log = pb.PredictionLog.FromString(data)
    except DecodeError:
        return "unreadable", False, [(True, f"its {len(data)} bytes are no PredictionLog")]
    return log.WhichOneof("log_type") or "empty", answered(log), list(islice(examine(log, contract), _SHOWN))


def examine(log: pb.PredictionLog, contract: Contract) -> Iterator[Complaint]:
    """What is wrong with one record: (whether a server refuses it, a sentence)."""
    kind = log.WhichOneof("log_type")
    if kind is None:
        yield False, "it holds no request; servers skip it"
        return
    if kind in UNSUPPORTED:
        yield True, f"it is a {kind}, which servers don't replay"
        return
    if kind == SESSION_RUN:
        yield True, f"it is a {kind}, which runs any node of the graph past its signatures"
        return
    checks: Mapping[str, Callable[[], Iterator[Complaint]]] = {
        "predict_log": lambda: _predict(log.predict_log, contract),
        "classify_log": lambda: _examples(kind, log.classify_log.request, contract),
        "regress_log": lambda: _examples(kind, log.regress_log.request, contract),
    }
    if kind in checks:
        yield from checks[kind]()


def _predict(log: pb.PredictLog, contract: Contract) -> Iterator[Complaint]:
    signature, complaints = _signature(log.request.model_spec, contract)
    yield from complaints
    if signature is None:
        return
    wanted = {spec.name: spec for spec in signature.inputs}
    for name in wanted.keys() - log.request.inputs.keys():
        yield True, f"input {name!r} of {signature.name} is missing"
    for name in log.request.inputs.keys() - wanted.keys():
        yield True, f"{signature.name} has no input {name!r}"
    yield from _tensors("input", log.request.inputs, wanted, fatal=True)
    answered = {spec.name: spec for spec in signature.outputs}
    for name in log.response.outputs.keys() - answered.keys():
        yield False, f"{signature.name} has no output {name!r}, so the recorded answer can't be right"
    yield from _tensors("output", log.response.outputs, answered, fatal=False)
    if not log.response.outputs:
        yield False, "it has no answer, so it warms up and proves nothing"


def _examples(kind: str, request: Any, contract: Contract) -> Iterator[Complaint]:
    signature, complaints = _signature(request.model_spec, contract)
    yield from complaints
    if signature is not None and signature.method_name != _METHODS[kind]:
        yield True, f"a {kind} for {signature.name}, whose method is {signature.method_name or 'none'}"
    if not request.input.WhichOneof("kind"):
        yield True, "it holds no examples"


def _signature(spec: pb.ModelSpec, contract: Contract) -> tuple[Signature | None, list[Complaint]]:
    name = spec.signature_name or DEFAULT_SIGNATURE
    if name in contract:
        return contract[name], []
    there = f"there is {', '.join(islice(contract, _SHOWN))}" if contract else "there is none"
    return None, [(True, f"the model has no signature {name!r} ({there})")]


def _tensors(kind: str, sent: Mapping[str, Any], wanted: Mapping[str, TensorSpec], *, fatal: bool
             ) -> Iterator[Complaint]:
    for name in sent.keys() & wanted.keys():
        spec = wanted[name]
        try:
            wire.tensors.check(sent[name])
        except BadReply as error:
            yield fatal, f"{kind} {name!r} is damaged: {error.message}"
            continue
        dtype, shape = dtype_from_number(sent[name].dtype), wire.tensors.shape_of(sent[name])
        if dtype != spec.dtype:
            yield fatal, f"{kind} {name!r} is {dtype}, and the signature says {spec.dtype}"
        if not _fits(shape, spec.shape):
            yield False, f"{kind} {name!r} has the shape {list(shape)}, and the signature says {spec}"


def _fits(shape: Iterable[int], wanted: tuple[int | None, ...] | None) -> bool:
    sizes = tuple(shape)
    return wanted is None or (len(sizes) == len(wanted) and
                              all(want in (None, size) for size, want in zip(sizes, wanted, strict=True)))

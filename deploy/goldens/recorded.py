"""Golden cases: recorded requests with the answers they should get, kept inside the version.

They live in the file that TF Serving reads its warm-up requests from: TFRecords of PredictionLog, whose request the
server replays before a version becomes available, and whose response it ignores.
Source: tensorflow_serving/servables/tensorflow/saved_model_warmup_util.h.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from deploy import goldens, wire
from deploy.errors import BadReply, Malformed, RepositoryError
from deploy.goldens.tolerances import Tolerances
from deploy.types import DEFAULT_SIGNATURE
from deploy.wire import records
from deploy.wire import serving_pb2 as pb
from deploy.wire.dtypes import Arrays

FILE = "assets.extra/tf_serving_warmup_requests"
LIMIT = 1000  # the server refuses a version with more records
MOST_BYTES = 1 << 32
"""Of such a file, as far as it is read here."""

ENGINE = "engine"  # answered by the version itself, run without a server
SERVER = "server"  # answered by a server, and recorded there


@dataclass(frozen=True, slots=True)
class Golden:
    """A predict request on `signature` with the answer it should get.

    inputs, outputs: by name. Strings: dtype object, bytes. No outputs: a request that nobody has answered yet.
    origin: whose answer it is: empty for the exported object's own, ENGINE, or SERVER.
    tolerances: how far an answer may be from this one, those of the whole version; they aren't kept in the record.
    """

    signature: str
    inputs: Arrays
    outputs: Arrays = field(default_factory=dict)
    origin: str = ""
    tolerances: Tolerances = field(default_factory=dict)

    def differences(self, answer: Arrays) -> list[str]:
        """A sentence for each output of `answer` that isn't as recorded."""
        return goldens.differences(self.signature, self.outputs, answer, self.tolerances)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A warm-up file's content. skipped: records that are no golden case (other APIs, no response)."""

    goldens: tuple[Golden, ...]
    skipped: int


def write(version_dir: str | Path, goldens: Sequence[Golden], model: str) -> Path:
    """Write the goldens, for the model called `model`, into a version directory; an earlier file is replaced.

    Raises RepositoryError if there are more than the server takes (1000), or the file can't be written.
    """
    if len(goldens) > LIMIT:
        raise RepositoryError(f"{len(goldens)} golden cases for {model!r}; TF Serving refuses a version with more than "
                              f"{LIMIT} warm-up records", hint="give fewer examples", id="too-many-goldens")
    path = Path(version_dir) / FILE
    path.parent.mkdir(exist_ok=True)
    records.write(path, (encode(golden, model) for golden in goldens))
    return path


def encode(golden: Golden, model: str) -> bytes:
    """A golden as a record of the file."""
    return _log(golden, model).SerializeToString(deterministic=True)


def read(version_dir: str | Path) -> list[Golden]:
    """The goldens of a version, none if it has no such file. Raises as `scan` does."""
    return list(scan(version_dir).goldens)


def scan(version_dir: str | Path) -> Recorded:
    """The goldens of a version and how many other records stand beside them.

    Raises Malformed for a damaged file: one that can't be read, with more records than a server takes, or with a tensor
    that doesn't add up or takes far more memory than its record.
    """
    path = Path(version_dir) / FILE
    if not os.path.lexists(path):
        return Recorded((), 0)
    recorded, skipped, left = [], 0, wire.tensors.FILL_LIMIT
    for number, data in enumerate(records.read(path, MOST_BYTES)):
        where = f"{path}: record {number}"
        if number >= LIMIT:
            raise Malformed(f"{path}: more than {LIMIT} records, which no server takes",
                            hint="remove some with `tfs goldens remove`", id="too-many-goldens")
        log = parse(data, where)
        if not answered(log):
            skipped += 1
            continue
        try:
            left -= _filled(log)
            if left < 0:
                raise BadReply(f"its tensors repeat one value over more than {wire.tensors.FILL_LIMIT} bytes")
            recorded.append(golden(log))
        except BadReply as error:
            raise Malformed(f"{where}: {error.message}", hint=error.hint or "record it again") from error
    return Recorded(tuple(recorded), skipped)


def _filled(log: pb.PredictionLog) -> int:
    """Bytes that the tensors of a predict request take beyond those that stand in it."""
    maps = log.predict_log.request.inputs, log.predict_log.response.outputs
    return sum(max(0, wire.tensors.claimed(tensor) - wire.tensors.STRING_SIZE * tensor.ByteSize())
               for tensors_of in maps for tensor in tensors_of.values())


def requests(path: str | Path, hint: str = "name another file") -> list[Golden]:
    """The predict requests of any TFRecord file of PredictionLogs, answered or not; other logs are passed over.

    hint: what to do about a file that can't be used.
    Raises RepositoryError if there is no such file or it holds no predict request; Malformed if it is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise RepositoryError(f"there is no file {path} with recorded requests", hint=hint, id="no-goldens")
    asked = []
    for number, data in enumerate(records.read(path)):
        where = f"{path}: record {number}"
        log = parse(data, where)
        if log.HasField("predict_log"):
            try:
                asked.append(golden(log))
            except BadReply as error:
                raise Malformed(f"{where}: {error.message}", hint=error.hint or "record it again") from error
    if not asked:
        raise RepositoryError(f"{path} holds no predict request", hint=hint, id="no-goldens")
    return asked


def answered(log: pb.PredictionLog) -> bool:
    """Whether it is a predict request with its answer."""
    return log.HasField("predict_log") and bool(log.predict_log.response.outputs)


def golden(log: pb.PredictionLog) -> Golden:
    """A predict request, with its answer if it has one. Raises BadReply for a tensor that can't be read."""
    request, response = log.predict_log.request, log.predict_log.response
    return Golden(request.model_spec.signature_name or DEFAULT_SIGNATURE,
                  {name: wire.tensors.decode(tensor) for name, tensor in request.inputs.items()},
                  {name: wire.tensors.decode(tensor) for name, tensor in response.outputs.items()},
                  log.log_metadata.request_origin)


def _log(golden: Golden, model: str) -> pb.PredictionLog:
    log = pb.PredictionLog()
    if golden.origin:
        log.log_metadata.request_origin = golden.origin
    for message in (log.predict_log.request, log.predict_log.response):
        message.model_spec.name = model
        message.model_spec.signature_name = golden.signature
    _encode(golden.inputs, log.predict_log.request.inputs)
    _encode(golden.outputs, log.predict_log.response.outputs)
    return log


def _encode(arrays: Arrays, into: Any) -> None:
    for name, array in arrays.items():
        into[name].CopyFrom(wire.tensors.encode(array))


def parse(data: bytes, where: str) -> pb.PredictionLog:
    """A record of the file. Raises Malformed naming `where`."""
    try:
        return pb.PredictionLog.FromString(data)
    except DecodeError as error:
        raise Malformed(f"{where} is no PredictionLog", hint="export the version again") from error

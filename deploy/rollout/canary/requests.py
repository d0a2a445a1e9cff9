"""What both sides are asked: recorded requests if there are any, else generated ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from deploy import goldens
from deploy.errors import BadReply, BadRequest, RepositoryError
from deploy.goldens import examples
from deploy.types import CLASSIFY_METHOD, REGRESS_METHOD, Contract, TensorSpec
from deploy.wire import records


@dataclass(frozen=True, slots=True)
class Request:
    """A predict request, addressed to nobody yet."""

    signature: str
    inputs: Mapping[str, NDArray[Any]]


def from_file(path: str | Path) -> list[Request]:
    """The predict requests of a TFRecord file of PredictionLogs; other logs are passed over.

    Raises RepositoryError if there is no such file, it is damaged, or holds no predict request.
    """
    path = Path(path)
    if not path.is_file():
        raise RepositoryError(f"there is no file {path} with recorded requests",
                              hint="correct rollout/compare/requests in the spec")
    found = []
    for number, data in enumerate(records.read(path)):
        log = goldens.parse(data, f"{path}: record {number}")
        if log.HasField("predict_log"):
            try:
                golden = goldens.golden(log)
            except BadReply as e:
                raise RepositoryError(f"{path}: record {number}: {e.message}") from e
            found.append(Request(golden.signature, golden.inputs))
    if not found:
        raise RepositoryError(f"{path} holds no predict request", hint="record some, or leave the file out of the spec")
    return found


def from_version(directory: str | Path) -> list[Request]:
    """The golden cases of a version; none if it has none. Raises RepositoryError for a damaged file."""
    return [Request(g.signature, g.inputs) for g in goldens.read(directory)]


def generated(contract: Contract, features: Mapping[str, Sequence[TensorSpec]] | None = None, count: int = 4
              ) -> list[Request]:
    """Requests that fit the signatures, always the same."""
    found = []
    for signature in contract.values():
        if signature.method_name in (CLASSIFY_METHOD, REGRESS_METHOD):
            continue
        for seed in range(count):
            try:
                found.append(Request(signature.name, examples.generate(signature, seed=seed, features=features)))
            except BadRequest:  # a resource or variant, say
                break
    return found

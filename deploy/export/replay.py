"""Answers recorded requests from a SavedModel in a process of its own: `python -m deploy.export.replay`.

No TensorFlow in Python, no code of the model's author: what answers here is what a server will have. The process may be
started early; it opens the library, then waits for one line of JSON on stdin:

    {"directory": SavedModel, "requests": file of PredictRequests, "answers": file for PredictResponses}

Every request is asked twice, all of them in order and then again, so `answers` has twice as many records. The last line
on stdout is JSON, too: {} or {"error": text, "request": index or null}.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from deploy import engine
from deploy.errors import DeployError
from deploy.goldens import Golden
from deploy.wire import records, tensors
from deploy.wire import serving_pb2 as pb

ROUNDS = 2


def main() -> int:
    engine.quiet()
    line = sys.stdin.readline()
    if not line.strip():  # nobody needs us any more
        return 0
    request = json.loads(line)
    reply = _answer(request["directory"], Path(request["requests"]), Path(request["answers"]))
    print(json.dumps(reply), flush=True)  # noqa: T201
    return 0


def write_requests(path: Path, cases: Sequence[Golden]) -> None:
    """Cases as PredictRequests."""

    def requests() -> Iterator[bytes]:
        for case in cases:
            request = pb.PredictRequest()
            request.model_spec.signature_name = case.signature
            for name, array in case.inputs.items():
                request.inputs[name].CopyFrom(tensors.encode(array))
            yield request.SerializeToString()

    records.write(path, requests())


def read_answers(path: Path) -> list[dict[str, np.ndarray]]:
    """Outputs by name, one for each record."""
    return [{name: tensors.decode(proto) for name, proto in pb.PredictResponse.FromString(data).outputs.items()}
            for data in records.read(path)]


def _answer(directory: str, requests: Path, answers: Path) -> dict[str, object]:
    cases = [read_request(data) for data in records.read(requests)]
    index = None
    try:
        with engine.load(directory) as session:
            contract = session.contract
            responses = []
            for number, case in enumerate(cases * ROUNDS):
                index = number % len(cases)
                responses.append(write_response(session.call(contract[case.signature], case.inputs)))
    except DeployError as error:
        return {"error": error.message, "request": index}
    records.write(answers, responses)
    return {}


def read_request(data: bytes) -> Golden:
    """A PredictRequest."""
    request = pb.PredictRequest.FromString(data)
    return Golden(request.model_spec.signature_name,
                  {name: tensors.decode(proto) for name, proto in request.inputs.items()})


def write_response(outputs: Mapping[str, np.ndarray]) -> bytes:
    """Outputs as a PredictResponse."""
    response = pb.PredictResponse()
    for name, array in outputs.items():
        response.outputs[name].CopyFrom(tensors.encode(array))
    return response.SerializeToString()


if __name__ == "__main__":
    sys.exit(main())

"""Answers recorded requests from a SavedModel in a process of its own: `python -m deploy.engine.replay`.

No TensorFlow in Python, no code of the model's author: what answers here is what a server will have. The process may be
started early, and starts fast; it opens the library, then waits for one line of JSON on stdin:

    {"directory": SavedModel, "requests": file of PredictRequests, "answers": file for PredictResponses}

Every request is asked twice, all of them in order and then again, so `answers` has twice as many records. The last line
on stdout is JSON, too: {} or {"error": text, "request": index or null}.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from deploy import engine
from deploy.errors import DeployError
from deploy.wire import records, tensors
from deploy.wire import serving_pb2 as pb
from deploy.wire.dtypes import Array

Request = tuple[str, Mapping[str, Array]]
"""A signature's name, and its inputs."""

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


def write_requests(path: Path, requests: Iterable[Request]) -> None:
    """As PredictRequests."""

    def messages() -> Iterator[bytes]:
        for signature, inputs in requests:
            message = pb.PredictRequest()
            message.model_spec.signature_name = signature
            for name, array in inputs.items():
                message.inputs[name].CopyFrom(tensors.encode(array))
            yield message.SerializeToString()

    records.write(path, messages())


def read_answers(path: Path) -> list[dict[str, Array]]:
    """Outputs by name, one for each record."""
    return [{name: tensors.decode(proto) for name, proto in pb.PredictResponse.FromString(data).outputs.items()}
            for data in records.read(path)]


def _answer(directory: str, requests: Path, answers: Path) -> dict[str, object]:
    questions = [read_request(data) for data in records.read(requests)]
    index = None
    try:
        with engine.load(directory) as session:
            contract = session.contract
            responses = []
            for number, (signature, inputs) in enumerate(questions * ROUNDS):
                index = number % len(questions)
                responses.append(write_response(session.call(contract[signature], inputs)))
    except DeployError as error:
        return {"error": error.message, "request": index}
    records.write(answers, responses)
    return {}


def read_request(data: bytes) -> Request:
    """A PredictRequest."""
    request = pb.PredictRequest.FromString(data)
    return (request.model_spec.signature_name,
            {name: tensors.decode(proto) for name, proto in request.inputs.items()})


def write_response(outputs: Mapping[str, Array]) -> bytes:
    """Outputs as a PredictResponse."""
    response = pb.PredictResponse()
    for name, array in outputs.items():
        response.outputs[name].CopyFrom(tensors.encode(array))
    return response.SerializeToString()


if __name__ == "__main__":
    sys.exit(main())

"""Answers recorded requests from a version in a process of its own: `python -m deploy.engine.replay`.

No TensorFlow in Python, no code of the model's author: what answers here is what a server will have. The process may be
started early, and starts fast; it opens the library, then waits for one line of JSON on stdin:

    {"directory": a version's, "tags": of its graph, "requests": file of PredictRequests,
     "answers": file for PredictResponses}

Every request is asked twice, all of them in order and then again, so `answers` has twice as many records. The last line
on stdout is JSON, too: {} or {"error": text, "request": index or null}.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from deploy import engine
from deploy.errors import DeployError
from deploy.wire import predict_codec, records
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
    reply = _answer(request["directory"], request["tags"], Path(request["requests"]), Path(request["answers"]))
    print(json.dumps(reply), flush=True)  # noqa: T201
    return 0


def write_requests(path: Path, requests: Iterable[Request]) -> None:
    """As PredictRequests."""
    records.write(path, (predict_codec.write_predict_request(pb.ModelSpec(signature_name=signature), inputs)
                         for signature, inputs in requests))


def read_answers(path: Path) -> list[dict[str, Array]]:
    """Outputs by name, one for each record."""
    return [predict_codec.read_predict_response(data)[1] for data in records.read(path)]


def _answer(directory: str, tags: list[str], requests: Path, answers: Path) -> dict[str, object]:
    questions = [read_request(data) for data in records.read(requests)]
    index = None
    try:
        with engine.load_version(directory, tags=tags) as session:
            contract = session.contract
            responses = []
            for number, (signature, inputs) in enumerate(questions * ROUNDS):
                index = number % len(questions)
                outputs = session.call(contract[signature], inputs)
                responses.append(predict_codec.write_predict_response(pb.ModelSpec(), outputs))
    except DeployError as error:
        return {"error": error.message, "request": index}
    records.write(answers, responses)
    return {}


def read_request(data: bytes) -> Request:
    """A PredictRequest."""
    request, inputs = predict_codec.read_predict_request(data)
    return request.model_spec.signature_name, inputs


if __name__ == "__main__":
    sys.exit(main())

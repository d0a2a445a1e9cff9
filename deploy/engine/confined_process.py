"""The child's side of `child`: give up what it could harm with, load, answer until the parent is gone."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from deploy import savedmodel
from deploy.engine import child, confining, library, session, tflite
from deploy.errors import BackendMissing, BadReply, BadRequest
from deploy.savedmodel.tflite import FILE
from deploy.wire import predict_codec
from deploy.wire import serving_pb2 as pb


def main(asked: dict[str, Any]) -> NoReturn:
    """Serve one parent. asked: `directory`, `path`, `memory` and `seconds`, as the parent gives them."""
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever TensorFlow prints isn't an answer
    confining.limit(asked["memory"], asked["seconds"])
    found = library.find()
    confining.read_only([sys.prefix, sys.base_prefix, sys.exec_prefix, str(Path(sys.executable).resolve().parent),
                         str(Path(__file__).parents[1]), *asked["path"], asked["directory"],
                         *([str(found.parent)] if found else [])])
    _serve(asked["directory"], answers)
    os._exit(0)  # without TensorFlow's own way out, which may wait


def _serve(directory: str, answers: int) -> None:
    try:
        alone = savedmodel.tflite_alone(Path(directory))
        tflite.ready(Path(directory, FILE)) if alone else library.library()  # first: afterwards nothing more may be
        confining.no_calls()
        with session.load_version(directory) as model:
            _say(answers, child.LOADED, b"")
            while (head := _read(9)) is not None:
                data = _read(int.from_bytes(head[1:], "little"))
                if data is None:
                    return
                try:
                    _say(answers, child.ANSWER, _answer(model, data))
                except library.EngineError as error:
                    _say(answers, child.REFUSED, _refusal(error))
                except (BadRequest, BadReply) as error:
                    _say(answers, child.BAD, error.message.encode(errors="replace"))
    except library.EngineError as error:
        _say(answers, child.REFUSED, _refusal(error))
    except BackendMissing as error:
        _say(answers, child.MISSING, error.message.encode(errors="replace"))


def _answer(model: Any, data: bytes) -> bytes:
    request, inputs = predict_codec.read_predict_request(data)
    name, contract = request.model_spec.signature_name, model.contract
    if name not in contract:
        raise BadRequest(f"there is no signature {name!r}, only {', '.join(contract) or 'none'}")
    return predict_codec.write_predict_response(pb.ModelSpec(), model.call(contract[name], inputs))


def _refusal(error: Any) -> bytes:
    return json.dumps({"code": error.code, "message": error.status}).encode()


def _say(answers: int, kind: bytes, data: bytes) -> None:
    view = memoryview(kind + len(data).to_bytes(8, "little") + data)
    while view:
        view = view[os.write(answers, view):]


def _read(size: int) -> bytes | None:
    """That many bytes of stdin; None if the parent is gone."""
    pieces = []
    while size:
        piece = os.read(0, min(size, 1 << 20))
        if not piece:
            return None
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)

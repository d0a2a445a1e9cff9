"""JSON as TF Serving writes it -> numpy, statuses, metadata. What isn't as the API says is a BadReply.

Replies carry neither dtype nor shape, and a single output no name: the signature supplies them. NaN and infinities are
bare tokens, and strings may hold bytes that are no UTF-8, both of which a strict parser refuses.
Source: tensorflow_serving/model_servers/http_rest_api_handler.cc, tensorflow_serving/apis/get_model_status.proto.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import orjson
from google.protobuf import json_format

from deploy.client.encoding import Form
from deploy.client.interfaces import Metadata
from deploy.errors import BadReply
from deploy.types import Signature, TensorSpec, VersionState, VersionStatus
from deploy.wire import serving_pb2 as pb
from deploy.wire.contracts import CACHED, METADATA_FIELD, contract_from_map
from deploy.wire.dtypes import Array
from deploy.wire.tensors import numpy_dtype

_KEYS: Mapping[Form, str] = {"row": "predictions", "column": "outputs"}
_KINDS: Mapping[str, frozenset[type]] = {
    "f": frozenset({float, int}), "i": frozenset({int}), "u": frozenset({int}), "b": frozenset({bool}),
    "O": frozenset({str, dict}),
}

REGRESSIONS = TensorSpec("results", "float32", (None,))


def loads(body: bytes) -> Any:
    """Parse a reply. Raises BadReply."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:  # bytes that are no UTF-8 survive as surrogates; `_bytes` turns them back
        return json.loads(body.decode("utf-8", "surrogateescape"), strict=False)
    except (ValueError, RecursionError) as error:
        raise BadReply(f"expected JSON, got {len(body)} bytes that aren't: {_beginning(body)}") from error


def outputs(body: bytes, signature: Signature, form: Form) -> dict[str, Array]:
    """The outputs of a predict reply, with the names and dtypes of the signature. Raises BadReply."""
    value = member(loads(body), _KEYS[form])
    specs = signature.outputs
    if len(specs) == 1:
        return {specs[0].name: array(value, specs[0])}
    columns = _columns(value, specs) if form == "row" else value
    if not isinstance(columns, dict) or set(columns) != {spec.name for spec in specs}:
        received = ", ".join(sorted(map(str, columns))) if isinstance(columns, dict) else type(columns).__name__
        raise BadReply(f"expected the outputs {', '.join(spec.name for spec in specs)}, got {received}")
    return {spec.name: array(columns[spec.name], spec) for spec in specs}


def member(reply: Any, key: str) -> Any:
    """The value of `key` in a reply. Raises BadReply if it isn't there."""
    if not isinstance(reply, dict) or key not in reply:
        raise BadReply(f"expected an object with {key!r}, got {_beginning(repr(reply).encode())}")
    return reply[key]


def _columns(rows: Any, specs: tuple[TensorSpec, ...]) -> dict[str, Any]:
    try:
        return {spec.name: [row[spec.name] for row in rows] for spec in specs}
    except (KeyError, TypeError, IndexError) as error:
        names = ", ".join(spec.name for spec in specs)
        raise BadReply(f"expected a list of objects with {names} in 'predictions'") from error


def array(value: Any, spec: TensorSpec) -> Array:
    """Nested lists as an array of the spec's dtype. Raises BadReply for ragged lists or values of another kind."""
    dtype = numpy_dtype(spec.dtype)
    flat, shape = _flatten(value, spec.name)
    allowed, types = _KINDS[dtype.kind], set(map(type, flat))
    if not types <= allowed:
        kinds = ", ".join(sorted(t.__name__ for t in types - allowed))
        raise BadReply(f"output {spec.name!r}: expected {spec.dtype}, got JSON of type {kinds}")
    if not flat:
        shape = _completed(shape, spec)
    if dtype.kind == "O":
        result = np.empty(len(flat), dtype=object)
        result[:] = [_bytes(v, spec.name) for v in flat]
        return result.reshape(shape)
    try:
        return np.fromiter(flat, dtype, len(flat)).reshape(shape)
    except OverflowError as error:
        raise BadReply(f"output {spec.name!r}: a value that {spec.dtype} can't hold") from error


def _flatten(value: Any, name: str) -> tuple[list[Any], tuple[int, ...]]:
    """All values in order and their shape, level by level, so that Python's loops stay in C."""
    if not isinstance(value, list):
        return [value], ()
    shape, level = [len(value)], value
    while level and type(level[0]) is list:
        if set(map(type, level)) != {list} or len(sizes := set(map(len, level))) != 1:
            raise BadReply(f"output {name!r}: expected evenly nested lists, got ragged ones")
        shape.append(sizes.pop())
        level = list(chain.from_iterable(level))
    return level, tuple(shape)


def _completed(shape: tuple[int, ...], spec: TensorSpec) -> tuple[int, ...]:
    """The shape of an empty array: lists end where a dimension is 0, the signature knows those behind it."""
    behind = (spec.shape or ())[len(shape):]
    return shape + tuple(size or 0 for size in behind)


def _bytes(value: Any, name: str) -> bytes:
    try:
        if isinstance(value, str):
            return value.encode("utf-8", "surrogateescape")
        if set(value) == {"b64"}:
            return base64.b64decode(value["b64"], validate=True)
    except (UnicodeEncodeError, binascii.Error, TypeError, ValueError) as error:
        raise BadReply(f"output {name!r}: a string that can't be read: {error}") from error
    keys = ", ".join(value) or "nothing"
    raise BadReply(f"output {name!r}: expected text or {{'b64': ...}}, got an object with {keys}")


def _beginning(body: bytes) -> str:
    text = body[:120].decode("utf-8", "replace")
    return f"{text!r}{' ...' if len(body) > 120 else ''}"


def statuses(reply: Any) -> list[VersionStatus]:
    """GetModelStatusResponse as REST writes it."""
    message = pb.GetModelStatusResponse()
    _parse({"model_version_status": member(reply, "model_version_status")}, message)
    return from_messages(message.model_version_status)


def from_messages(messages: Iterable[pb.ModelVersionStatus]) -> list[VersionStatus]:
    """The statuses of a reply, newest version first, as the server lists them."""
    return [VersionStatus(m.version, VersionState(m.state), m.status.error_code, m.status.error_message)
            for m in sorted(messages, key=lambda m: -m.version)]


def metadata(body: bytes) -> Metadata:
    """GetModelMetadataResponse as REST writes it: the signatures stand where gRPC has an Any."""
    return _metadata(body) if len(body) <= CACHED else _metadata.__wrapped__(body)


@lru_cache(64)
def _metadata(body: bytes) -> Metadata:
    reply = loads(body)
    signatures, spec = pb.SignatureDefMap(), pb.ModelSpec()
    _parse(member(member(reply, "metadata"), METADATA_FIELD), signatures)
    _parse(member(reply, "model_spec"), spec)
    return Metadata(spec.version.value, contract_from_map(signatures.signature_def))


def classes(results: Any) -> list[list[tuple[str, float]]]:
    """The `results` of a classify reply."""
    try:
        return [[(str(label), float(score)) for label, score in result] for result in results]
    except (TypeError, ValueError) as error:
        raise BadReply("expected lists of [label, score] in 'results'") from error


def error_text(body: bytes) -> str:
    """The server's words in an error reply; the beginning of whatever else came."""
    try:
        text = orjson.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        text = body[:200].decode("utf-8", "replace").strip()
    return str(text)


def _parse(value: Any, message: Any) -> None:
    try:
        json_format.ParseDict(value, message, ignore_unknown_fields=True)
    except (json_format.ParseError, AttributeError, TypeError, ValueError) as error:
        raise BadReply(f"expected a {message.DESCRIPTOR.name}, got something else: {error}") from error

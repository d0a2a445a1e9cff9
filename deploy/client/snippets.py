"""Calls that can be pasted: a line for a shell, a few lines of Python. Values are examples; the form is what counts."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploy.client import encoding, preparing
from deploy.types import CLASSIFY_METHOD, REGRESS_METHOD, Endpoint, ModelRef, Signature
from deploy.wire import serving_pb2 as pb

if TYPE_CHECKING:
    from deploy.client.interfaces import Feature, Features
    from deploy.wire.dtypes import Array

INLINE = 2000
"""Bytes of a body that stand in curl's own arguments; longer ones come by a pipe, since an argument has its limit."""

SMALL = 64
"""Values of an input that are written out; a larger one is written as zeros of its shape."""

_VERBS = {CLASSIFY_METHOD: "classify", REGRESS_METHOD: "regress"}


def curl_line(url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> str:
    """`curl` for this call, quoted for POSIX shells. Values of headers are not shown, they may be secrets.

    The whole body is in the line; one that is no text as base64.
    """
    if body is None:
        return " ".join([_curl(headers), shlex.quote(url)])
    text = _text(body)
    if text is None:
        encoded = base64.b64encode(body).decode("ascii")
        return f"printf %s {encoded} | base64 -d | {_curl(headers)} --data-binary @- {shlex.quote(url)}"
    if len(body) <= INLINE and not text.startswith("@"):
        return f"{_curl(headers)} -d {shlex.quote(text)} {shlex.quote(url)}"
    return f"printf %s {shlex.quote(text)} | {_curl(headers)} -d @- {shlex.quote(url)}"


def curl_of_file(url: str, file: Path) -> str:
    """The same for a body that stands in a file."""
    return f"{_curl(None)} -d {shlex.quote(f'@{file}')} {shlex.quote(url)}"


def _curl(headers: Mapping[str, str] | None) -> str:
    return " ".join(["curl -sS", *(f"-H {shlex.quote(f'{name}: ...')}" for name in headers or {})])


def _text(body: bytes) -> str | None:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where the calls go: `host:port` for gRPC, and REST's base URL."""

    grpc_target: str = "127.0.0.1:8500"
    rest_url: str = "http://127.0.0.1:8501"


@dataclass(frozen=True, slots=True)
class CallSnippets:
    """How to ask for a signature. curl: REST; empty where JSON can't say it, and then `why`. python: gRPC.

    long: the body of the REST call and its URL, where the body is too long to be read in a line.
    """

    curl: str
    python: str
    why: str = ""
    long: tuple[bytes, str] | None = None

    def to_json(self) -> dict[str, str]:
        return {"curl": self.curl, "python": self.python, **({"why": self.why} if self.why else {})}


def pastable(arrays: Iterable[Array]) -> bool:
    """Whether these values can be written out: few, and all of them finite."""
    return all(array.size <= SMALL and (array.dtype.kind not in "fc" or np.isfinite(array).all()) for array in arrays)


def calls(signature: Signature, inputs: Mapping[str, Array], ref: ModelRef,
          endpoint: Endpoint | ServerAddress) -> CallSnippets:
    """The calls for a signature with these inputs, as a server at `endpoint` takes them.

    For classify and regress signatures: with the features of the serialized tf.Examples that the inputs hold.
    """
    verb = _VERBS.get(signature.method_name)
    if verb and len(inputs) == 1:
        features = [_features(data) for array in inputs.values() for data in array.ravel()]
        body = preparing.to_body(features, None, signature.name)
        url = f"{endpoint.rest_url}{ref.rest_path}:{verb}"
        python = _python(endpoint, verb, [repr(str(ref)), repr(features), _named(signature)])
        return CallSnippets(curl_line(url, body), python, long=_long(body, url))
    written = "{" + ", ".join(f"{name!r}: {_value(array)}" for name, array in inputs.items()) + "}"
    python = _python(endpoint, "predict", [repr(str(ref)), written, _named(signature)])
    why = encoding.no_json(signature)
    if why:
        return CallSnippets("", python, why)
    url = f"{endpoint.rest_url}{ref.rest_path}:predict"
    if any(array.size > SMALL for array in inputs.values()):
        return CallSnippets(_of_zeros(signature, inputs, url), python)
    body = encoding.request_body(signature.name, inputs, "row" if _by_rows(signature, inputs) else "column")
    return CallSnippets(curl_line(url, body), python, long=_long(body, url))


def litert(signature: Signature, inputs: Mapping[str, Array], file: str) -> str:
    """The call of a TFLite file's signature on a device, with LiteRT's Python package."""
    arrays = {name: f"np.array({_value(array)}, {array.dtype.name!r})" if array.dtype.kind != "O" else
              f"np.array({_value(array)}, object)" for name, array in inputs.items()}
    given = ", ".join(f"{name!r}: {text}" for name, text in arrays.items())
    return "\n".join([
        "import numpy as np",
        "from ai_edge_litert.interpreter import Interpreter  # pip install ai-edge-litert",
        f"run = Interpreter({file!r}).get_signature_runner({signature.name!r})",
        f"print(run(**{{{given}}}))"])


def _long(body: bytes, url: str) -> tuple[bytes, str] | None:
    return (body, url) if len(body) > INLINE else None


def _of_zeros(signature: Signature, inputs: Mapping[str, Array], url: str) -> str:
    columns = ", ".join(f"{json.dumps(name)}: {_value(array, plain=True)}" for name, array in inputs.items())
    body = f'{{"signature_name": {json.dumps(signature.name)}, "inputs": {{{columns}}}}}'
    return f"python3 -c {shlex.quote(f'import json; print(json.dumps({body}))')} | curl -sS -d @- {shlex.quote(url)}"


def _by_rows(signature: Signature, inputs: Mapping[str, Array]) -> bool:
    """Rows are what people know, where every tensor has them."""
    return not encoding.no_rows(signature, inputs) and all(
        spec.shape is not None and spec.shape[:1] == (None,) for spec in (*signature.inputs, *signature.outputs))


def _python(endpoint: Endpoint | ServerAddress, verb: str, arguments: Sequence[str]) -> str:
    given = ", ".join(argument for argument in arguments if argument)
    return "\n".join(["import deploy",
                      *(["import numpy as np"] if "np." in given else []),
                      f"with deploy.connect({endpoint.grpc_target!r}) as client:",
                      f"    print(client.{verb}({given}))"])


def _named(signature: Signature) -> str:
    return f"signature={signature.name!r}"


def _value(array: Array, *, plain: bool = False) -> str:
    if array.size > SMALL:
        return _zeros(array, plain)
    values = array.tolist()
    if plain and array.dtype.kind == "O":
        values = [value.decode(errors="replace") for value in array.ravel().tolist()]
        values = np.array(values, object).reshape(array.shape).tolist()
    return repr(values)


def _zeros(array: Array, plain: bool) -> str:
    if not plain and array.dtype.kind != "O":
        return f"np.zeros({array.shape}, {array.dtype.name!r})" if array.dtype.kind != "V" else \
            f"np.zeros({array.shape}, 'float32')"
    zero: Any = {"O": "" if plain else b"", "b": False, "f": 0.0, "V": 0.0}.get(array.dtype.kind, 0)
    text = repr(zero)
    for size in reversed(array.shape):
        text = f"[{text}] * {size}"
    return text


def _features(data: bytes) -> Features:
    by_name: dict[str, Feature] = {}
    for name, feature in sorted(pb.Example.FromString(data).features.feature.items()):
        kind = feature.WhichOneof("kind")
        values = list(getattr(feature, kind).value) if kind else []
        by_name[name] = values[0] if len(values) == 1 else values
    return by_name

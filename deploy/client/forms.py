"""What can be said in JSON, and in which form: rows (`instances`) or columns (`inputs`).

Source: tensorflow_serving/util/json_tensor.h; the dtypes are those that the server's JSON reader and writer know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from deploy.client.checking import batch_of
from deploy.types import Signature
from deploy.wire.dtypes import SENDABLE, WITHOUT_JSON, Array
from deploy.wire.values import dtype_name

Form = Literal["row", "column"]



def no_json(signature: Signature) -> str:
    """Why the signature can't be asked over REST; empty if it can."""
    for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            if spec.dtype in WITHOUT_JSON or spec.dtype not in SENDABLE:
                return f"{kind} {spec.name!r} is {spec.dtype}, which has no JSON form"
    return "" if signature.inputs else f"signature {signature.name!r} has no inputs, which REST can't express"


def no_json_values(inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> str:
    """`no_json` of a request and its answer, where only these are known, not their signature."""
    for kind, arrays in (("input", inputs), ("output", outputs)):
        for name, array in arrays.items():
            dtype = "string" if array.dtype.kind in "OSU" else dtype_name(array.dtype)
            if dtype in WITHOUT_JSON:
                return f"{kind} {name!r} is {dtype}, which has no JSON form"
    return "" if inputs else "it has no inputs, which REST can't express"


def no_shape(inputs: Mapping[str, Array]) -> str:
    """Why nested lists don't tell the shape of an input; empty if they do. Within an empty list there are no others."""
    for name, array in inputs.items():
        if 0 in array.shape[:-1]:
            return f"input {name!r} is empty, and JSON can't express its shape {list(array.shape)}"
    return ""


def no_rows(signature: Signature, inputs: Mapping[str, Array]) -> str:
    """Why the request has no row form; empty if it has one."""
    batch = batch_of(inputs.values())
    if batch is None:
        shapes = ", ".join(f"{name!r} {list(array.shape)}" for name, array in inputs.items())
        return f"the row form needs one batch dimension that all inputs share, here: {shapes}"
    if batch == 0:
        return "the row form can't express a batch of no rows"
    scalar = [spec.name for spec in signature.outputs if spec.shape == ()]
    return f"output {scalar[0]!r} is a scalar, which only the column form can express" if scalar else ""


def no_row_answer(outputs: Mapping[str, Array], rows: int) -> str:
    """Why such outputs have no row form for a batch of `rows`; empty if they have one."""
    for name, array in outputs.items():
        if array.ndim == 0 or array.shape[0] != rows:
            return (f"output {name!r} has shape {list(array.shape)} for {rows} rows, which only the column form can "
                    "express")
    return ""

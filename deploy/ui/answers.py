"""Golden answers of a model's versions side by side, and how they drift from version to version. Nothing is run."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from deploy.errors import DeployError
from deploy.goldens import Golden
from deploy.goldens.compare import AnswerPair, measure
from deploy.repository import VersionFacts, versions_of
from deploy.spec import Spec
from deploy.types import ServedModel
from deploy.wire.dtypes import Array, Arrays

MOST_VERSIONS = 12  # the newest
MOST_CASES = 6
_VALUES = 6  # of an array, before it is cut
_LENGTH = 90  # characters


def answers(spec: Spec, model: ServedModel) -> dict[str, Any]:
    """What is recorded of a model's versions, as JSON data: `versions` (ascending), `drift` (each version beside the
    one before it), `cases` (the same request's answers from each version). Raises RepositoryError."""
    stored = versions_of(model)
    numbers = stored.numbers()[-MOST_VERSIONS:]
    facts, versions = dict[int, VersionFacts](), list[dict[str, Any]]()
    for number in numbers:
        version: dict[str, Any] = {"version": number, "goldens": 0, "created": "", "digest": None, "size": None,
                                   "error": ""}
        try:
            known = stored.find_facts(number, tflite=spec.server.prefers_tflite)
            manifest = stored.version(number).find_manifest()
        except DeployError as error:
            version["error"] = error.message
        else:
            if known is not None:
                facts[number] = known
                version["goldens"] = len(known.goldens)
            if manifest is not None:
                version |= {"created": manifest.created, "digest": manifest.digest, "size": manifest.size}
        versions.append(version)
    known_versions = sorted(facts)
    drift = [_drift(before, after, facts) for before, after in itertools.pairwise(known_versions)]
    return {"model": model.name, "versions": versions, "drift": drift, "cases": list(_cases(facts)),
            "more": max(0, len(stored.numbers()) - MOST_VERSIONS)}


def _drift(before: int, after: int, facts: Mapping[int, VersionFacts]) -> dict[str, Any]:
    pairs = list(in_common(facts[before].goldens, facts[after].goldens))
    limits = facts[before].tolerances or facts[after].tolerances
    return {"before": before, "after": after, "requests": len(pairs),
            "drift": measure(pairs, limits).to_json() if pairs else None}


def in_common(before: Sequence[Golden], after: Sequence[Golden]) -> Iterator[AnswerPair]:
    """The answers that two versions have recorded to the same requests."""
    later = {request_key(case): case for case in after if case.outputs}
    for case in before:
        other = later.get(request_key(case))
        if other is not None and case.outputs:
            yield AnswerPair(case.signature, case.outputs, other.outputs)


def request_key(case: Golden) -> str:
    """The same for equal requests."""
    digest = hashlib.blake2b(case.signature.encode(), digest_size=12)
    for name, array in sorted(case.inputs.items()):
        content = repr(array.tolist()).encode() if array.dtype.kind == "O" else array.tobytes()
        digest.update(f"\0{name}\0{array.dtype}\0{array.shape}\0".encode() + content)
    return digest.hexdigest()


def _cases(facts: Mapping[int, VersionFacts]) -> Iterator[dict[str, Any]]:
    """The newest version's first requests, with each version's answer to them."""
    if not facts:
        return
    by_key = {version: {request_key(case): case for case in known.goldens} for version, known in facts.items()}
    for case in facts[max(facts)].goldens[:MOST_CASES]:
        key = request_key(case)
        yield {"signature": case.signature, "inputs": shown(case.inputs),
               "answers": {str(version): shown(cases[key].outputs) for version, cases in sorted(by_key.items())
                           if key in cases}}


def shown(arrays: Arrays) -> dict[str, str]:
    """Each array in a few words: dtype, shape and its first values."""
    return {name: f"{_dtype(array)}{list(array.shape)} {_values(array)}" for name, array in arrays.items()}


def _dtype(array: Array) -> str:
    return "string" if array.dtype.kind in "OSU" else str(array.dtype)


def _values(array: Array) -> str:
    flat = np.ravel(array)[:_VALUES].tolist()
    words = [f"{v:.6g}" if isinstance(v, float) else v.decode(errors="replace") if isinstance(v, bytes) else str(v)
             for v in flat]
    text = ", ".join(words)
    return text[:_LENGTH] + (" …" if array.size > _VALUES or len(text) > _LENGTH else "")

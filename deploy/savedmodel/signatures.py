"""What differs between two contracts, and what it means for clients: the rules of `diff`."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from deploy.savedmodel.flow import IMAGE
from deploy.savedmodel.reader import SavedModelInfo
from deploy.types import DEFAULT_SIGNATURE, PREDICT_METHOD, Contract, Signature, TensorSpec

Kind = Literal["input", "output"]
Specs = Mapping[str, TensorSpec]


class Level(enum.IntEnum):
    """How bad it is. REVIEW: works for some clients or servers and not for others, so a person has to look."""

    COMPATIBLE = 0
    REVIEW = 1
    BREAKING = 2

    def __str__(self) -> str:
        return ("compatible", "review required", "breaking")[self]


@dataclass(frozen=True, slots=True)
class Reason:
    """One change.

    rule: its name (`input-removed`), for machines and for search. where: signature, or graph, files.
    what: a sentence that says what happens to whom.
    """

    level: Level
    rule: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"

    def to_json(self) -> dict[str, object]:
        return {"level": str(self.level), "rule": self.rule, "where": self.where, "what": self.what}


def contract_differences(expected: Contract, actual: Contract) -> list[str]:
    """One sentence per difference, none if both promise the same. The graphs' tensor names don't matter."""
    sentences = [f"signature {name!r} is missing" for name in expected if name not in actual]
    sentences += [f"signature {name!r} is not expected" for name in actual if name not in expected]
    for name in expected:
        if name in actual:
            sentences += [f"signature {name!r}: {text}" for text in _differs(expected[name], actual[name])]
    return sentences


def _differs(expected: Signature, actual: Signature) -> list[str]:
    sentences = []
    if expected.method_name != actual.method_name:
        sentences.append(f"method: expected {expected.method_name or 'none'}, got {actual.method_name or 'none'}")
    return [*sentences, *_differ("input", expected.inputs, actual.inputs),
            *_differ("output", expected.outputs, actual.outputs)]


def _differ(side: str, expected: Iterable[TensorSpec], actual: Iterable[TensorSpec]) -> list[str]:
    wanted, others = {spec.name: spec for spec in expected}, {spec.name: spec for spec in actual}
    sentences = [f"{side} {name!r} is missing" for name in wanted if name not in others]
    sentences += [f"{side} {name!r} is not expected" for name in others if name not in wanted]
    return sentences + [f"{side}: expected {wanted[name]}, got {others[name]}"
                    for name in wanted if name in others and wanted[name] != others[name]]


def changes(before: Contract, after: Contract) -> Iterator[Reason]:
    """Signature by signature."""
    for name in before:
        if name not in after:
            yield _gone(name, after)
        else:
            yield from _signature(before[name], after[name])
    for name in after:
        if name not in before:
            yield Reason(Level.COMPATIBLE, "signature-added", name, "the signature is new")


def feature_changes(before: SavedModelInfo, after: SavedModelInfo) -> Iterator[Reason]:
    """Features of tf.Examples: strings to the signature, so only the graph tells them."""
    for name in before.contract.keys() & after.contract.keys():
        one, other = _features(before, name), _features(after, name)
        if one is None or other is None:
            continue
        for feature in sorted(one.keys() - other.keys()):
            yield Reason(Level.REVIEW, "feature-removed", name,
                         f"the tf.Example feature {feature!r} isn't read any more")
        for feature in sorted(other.keys() - one.keys()):
            yield Reason(Level.REVIEW, "feature-added", name, f"the tf.Example feature {other[feature]} is new: "
                         "clients that don't send it are refused, unless it has a default")
        for feature in sorted(one.keys() & other.keys()):
            if one[feature] != other[feature]:
                yield Reason(Level.BREAKING, "feature-changed", name,
                             f"the tf.Example feature {one[feature]} is {_what(other[feature])} now")


def _features(info: SavedModelInfo, name: str) -> Specs | None:
    parsed = [info.features[spec.tensor] for spec in info.contract[name].inputs
              if info.features.get(spec.tensor, IMAGE) is not IMAGE]
    return {spec.name: spec for specs in parsed for spec in specs} if parsed else None


def _gone(name: str, after: Contract) -> Reason:
    left = f"there is {', '.join(after)}" if after else "there is none left"
    if name == DEFAULT_SIGNATURE:
        return Reason(Level.BREAKING, "default-signature-gone", name,
                      f"the default signature is gone ({left}): requests that name none are refused")
    return Reason(Level.BREAKING, "signature-removed", name,
                  f"the signature is gone ({left}): requests that name it are refused")


def _signature(before: Signature, after: Signature) -> Iterator[Reason]:
    where = before.name
    if before.method_name != after.method_name:
        yield _method(before, after)
    inputs = {s.name: s for s in before.inputs}, {s.name: s for s in after.inputs}
    outputs = {s.name: s for s in before.outputs}, {s.name: s for s in after.outputs}
    yield from _names("input", where, *inputs)
    yield from _names("output", where, *outputs)
    if len(outputs[0]) == 1 and len(outputs[1]) > 1 and outputs[0].keys() <= outputs[1].keys():
        yield Reason(Level.BREAKING, "row-form-changed", where,
                     f"one output before, {len(outputs[1])} now: REST answers with objects where it answered with bare "
                     "values; gRPC clients notice nothing")
    yield from _both("input", where, *inputs)
    yield from _both("output", where, *outputs)


def _method(before: Signature, after: Signature) -> Reason:
    one, other = (s.method_name.rpartition("/")[2] or "none" for s in (before, after))
    if before.method_name == PREDICT_METHOD:
        return Reason(Level.REVIEW, "method-changed", before.name,
                      f"method {other}, before {one}: Predict requests still work, {other} ones now, too")
    return Reason(Level.BREAKING, "method-changed", before.name,
                  f"method {other}, before {one}: {one} requests are refused")


def _names(kind: Kind, where: str, before: Specs, after: Specs) -> Iterator[Reason]:
    """Names that came and went; one of each that are otherwise the same are a renaming."""
    gone = {name: spec for name, spec in before.items() if name not in after}
    new = {name: spec for name, spec in after.items() if name not in before}
    for name, spec in list(gone.items()):
        twins = [other for other, it in new.items() if _form(it) == _form(spec)]
        rivals = [other for other, it in gone.items() if _form(it) == _form(spec)]
        if len(twins) == 1 and len(rivals) == 1:
            yield Reason(Level.BREAKING, f"{kind}-renamed", where,
                         f"{kind} {name!r} is called {twins[0]!r} now: " + (
                             "requests with the old name are refused" if kind == "input" else
                             "clients don't find it under the old name"))
            del gone[name], new[twins[0]]
    for name, spec in gone.items():
        yield Reason(Level.BREAKING, f"{kind}-removed", where, f"{kind} {name!r} ({_what(spec)}) is gone: " + (
            "requests that send it are refused" if kind == "input" else "clients don't find it"))
    for name, spec in new.items():
        yield _added(kind, where, name, spec)


def _added(kind: Kind, where: str, name: str, spec: TensorSpec) -> Reason:
    if kind == "input":
        return Reason(Level.BREAKING, "input-added", where,
                      f"input {name!r} ({_what(spec)}) is new: requests without it are refused")
    return Reason(Level.COMPATIBLE, "output-added", where, f"output {name!r} ({_what(spec)}) is new")


def _both(kind: Kind, where: str, before: Specs, after: Specs) -> Iterator[Reason]:
    shared = [name for name in before if name in after]
    swapped = _swapped(shared, before, after)
    if swapped:
        one, other = swapped
        yield Reason(Level.BREAKING, f"{kind}-order", where,
                     f"{kind}s {one!r} and {other!r} have changed places: {one!r} is {_what(after[one])} now, before "
                     f"{_what(before[one])}")
    for name in shared:
        if name not in swapped:
            yield from _tensor(kind, where, before[name], after[name])


def _swapped(shared: list[str], before: Specs, after: Specs) -> tuple[str, ...]:
    for index, one in enumerate(shared):
        for other in shared[index + 1:]:
            if _form(before[one]) != _form(before[other]) and _form(before[one]) == _form(after[other]) \
                    and _form(before[other]) == _form(after[one]):
                return one, other
    return ()


def _tensor(kind: Kind, where: str, before: TensorSpec, after: TensorSpec) -> Iterator[Reason]:
    if before.dtype != after.dtype:
        yield Reason(Level.BREAKING, f"{kind}-dtype", where,
                     f"{kind} {before.name!r} is {after.dtype}, before {before.dtype}")
    if before.shape == after.shape:
        return
    change = f"{kind} {before.name!r} is {_what(after)}, before {_what(before)}"
    if before.shape is None or after.shape is None:
        yield _rank(kind, where, before, change)
    elif len(before.shape) != len(after.shape):
        yield Reason(Level.BREAKING, f"{kind}-rank", where, f"{change}: {len(after.shape)} dimensions, before "
                     f"{len(before.shape)}")
    else:
        yield from _dimensions(kind, where, before.shape, after.shape, change)


def _rank(kind: Kind, where: str, before: TensorSpec, change: str) -> Reason:
    """The rank is known on one side only."""
    if kind == "input" and before.shape is None:
        return Reason(Level.REVIEW, "input-rank", where, f"{change}: shapes that were allowed may be refused")
    if kind == "output" and before.shape is not None:
        return Reason(Level.REVIEW, "output-rank", where, f"{change}: clients may count on the rank")
    return Reason(Level.COMPATIBLE, f"{kind}-rank", where, change)


def _dimensions(kind: Kind, where: str, before: tuple[int | None, ...], after: tuple[int | None, ...],
                change: str) -> Iterator[Reason]:
    for axis, (one, other) in enumerate(zip(before, after, strict=True)):
        if one == other:
            continue
        if axis == 0 and one is None:
            yield Reason(Level.BREAKING, "batch-dimension-lost", where,
                         f"{change}: the batch dimension isn't free any more, so only batches of {other} work")
        elif one is not None and other is not None:
            yield Reason(Level.BREAKING, f"{kind}-size", where, f"{change}: dimension {axis} is {other}, before {one}")
        elif (other is None) == (kind == "input"):
            yield Reason(Level.COMPATIBLE, f"{kind}-size", where, f"{change}: dimension {axis} is "
                         f"{'free' if other is None else other} now")
        else:
            yield Reason(Level.REVIEW, f"{kind}-size", where, f"{change}: " + (
                f"dimension {axis} has to be {other} now" if kind == "input" else
                f"dimension {axis} can have any size now, clients may count on {one}"))


def _form(spec: TensorSpec) -> tuple[str, tuple[int | None, ...] | None]:
    return spec.dtype, spec.shape


def _what(spec: TensorSpec) -> str:
    return str(TensorSpec("", *_form(spec))).removeprefix(": ")

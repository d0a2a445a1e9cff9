"""A SavedModel without signatures, as TensorFlow Hub's second format has them: its object's traced calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.errors import ExportError
from deploy.export import quiet, specs
from deploy.export.failures import user_error
from deploy.export.options import Exportable, SignatureFunction
from deploy.types import DEFAULT_SIGNATURE, TensorSpec

_SHOWN = 4


@dataclass(frozen=True, slots=True)
class _TracedCall:
    """One traced call. call: takes tensors by name. flags: how many arguments were True when it was traced."""

    inputs: tuple[TensorSpec, ...]
    call: Callable[[Mapping[str, Any]], Any]
    flags: int

    def fits(self, pinned: Sequence[TensorSpec]) -> bool:
        """Whether tensors of these specs can be given, by name or by position."""
        return len(pinned) == len(self.inputs) and all(
            own.dtype == spec.dtype and specs.compatible(own.shape, spec.shape)
            for own, spec in zip(self.inputs, _ordered(pinned, self.inputs), strict=True))


def load(origin: Path, tags: frozenset[str]) -> Any:
    """The object, as TensorFlow restores it. Raises ExportError."""
    tf = quiet.tensorflow()
    try:
        with quiet.muted():
            return tf.saved_model.load(str(origin), tags=sorted(tags))
    except Exception as error:
        raise user_error(f"loading {origin}", error, "export the model object instead") from error


def called(source: Exportable, model: Any, origin: Path) -> Exportable:
    """`source` with the call of the restored object as its only signature, if it has one. Raises ExportError."""
    function: Any = getattr(model, "__call__", None)  # noqa: B004 (the object's own attribute, not its class's)
    if not hasattr(function, "concrete_functions"):
        return Exportable(model, source.inputs, examples=source.examples, output_names=source.output_names,
                          recipes=source.recipes)
    calls = _distinct([_traced(function, *each.structured_input_signature) for each in function.concrete_functions])
    pinned = None if source.inputs is None else specs.parse(source.inputs)
    fitting = calls if pinned is None else [each for each in calls if each.fits(pinned)]
    if not fitting or (len(fitting) > 1 and pinned is None):
        shown = " or ".join(" ".join(f'--input "{spec}"' for spec in each.inputs) for each in calls[:_SHOWN])
        why = f"and can be called in {len(calls)} ways" if pinned is None else \
            f"and can't be called with {'; '.join(str(spec).removeprefix(': ') for spec in pinned)}"
        raise ExportError(f"{origin} has no signatures, {why}", hint=f"say what it takes: {shown or '(nothing)'}",
                          id="inputs-unknown")
    chosen = fitting[0]
    inputs = chosen.inputs if pinned is None else tuple(
        TensorSpec(own.name, own.dtype, spec.shape)
        for own, spec in zip(chosen.inputs, _ordered(pinned, chosen.inputs), strict=True))
    endpoint = SignatureFunction(DEFAULT_SIGNATURE, inputs, chosen.call, rename=source.output_names, holders=(model,))
    return Exportable(endpoint, examples=source.examples, recipes=source.recipes)


def _ordered(pinned: Sequence[TensorSpec], inputs: Sequence[TensorSpec]) -> Sequence[TensorSpec]:
    by_name = {spec.name: spec for spec in pinned}
    return [by_name[spec.name] for spec in inputs] if set(by_name) == {spec.name for spec in inputs} else pinned


def _traced(function: Any, positional: Sequence[Any], keywords: Mapping[str, Any]) -> _TracedCall | None:
    """One call with what isn't a tensor as it was traced. None if it takes something else than dense tensors."""
    tf = quiet.tensorflow()
    arguments: dict[Any, Any] = dict(enumerate(positional)) | dict(keywords)
    holding = {key: value for key, value in arguments.items()
               if any(isinstance(leaf, tf.TypeSpec) for leaf in tf.nest.flatten(value))}
    others = [value for key, value in arguments.items() if key not in holding]
    names = [f"input_{key}" if isinstance(key, int) else key for key in holding]
    try:
        inputs, pack = specs.flat(list(holding.values()), names, DEFAULT_SIGNATURE)
    except ExportError:
        return None

    def call(tensors: Mapping[str, Any]) -> Any:
        packed = dict(zip(holding, pack({spec.name: tensors[spec.name] for spec in inputs}), strict=True))
        given = {**arguments, **packed}
        return function(*(given[index] for index in range(len(positional))), **{key: given[key] for key in keywords})

    return _TracedCall(inputs, call, sum(value is True for value in others))


def _distinct(calls: Sequence[_TracedCall | None]) -> list[_TracedCall]:
    """Those that take different tensors, each with the fewest flags (such as `training`) that are on."""
    by_inputs: dict[tuple[TensorSpec, ...], _TracedCall] = {}
    for each in sorted((call for call in calls if call is not None), key=lambda call: call.flags):
        by_inputs.setdefault(each.inputs, each)
    return list(by_inputs.values())

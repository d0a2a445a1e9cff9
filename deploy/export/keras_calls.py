"""What the `call` of a Keras model takes, and how the tensors of a signature become its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.types import TensorSpec

Tensors = Mapping[str, Any]
Arguments = tuple[tuple[Any, ...], dict[str, Any]]
Bind = Callable[[Tensors], Arguments]

_OWN = frozenset({"training", "mask"})  # Keras fills these in by itself
_LEFT_OUT = "{!r}, an optional argument of call(), isn't in the signature and keeps its default, {}: to serve it, " \
    "describe all inputs, {!r} too, with --input or inputs="


@dataclass(frozen=True, slots=True)
class Invocation:
    """The inputs of a signature, and `bind`, which makes positional and keyword arguments of `call` of them.

    outputs, notes: see SignatureFunction.
    """

    inputs: tuple[TensorSpec, ...]
    bind: Bind
    outputs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of `call`. needed, optional: names in order, without those that Keras fills in (training, mask).

    by_name: all that can be given by keyword; by_place: those that can't. first_by_name: the first can't be given
    otherwise. rest: it takes *args. anything: it takes **kwargs.
    """

    needed: tuple[str, ...]
    optional: Mapping[str, object]
    by_name: frozenset[str]
    by_place: tuple[str, ...] = ()
    first_by_name: bool = False
    rest: bool = False
    anything: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.needed, *self.optional)

    @property
    def first(self) -> str:
        return next(iter(self.names), "inputs")


def parameters(model: Any) -> Parameters:
    """Of the model's own `call`."""
    all_parameters = inspect.signature(model.call).parameters.values()
    kinds = {p.kind for p in all_parameters}
    named = [p for p in all_parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    own = not str(getattr(model.call, "__module__", "")).startswith(("keras.", "tf_keras."))
    tensors = [p for p in named if p.name not in _OWN]
    return Parameters(tuple(p.name for p in tensors if p.default is p.empty),
                      {p.name: p.default for p in tensors if p.default is not p.empty},
                      frozenset(p.name for p in named if p.kind is not p.POSITIONAL_ONLY and p.name != "training"),
                      tuple(p.name for p in named if p.kind is p.POSITIONAL_ONLY),
                      bool(tensors) and tensors[0].kind is inspect.Parameter.KEYWORD_ONLY,
                      inspect.Parameter.VAR_POSITIONAL in kinds, own and inspect.Parameter.VAR_KEYWORD in kinds)


def trains(model: Any) -> bool:
    """Whether `call` can be told to train or not; Keras 3 takes the argument for any model, Keras 2 doesn't."""
    all_parameters = inspect.signature(model.call).parameters
    return "training" in all_parameters or any(p.kind is p.VAR_KEYWORD for p in all_parameters.values())


def single(name: str, takes: Parameters) -> Bind:
    """The only input is the first argument, whatever it is called."""
    if takes.first_by_name:
        return lambda tensors: ((), {takes.first: tensors[name]})
    return one_argument([name], as_dict=False)


def one_argument(names: Sequence[str], *, as_dict: bool) -> Bind:
    """The first argument alone: a dict of these inputs, a list of them, or the only one."""

    def bind(tensors: Tensors) -> Arguments:
        flat = [tensors[name] for name in names]
        if as_dict:
            return (dict(zip(names, flat, strict=True)),), {}
        return (flat if len(flat) > 1 else flat[0],), {}

    return bind


def each_argument(names: Sequence[str], takes: Parameters) -> Bind:
    """Each input is the argument of its name."""
    placed = [name for name in takes.by_place if name in names]

    def bind(tensors: Tensors) -> Arguments:
        return tuple(tensors[name] for name in placed), {n: tensors[n] for n in names if n not in placed}

    return bind


def every_argument(names: Sequence[str]) -> Bind:
    """Inputs in their order, for *args."""
    return lambda tensors: (tuple(tensors[name] for name in names), {})


def ways(model: Any, names: Sequence[str]) -> list[Bind]:
    """How inputs of these names may be meant, most likely first: as arguments, as *args, as a dict."""
    takes = parameters(model)
    if len(names) == 1:
        return [single(names[0], takes)]
    argument_names = {*takes.by_name, *takes.by_place}
    if set(names) <= argument_names or (takes.anything and set(takes.needed) <= set(names)):
        return [each_argument(names, takes)]
    if takes.rest and not takes.names:
        return [every_argument(names)]
    binds, further = [one_argument(names, as_dict=True)], [name for name in names if name in takes.optional]
    inner = [name for name in names if name not in further]
    if inner and further:  # before the dict of all: a model doesn't complain of keys that it doesn't look at
        binds.insert(0, with_arguments(one_argument(inner, as_dict=len(inner) > 1), further))
    return binds


def with_arguments(base: Bind, names: Sequence[str]) -> Bind:
    """`base`, and further inputs as the arguments of their names."""

    def bind(tensors: Tensors) -> Arguments:
        positional, named = base(tensors)
        return positional, {**named, **{name: tensors[name] for name in names}}

    return bind


def extended(model: Any, invocation: Invocation, input_specs: Sequence[TensorSpec]) -> Invocation:
    """`invocation`, and those of `input_specs` that are further optional arguments of `call`."""
    takes, input_names = parameters(model), {spec.name for spec in invocation.inputs}
    if len(input_specs) <= len(invocation.inputs):
        return invocation
    further = tuple(spec for spec in input_specs if spec.name and spec.name not in input_names and
                    (takes.anything or spec.name in takes.by_name) and spec.name != takes.first)
    names = [spec.name for spec in further]
    return Invocation((*invocation.inputs, *further), with_arguments(invocation.bind, names), invocation.outputs,
                      invocation.notes)


def left_out(model: Any, inputs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """A sentence for each optional argument that may be a tensor and that no input of the signature fills."""
    takes, given = parameters(model), {spec.name for spec in inputs}
    return tuple(_LEFT_OUT.format(name, default, name) for name, default in takes.optional.items()
                 if name not in given and name != takes.first and _may_be_a_tensor(default))


def _may_be_a_tensor(default: object) -> bool:
    """Flags and texts steer Python code; None and numbers stand where tensors go."""
    return default is None or (isinstance(default, int | float) and not isinstance(default, bool)) or \
        (hasattr(default, "shape") and hasattr(default, "dtype"))

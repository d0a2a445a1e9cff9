"""Functions of JAX and modules of Flax -> signatures: the function as StableHLO, its parameters as variables.

Unknown dimensions are symbols: the first ones of all inputs are one (the batch), others are equal where the spec gives
them one letter (`int32[b, s]`).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from deploy.errors import ExportError
from deploy.export import functions, quiet, specs
from deploy.export.jax_modules import JaxFunction, JaxModule, check_exported
from deploy.export.options import Exportable, OutputNames, SignatureFunction
from deploy.extras import require
from deploy.types import TensorSpec

_PACKAGES = {"jax", "jaxlib", "flax"}
_SHAPE = re.compile(r"\[([^\]]*)\]\s*$")
_HOW = 'say it: --input "x: float32[?, 784]", or a builder that returns deploy.from_jax(function, params, "x: ' \
    'float32[?, 784]")'


def from_jax(function: object, params: object = None, inputs: object = None, *,
             output_names: OutputNames | None = None, examples: object = None) -> Exportable:
    """A model of JAX, for `export_model` and for builders that `tfs export` names.

    function: `function(params, *inputs)`, jitted or not; without params `function(*inputs)`. Or a Flax module: of NNX,
        or of Linen, bound to its variables. Or what `jax.export.export` returned.
    params: a pytree of arrays, which become variables; random keys, too. Numbers and texts in it are constants.
    inputs: as in Exportable, with unknown dimensions as `?`, or as letters where they have to be equal:
        `{"tokens": "int32[b, s]", "mask": "bool[b, s]"}`. By the function's parameter names, as one dict where it takes
        a single parameter, or in their order.
    output_names: see Predict.outputs. examples: see Recording.examples.

    JAX isn't called before the model is exported. Raises ExportError for what is no function of JAX.
    """
    if params is None and recognises(function):
        return Exportable(function, inputs, output_names=output_names, examples=examples)
    if not callable(function) and not hasattr(function, "call"):
        raise ExportError(f"{type(function).__name__} is no function of JAX", hint=_HOW, id="jax-unservable")
    model: object = JaxFunction(function, params)  # type: ignore[arg-type]
    return Exportable(model, inputs, output_names=output_names, examples=examples)


def recognises(value: object) -> bool:
    """Whether it is a function of JAX or a module of Flax. Told by its classes' modules: JAX isn't needed."""
    if isinstance(value, JaxFunction):
        return True
    return not inspect.isclass(value) and any(base.__module__.split(".")[0] in _PACKAGES
                                              for base in type(value).__mro__)


def endpoint(model: object, name: str, inputs: object, output_names: OutputNames | None) -> SignatureFunction:
    """A signature called `name`. Raises ExportError if it can't be exported, or if nobody says what it takes."""
    require("jax", "exporting a model of JAX")
    quiet.tensorflow()
    held = _held(model)
    if inputs is None:
        raise ExportError(f"signature {name!r} is a {type(model).__name__} of JAX, which doesn't say what it takes",
                          hint=_HOW, id="inputs-unknown")
    described, letters = _letters(inputs)
    parameters = functions.parameters_of(held.function)[held.params is not None:]
    input_specs = functions.named(specs.parse(described), parameters, name)
    _check_inputs(input_specs)
    module = JaxModule.of(held, input_specs, parameters, letters, name)
    return SignatureFunction(name, input_specs, module.call, rename=output_names, notes=module.notes)


def _held(model: object) -> JaxFunction:
    """What is exported of a model, as a function and its parameters."""
    if isinstance(model, JaxFunction):
        return _unpacked(model)
    roots = {base.__module__.partition(".")[2].split(".")[0] for base in type(model).__mro__
             if base.__module__.startswith("flax.")}
    if "nnx" in roots:
        return _of_nnx(model)
    if "linen" in roots:
        return _of_linen(model)
    return _unpacked(JaxFunction(model))  # type: ignore[arg-type]


def _unpacked(model: JaxFunction) -> JaxFunction:
    """With the call of an Exported, which must be for CPU and has to keep its promises."""
    from jax import export

    if not isinstance(model.function, export.Exported):
        return model if not recognises(model.function) or hasattr(model.function, "lower") else _held(model.function)
    exported = model.function
    if "cpu" not in exported.platforms:
        raise ExportError(f"the function was exported for {', '.join(exported.platforms)}, and the server has a CPU",
                          hint='export it for that, too: jax.export.export(f, platforms=["cpu", ...])',
                          id="jax-unservable")
    check_exported(exported)
    return JaxFunction(exported.call, model.params)


def _of_nnx(module: Any) -> JaxFunction:
    """In inference mode: dropout off, running averages used. The module itself stays as it is."""
    from flax import nnx

    graph, state = nnx.split(module)

    def call(state: Any, *inputs: Any, **named: Any) -> Any:
        merged = nnx.merge(graph, state)
        merged.eval()
        return merged(*inputs, **named)

    return JaxFunction(_signed(call, type(module).__call__), state)


def _of_linen(module: Any) -> JaxFunction:
    if module.scope is None:
        raise ExportError(f"the Flax module {type(module).__name__} isn't bound to its variables",
                          hint="return module.bind(variables), or deploy.from_jax(module.apply, variables, inputs)",
                          id="jax-unservable")
    plain, variables = module.unbind()
    return JaxFunction(_signed(plain.apply, type(module).__call__), variables)


def _signed(function: Callable[..., Any], like: Callable[..., Any]) -> Callable[..., Any]:
    """The function with the parameter names of a module's call, behind the one for its parameters."""

    def call(state: Any, *inputs: Any, **named: Any) -> Any:
        return function(state, *inputs, **named)

    own = list(inspect.signature(like).parameters.values())[1:]
    first = inspect.Parameter("params", inspect.Parameter.POSITIONAL_ONLY)
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [first, *(p for p in own if p.kind is not p.VAR_KEYWORD)])
    return call


def _letters(inputs: object) -> tuple[object, list[list[str]]]:
    """The inputs in the form that `specs.parse` reads, and for each the letters of its dimensions, "" without one."""
    if isinstance(inputs, Mapping):
        pairs = {name: _letters(value) for name, value in inputs.items()}
        return {name: pair[0] for name, pair in pairs.items()}, [each for pair in pairs.values() for each in pair[1]]
    if isinstance(inputs, list | tuple) and not all(d is None or isinstance(d, int) for d in inputs):
        listed = [_letters(value) for value in inputs]
        return [pair[0] for pair in listed], [each for pair in listed for each in pair[1]]
    shape = _SHAPE.search(inputs) if isinstance(inputs, str) else None
    if shape is None or not isinstance(inputs, str):
        return inputs, [[]]
    sizes = [size.strip() for size in shape[1].split(",") if size.strip()]
    letters = [size if size.isidentifier() and size != "None" else "" for size in sizes]
    plain = ", ".join("?" if letter else size for letter, size in zip(letters, sizes, strict=True))
    return f"{inputs[:shape.start()]}[{plain}]", [letters]


def _check_inputs(input_specs: Sequence[TensorSpec]) -> None:
    import jax

    for spec in input_specs:
        if spec.dtype == "string":
            raise ExportError(f"the input {spec} is text, which JAX doesn't have",
                              hint="turn text into numbers in a tf.function around it, or before the request",
                              id="jax-unservable")
        if spec.shape is None:
            raise ExportError(f"the input {spec} has no rank, which JAX has to know", hint=_HOW, id="jax-unservable")
        if np.dtype(jax.dtypes.canonicalize_dtype(spec.dtype)).name != spec.dtype:
            raise ExportError(f"the input {spec} has 64 bits, and JAX computes with 32 here",
                              hint="say int32 or float32, or jax.config.update('jax_enable_x64', True) before the "
                              "parameters are made", id="jax-unservable")

"""tf.functions, plain functions and modules of them -> endpoints."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deploy.errors import ExportError
from deploy.export import quiet, specs
from deploy.export.options import OutputNames, SignatureFunction
from deploy.types import DEFAULT_SIGNATURE, TensorSpec

_DEFAULTS = (DEFAULT_SIGNATURE, "serve", "__call__", "call", "predict")
_HOW = 'say it with --input "x: float32[?, 20]" or inputs=..., or decorate it with ' \
    "@tf.function(input_signature=[tf.TensorSpec(...)])"


def endpoint(function: Any, name: str, inputs: object, output_names: OutputNames | None,
             owner: object = None) -> SignatureFunction:
    """A function of tensors as a signature called `name`.

    Raises ExportError if it isn't one, or if nobody says what it takes.
    """
    tf = quiet.tensorflow()
    if not callable(function):
        raise ExportError(f"signature {name!r} is a {type(function).__name__}, and not a function of tensors",
                          hint="give a tf.function, a plain function with inputs=..., or a Keras model",
                          id="bad-signature")
    holders = (owner, *held(function))
    if isinstance(function, tf.types.experimental.ConcreteFunction):
        return _of_concrete(function, name, output_names, holders)
    own = _input_signature(function)
    if inputs is None and own is None:
        raise ExportError(f"signature {name!r} doesn't say what it takes", hint=_HOW, id="inputs-unknown")
    parameters = parameters_of(function)
    if own is None:
        input_specs = named(specs.parse(inputs), parameters, name)
        call = positional(_converted(tf, function), input_specs, parameters)
    else:
        input_specs, pack = specs.flat(own, parameters, name)
        input_specs = input_specs if inputs is None else _repinned(input_specs, specs.parse(inputs), name)
        call = _packed(function, [spec.name for spec in input_specs], pack)
    return SignatureFunction(name, input_specs, call, rename=output_names, holders=holders)


def endpoints(module: Any, inputs: object, output_names: OutputNames | None) -> list[SignatureFunction]:
    """One endpoint for each tf.function with an input signature that `module` has as a public attribute.

    The one called serving_default, serve, __call__, call or predict, or an only one, becomes serving_default.
    Raises ExportError if there is none.
    """
    tf = quiet.tensorflow()
    loaded = getattr(module, "signatures", None)
    if isinstance(loaded, Mapping) and loaded:  # what tf.saved_model.load returns
        return [_of_concrete(function, name, output_names, (module,)) for name, function in loaded.items()]
    functions = {name: value for name in ("__call__", *_public(module))
                 if _is_function(tf, value := _get(module, name))}
    ready = {name: value for name, value in functions.items()
             if inputs is not None or _input_signature(value) is not None}
    if not ready:
        raise _nothing(module, functions, inputs)
    default = next((name for name in _DEFAULTS if name in ready), next(iter(ready)) if len(ready) == 1 else None)
    if inputs is not None:
        chosen = default or next(iter(ready))
        return [endpoint(ready[chosen], DEFAULT_SIGNATURE, inputs, output_names, module)]
    endpoints_here = [endpoint(value, DEFAULT_SIGNATURE if name == default else name, None, output_names, module)
                      for name, value in ready.items() if name == default or not name.startswith("_")]
    if default is None:
        raise ExportError(
            f"the {type(module).__name__} has the tf.functions {', '.join(ready)}, and none is the default",
            hint=f"call one of them {DEFAULT_SIGNATURE}, or give signatures={{{DEFAULT_SIGNATURE!r}: ...}}",
            id="inputs-unknown")
    return endpoints_here


def held(function: Any) -> tuple[object, ...]:
    """What a function refers to: its instance, what it closes over, and the globals that it names."""
    plain = getattr(function, "python_function", function)
    plain = inspect.unwrap(plain)
    referenced = [owner for f in (function, plain) if (owner := getattr(f, "__self__", None)) is not None]
    code = getattr(plain, "__func__", plain)
    if inspect.isfunction(code):
        referenced += [cell.cell_contents for cell in code.__closure__ or () if _filled(cell)]
        referenced += [code.__globals__[name] for name in code.__code__.co_names if name in code.__globals__]
        referenced += list(code.__defaults__ or ())
    return tuple(item for value in referenced for item in _items(value))


def _nothing(module: object, functions: Mapping[str, object], inputs: object) -> ExportError:
    class_name = type(module).__name__
    if type(module).__module__.startswith("tensorflow.python.saved_model"):
        return ExportError("the SavedModel has no signature, and its object no tf.function that says what it takes",
                           hint="save it again: tf.saved_model.save(model, path, signatures=...)", id="inputs-unknown")
    if functions:
        return ExportError(f"no tf.function of the {class_name} says what it takes ({', '.join(functions)})", hint=_HOW,
                           id="inputs-unknown")
    if callable(module) and inputs is None:
        return ExportError(f"the {class_name} has no tf.function with an input_signature", hint=_HOW,
                           id="inputs-unknown")
    return ExportError(f"the {class_name} has no tf.function to serve",
                       hint="decorate a method with @tf.function(input_signature=[tf.TensorSpec(...)])",
                       id="inputs-unknown")


def _of_concrete(function: Any, name: str, output_names: OutputNames | None,
                 holders: Sequence[object]) -> SignatureFunction:
    """A function that is traced already."""
    positional, keywords = function.structured_input_signature
    arguments = [*positional, *keywords.values()]
    input_specs, pack = specs.flat(arguments, [*(f"input_{i}" for i in range(len(positional))), *keywords], name)

    def call(*given: Any) -> Any:
        return function(*given[:len(positional)], **dict(zip(keywords, given[len(positional):], strict=True)))

    return SignatureFunction(name, input_specs, _packed(call, [spec.name for spec in input_specs], pack),
                             rename=output_names, holders=(*holders, function))


def _packed(function: Callable[..., Any], names: Sequence[str],
            pack: specs.Pack) -> Callable[[Mapping[str, Any]], Any]:
    return lambda tensors: function(*pack({name: tensors[name] for name in names}))


def positional(function: Callable[..., Any], input_specs: Sequence[TensorSpec],
                parameters: Sequence[str]) -> Callable[[Mapping[str, Any]], Any]:
    """By position; by keyword if the names are the function's own; as one dict if it takes a single argument."""
    names = [spec.name for spec in input_specs]
    keywords = set(names) <= set(parameters)
    as_dict = not keywords and len(names) > 1 and len(parameters) == 1

    def call(tensors: Mapping[str, Any]) -> Any:
        if keywords:
            return function(**{name: tensors[name] for name in names})
        return function({name: tensors[name] for name in names}) if as_dict else function(*(tensors[n] for n in names))

    return call


def _converted(tf: Any, function: Any) -> Any:
    """A plain function with its `if`s and loops over tensors converted, as tf.function would do it."""
    if isinstance(function, tf.types.experimental.GenericFunction) or not inspect.isroutine(function):
        return function
    return tf.__internal__.autograph.tf_convert(function, tf.__internal__.autograph.control_status_ctx())


def named(input_specs: tuple[TensorSpec, ...], parameters: Sequence[str], name: str) -> tuple[TensorSpec, ...]:
    """Unnamed inputs are called as the function's parameters are."""
    if len(input_specs) > len(parameters) and not (len(parameters) == 1 and all(spec.name for spec in input_specs)):
        raise ExportError(f"signature {name!r} is given {len(input_specs)} inputs, and its function takes "
                          f"{len(parameters)}", hint="describe each parameter once", id="input-spec")
    return tuple(spec if spec.name else TensorSpec(parameters[index], spec.dtype, spec.shape)
                 for index, spec in enumerate(input_specs))


def _repinned(input_specs: tuple[TensorSpec, ...], pinned: tuple[TensorSpec, ...], name: str) -> tuple[TensorSpec, ...]:
    """An input_signature stands; the caller may give its inputs other names."""
    by_name = {spec.name: spec for spec in pinned}
    if set(by_name) == {spec.name for spec in input_specs}:
        pinned = tuple(by_name[spec.name] for spec in input_specs)
    fits = len(input_specs) == len(pinned) and all(
        a.dtype == b.dtype and specs.compatible(a.shape, b.shape) for a, b in zip(input_specs, pinned, strict=True))
    if not fits:
        raise ExportError(f"signature {name!r} has the input_signature {'; '.join(map(str, input_specs))}, "
                          f"and the input spec says {'; '.join(map(str, pinned))}", hint="leave the input spec out",
                          id="input-spec")
    return tuple(TensorSpec(b.name or a.name, a.dtype, b.shape) for a, b in zip(input_specs, pinned, strict=True))


def _input_signature(function: Any) -> tuple[Any, ...] | None:
    signature = getattr(function, "input_signature", None)
    return None if signature is None else tuple(signature)


def parameters_of(function: Any) -> list[str]:
    """The names of a function's parameters, without `self`."""
    plain = getattr(function, "python_function", function)
    parameters = list(inspect.signature(plain).parameters.values())
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return [f"input_{index}" for index in range(64)]
    names = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    return names[1:] if names[:1] == ["self"] and not hasattr(plain, "__self__") else names


def _is_function(tf: Any, value: object) -> bool:
    return isinstance(value, tf.types.experimental.GenericFunction | tf.types.experimental.ConcreteFunction)


def _public(module: object) -> list[str]:
    return [name for name in dir(module) if not name.startswith("_")]


def _get(module: object, name: str) -> object:
    """An attribute, None if reading it fails: properties of a module are none of our business."""
    try:
        return getattr(module, name, None)
    except Exception:
        return None


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _items(value: object) -> list[object]:
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple | set) else [value]

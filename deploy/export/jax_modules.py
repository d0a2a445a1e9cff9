"""A function of JAX -> the op XlaCallModule, with the function as StableHLO, and its parameters as variables.

The server compiles it with XLA at the first request of each shape. Unknown dimensions are symbols in it.
Sources: https://docs.jax.dev/en/latest/export/export.html; tensorflow/compiler/tf2xla/ops/xla_ops.cc.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deploy.errors import ExportError
from deploy.export import functions, quiet
from deploy.export.failures import user_error
from deploy.types import TensorSpec
from deploy.wire.tensors import SENDABLE

_BATCH = "b"
_SHAPES = 'where a size has to be known give a number instead of ?; where two have to be equal give both one letter: ' \
    '"int32[b, s]"'
_MOST_CONSTANT = 1 << 30  # bytes of a function's own constants; a graph ends at 2 GiB
_CONSTANT = 16 << 20  # bytes from which they are told


@dataclass(frozen=True, slots=True)
class JaxFunction:
    """function: takes the parameters, a pytree, before its inputs; without parameters only those."""

    function: Callable[..., Any]
    params: object = None

    def of(self, params: object) -> Callable[..., Any]:
        """The function of the inputs, with these parameters."""
        return self.function if self.params is None else functools.partial(self.function, params)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A leaf of the parameters. variable: it, as TensorFlow's; None for a constant. restore: back from its array."""

    value: Any
    variable: Any = None
    restore: Callable[[Any], Any] | None = None

    @property
    def live(self) -> Any:
        """It, as JAX has it: numpy's arrays don't index as JAX's do."""
        import jax

        return jax.numpy.asarray(self.value) if isinstance(self.value, np.ndarray) and self.variable is not None \
            else self.value

    def filled(self, arrays: Iterator[Any]) -> Any:
        """It, or the next array in its place."""
        if self.variable is None:
            return self.value
        return self.restore(next(arrays)) if self.restore else next(arrays)


@dataclass(frozen=True, slots=True)
class JaxModule:
    """A function that was exported. exported: jax.export's; leaves: of its parameters; names: of its inputs."""

    exported: Any
    leaves: Sequence[_Leaf]
    names: Sequence[str]
    live: Callable[[Mapping[str, Any]], Any]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, held: JaxFunction, input_specs: Sequence[TensorSpec], parameters: Sequence[str],
           letters: Sequence[Sequence[str]], signature: str) -> JaxModule:
        import jax

        paths, tree = jax.tree_util.tree_flatten_with_path(held.params)
        leaves = [_leaf(path, value) for path, value in paths]
        names = [spec.name for spec in input_specs]

        def flat(arrays: list[Any], inputs: list[Any]) -> Any:
            given = iter(arrays)
            values = [leaf.filled(given) for leaf in leaves]
            function = held.of(jax.tree_util.tree_unflatten(tree, values))
            return functions.positional(function, input_specs, parameters)(dict(zip(names, inputs, strict=True)))

        exported = _exported(flat, [leaf.variable for leaf in leaves if leaf.variable is not None], input_specs,
                             letters, signature)
        own = held.of(jax.tree_util.tree_unflatten(tree, [leaf.live for leaf in leaves]))
        return cls(exported, leaves, names, functions.positional(own, input_specs, parameters), _notes(exported))

    def call(self, tensors: Mapping[str, Any]) -> Any:
        """JAX's own answer for arrays; for the tensors of a graph the op that the server runs."""
        import jax
        import tensorflow as tf

        if tf.executing_eagerly():
            answer = self.live({name: jax.numpy.asarray(tensor.numpy()) for name, tensor in tensors.items()})
            return jax.tree_util.tree_map(lambda leaf: tf.constant(np.asarray(leaf)), answer)
        variables = [leaf.variable for leaf in self.leaves if leaf.variable is not None]
        arguments = [*variables, *(tensors[name] for name in self.names)]
        results = _called(self.exported, [arguments[index] for index in self.exported.module_kept_var_idx])
        return jax.tree_util.tree_unflatten(self.exported.out_tree, results)


def _leaf(path: Any, value: Any) -> _Leaf:
    import jax
    import tensorflow as tf

    if not hasattr(value, "dtype") or not hasattr(value, "shape") or value.dtype == jax.dtypes.float0:
        return _Leaf(value)
    name = re.sub(r"[^A-Za-z0-9_.]+", "/", jax.tree_util.keystr(path)).strip("/") or "param"
    name = name if name[0].isalnum() else f"p{name}"
    if jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
        implementation = jax.random.key_impl(value)
        data = np.asarray(jax.random.key_data(value))
        return _Leaf(value, tf.Variable(data, trainable=False, name=name),
                     lambda array: jax.random.wrap_key_data(array, impl=implementation))
    if not getattr(value, "is_fully_addressable", True):
        raise ExportError(f"the parameter {name} is spread over several processes", hint="gather it before exporting",
                          id="jax-unservable")
    array = np.asarray(value)
    return _Leaf(value, tf.Variable(array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False),
                                    trainable=False, name=name))


def _exported(flat: Callable[..., Any], variables: Sequence[Any], input_specs: Sequence[TensorSpec],
              letters: Sequence[Sequence[str]], signature: str) -> Any:
    """What jax.export makes of it for CPU. Raises ExportError with the function's own exception."""
    import jax
    from jax import export

    struct: Any = jax.ShapeDtypeStruct
    first: Exception | None = None
    for symbols in _symbols(input_specs, letters):
        known = [struct(v.shape.as_list(), v.dtype.as_numpy_dtype) for v in variables]
        scope, structs = export.SymbolicScope(), []
        for spec, dims in zip(input_specs, symbols, strict=True):
            shape = export.symbolic_shape(f"({', '.join(dims)}{',' * (len(dims) == 1)})", scope=scope) if dims else ()
            structs.append(struct(shape, jax.dtypes.canonicalize_dtype(spec.dtype)))
        try:
            with quiet.muted():
                jitted = jax.jit(flat)
                _check_callbacks(jitted.trace(known, structs).jaxpr)
                exported = export.export(jitted, platforms=["cpu"])(known, structs)
        except ExportError:
            raise
        except Exception as error:
            first = first or error
            continue
        check_exported(exported)
        return exported
    assert first is not None
    symbolic = any(None in (spec.shape or ()) for spec in input_specs)
    raise user_error(f"exporting signature {signature!r} of JAX with {'; '.join(map(str, input_specs))}", first,
                     _SHAPES if symbolic else "") from first


def _symbols(input_specs: Sequence[TensorSpec], letters: Sequence[Sequence[str]]) -> Iterator[list[list[str]]]:
    """Dimensions as text. What isn't said to be equal is free, and then, if that fails, equal at the same place."""
    for shared in (False, True):
        listed = []
        for number, (spec, own) in enumerate(zip(input_specs, letters, strict=True)):
            dims = []
            for place, size in enumerate(spec.shape or ()):
                free = _BATCH if place == 0 else f"d{place}" if shared else f"d{number}_{place}"
                letter = own[place] if place < len(own) else ""
                dims.append(str(size) if size is not None else letter or free)
            listed.append(dims)
        yield listed


def _check_callbacks(jaxpr: Any) -> None:
    """Python functions stay in this process."""
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        if "callback" in equation.primitive.name or equation.primitive.name in ("debug_print", "infeed", "outfeed"):
            raise ExportError(f"the function calls back into Python ({equation.primitive.name}), which a server "
                              "doesn't have", hint="leave out jax.debug.print, jax.pure_callback and jax.io_callback",
                              id="jax-unservable")
        for value in equation.params.values():
            for inner in value if isinstance(value, list | tuple) else [value]:
                if hasattr(getattr(inner, "jaxpr", inner), "eqns"):
                    _check_callbacks(inner)


def check_exported(exported: Any) -> None:
    if exported.nr_devices > 1:
        raise ExportError(f"the function is sharded over {exported.nr_devices} devices, and a server runs it on one",
                          hint="export it without a mesh and without sharding constraints", id="jax-unservable")
    if exported.disabled_safety_checks:
        checks = ", ".join(map(str, exported.disabled_safety_checks))
        raise ExportError(f"the function was exported with disabled checks: {checks}",
                          hint="what they are about works in one version of XLA only: export it without them",
                          id="jax-unservable")
    for aval in exported.out_avals:
        if aval.dtype.name not in SENDABLE:
            raise ExportError(f"the function returns an array of {aval.dtype.name}, which no reply can hold",
                              hint="for random keys return jax.random.key_data(key)", id="jax-unservable")
    size = len(exported.mlir_module_serialized)
    if size > _MOST_CONSTANT:
        raise ExportError(f"the function has {size:,} bytes of constants, too many for a graph",
                          hint="pass its arrays as params: deploy.from_jax(function, params, inputs)",
                          id="graph-too-big")


def _notes(exported: Any) -> tuple[str, ...]:
    size = len(exported.mlir_module_serialized)
    if size < _CONSTANT:
        return ()
    return (f"the function holds {size:,} bytes of constants, which each signature keeps for itself: arrays that are "
            "passed as params become variables",)


def _called(exported: Any, arguments: Sequence[Any]) -> list[Any]:
    import tensorflow as tf
    from jax import config
    from tensorflow.compiler.tf2xla.python import xla

    settings: Any = config
    version, newest = exported.calling_convention_version, xla.call_module_maximum_supported_version()
    if version > newest:
        raise ExportError(f"JAX writes version {version} of its calling convention, and TensorFlow {tf.__version__} "
                          f"knows those up to {newest}", hint="install a newer TensorFlow, or set "
                          f"JAX_EXPORT_CALLING_CONVENTION_VERSION={newest}", id="jax-unservable")
    shapes = [tuple(size if isinstance(size, int) else None for size in aval.shape) for aval in exported.out_avals]
    partitioner = {"use_shardy_partitioner": bool(settings.jax_use_shardy_partitioner)} if version >= 10 else {}
    results = xla.call_module(
        tuple(tf.convert_to_tensor(argument) for argument in arguments), version=version,
        Tout=[tf.as_dtype(aval.dtype) for aval in exported.out_avals], Sout=shapes, function_list=(),
        module=exported.mlir_module_serialized, platforms=("CPU",), has_token_input_output=False, disabled_checks=(),
        **partitioner)
    return [tf.ensure_shape(result, shape) for result, shape in zip(results, shapes, strict=True)]

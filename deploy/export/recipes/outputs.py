"""What is done to a signature's outputs: top_k with labels, cast_outputs, rename_outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploy.errors import ExportError
from deploy.export import saving, specs
from deploy.export.options import SignatureFunction
from deploy.export.recipes import lines
from deploy.export.recipes.lines import Lines
from deploy.export.recipes.recipe import Recipe, Tensors, recipe, refused, without
from deploy.types import DEFAULT_SIGNATURE, PREDICT_METHOD

Outputs = dict[str, Any]
_ACTIVATIONS = ("", "softmax", "sigmoid")
_MATRIX = 2


def with_outputs(name: str, base: SignatureFunction, change: Callable[[Outputs, Tensors], Outputs],
                 **fields: Any) -> SignatureFunction:
    """`base` with its outputs changed; `change` gets them by name, and all inputs."""
    if base.method_name != PREDICT_METHOD:
        raise refused(name, f"the outputs of signature {base.name!r} are those of {base.method_name}",
                      "put this recipe in front of the one that made it so")

    def call(tensors: Tensors) -> Outputs:
        return change(saving.named(base.call(tensors), base), tensors)

    return replace(base, call=call, outputs=(), rename=None, **fields)


def top_k(k: int, labels: object = None, *, output: str = "", activation: str = "", classes: str = "classes",
          scores: str = "scores", signature: str = DEFAULT_SIGNATURE) -> Recipe:
    """Answers with the k best classes: `classes` (string [?, k]), `scores` (float32 [?, k]), the best first.

    They take the place of the output that has a score for each class, [batch, classes].

    labels: a file with one label on each line, or a list; without it classes are called "0", "1", ...
    output: which one has the scores, if there are several. activation: `softmax` or `sigmoid`, for a model that
        answers with logits.
    classes, scores: names for the two outputs.
    Raises ExportError, also for labels that aren't as many as the scores, and a k above that.
    """
    name = "top-k"
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        raise refused(name, f"k is {k!r}", "say how many classes to answer with: a whole number from 1 on")
    if activation not in _ACTIVATIONS:
        raise refused(name, f"activation is {activation!r}", "possible: softmax, sigmoid")
    if classes == scores or not classes or not scores:
        raise refused(name, f"the outputs would be called {classes!r} and {scores!r}", "give them two names")
    known = None if labels is None else lines.read(name, "label", labels, "scores")
    if known and k > len(known.values):
        raise refused(name, f"k is {k}, and {known.name} has {len(known.values)} labels", "say a smaller k")

    def wrap(base: SignatureFunction, scratch: Path) -> SignatureFunction:
        table = lines.to_text(known, scratch) if known else None

        def change(results: Outputs, _: Tensors) -> Outputs:
            source = _scores_output(results, base.name, output)
            _check_scores(results[source], source, k, known)
            rest = without(results, source)
            if taken := {classes, scores} & set(rest):
                raise refused(name, f"signature {base.name!r} has an output {min(taken)!r} already",
                              "choose other names with classes=... and scores=...")
            return {**rest, **dict(zip((classes, scores), _best(results[source], k, table, activation), strict=True))}

        holders = (*base.holders, table) if known else base.holders
        return with_outputs(name, base, change, holders=holders,
                            no_tflite=base.no_tflite or "its classes are text from a table, which TFLite can't look up")

    return recipe(name, signature, wrap, {"labels": known.digest} if known else None, k=k,
                  labels=known.name if known else None, output=output, activation=activation,
                  classes=None if classes == "classes" else classes, scores=None if scores == "scores" else scores)


def _scores_output(results: Outputs, signature: str, wanted: str) -> str:
    if wanted and wanted not in results:
        raise refused("top-k", f"signature {signature!r} has no output {wanted!r}", f"it has {', '.join(results)}")
    if not wanted and len(results) != 1:
        raise refused("top-k", f"signature {signature!r} has {len(results)} outputs ({', '.join(results)})",
                      "say which has the scores with output=...")
    return wanted or next(iter(results))


def _check_scores(tensor: Any, output: str, k: int, labels: Lines | None) -> None:
    shape = f"{tensor.dtype.name}{list(tensor.shape) if tensor.shape.rank is not None else ''}".replace("None", "?")
    if tensor.shape.rank != _MATRIX or not (tensor.dtype.is_floating or tensor.dtype.is_integer):
        raise refused("top-k", f"the output {output!r} is {shape}, not scores",
                      "it has to have one row of numbers for each example: [batch, classes]")
    count = tensor.shape[1]
    if labels and count is not None and len(labels.values) != count:
        raise refused("top-k", f"{labels.name} has {len(labels.values)} labels, and the output {output!r} has {count} "
                      "scores for each example", "give one label for each score, in the same order")
    if count is not None and k > count:
        raise refused("top-k", f"k is {k}, and the output {output!r} has {count} scores for each example",
                      "say a smaller k")


def _best(tensor: Any, k: int, table: Any, activation: str) -> tuple[Any, Any]:
    """Classes and scores."""
    import tensorflow as tf

    values = tf.cast(tensor, tf.float32)
    if activation:
        values = tf.nn.softmax(values) if activation == "softmax" else tf.sigmoid(values)
    best, indices = tf.math.top_k(values, k)
    return table.lookup(tf.cast(indices, tf.int64)) if table else tf.strings.as_string(indices), best


def cast_outputs(dtypes: str | Mapping[str, str], *, signature: str = DEFAULT_SIGNATURE) -> Recipe:
    """Answers in other dtypes: `{"scores": "float32"}`, or one dtype for all outputs of floats.

    Raises ExportError, also for an output that isn't there, and for strings.
    """
    name = "cast-outputs"
    wanted = dict(dtypes) if isinstance(dtypes, Mapping) else {}
    if not dtypes or not isinstance(dtypes, str | Mapping):
        raise refused(name, f"the dtypes are {dtypes!r}", 'give one for all outputs, or {"scores": "float32"}')
    for dtype in wanted.values() if wanted else (dtypes,):
        specs.one(str(dtype))  # raises for what can't be served

    def change(results: Outputs, _: Tensors) -> Outputs:
        import tensorflow as tf

        _check_known(name, wanted, results)
        targets = wanted or {key: str(dtypes) for key, tensor in results.items() if tensor.dtype.is_floating}
        for key, dtype in targets.items():
            if tf.string in (results[key].dtype, tf.as_dtype(dtype)):
                raise refused(name, f"the output {key!r} can't be cast from {results[key].dtype.name} to {dtype}",
                              "cast numbers to numbers")
        return {key: tf.cast(tensor, targets[key]) if key in targets else tensor for key, tensor in results.items()}

    parameters = {"outputs": wanted} if wanted else {"dtypes": dtypes}
    return recipe(name, signature, lambda base, _: with_outputs(name, base, change), **parameters)


def rename_outputs(names: Mapping[str, str], *, signature: str = DEFAULT_SIGNATURE) -> Recipe:
    """Gives outputs other names: old name -> new name. Raises ExportError."""
    name = "rename-outputs"
    check_names(name, names)

    def change(results: Outputs, _: Tensors) -> Outputs:
        _check_known(name, names, results)
        after = [names.get(key, key) for key in results]
        if twice := sorted({key for key in after if after.count(key) > 1}):
            raise refused(name, f"two outputs would be called {twice[0]!r}", "give every output its own name")
        return dict(zip(after, results.values(), strict=True))

    return recipe(name, signature, lambda base, _: with_outputs(name, base, change), outputs=dict(names))


def check_names(name: str, names: object) -> None:
    """Raises ExportError unless it is a mapping of old names to new ones."""
    if not isinstance(names, Mapping) or not names or \
            not all(isinstance(text, str) and text for pair in names.items() for text in pair):
        raise refused(name, f"the names are {names!r:.60}", 'say old name and new name: {"outputs": "probabilities"}')


def _check_known(name: str, wanted: Mapping[str, str], results: Outputs) -> None:
    if unknown := sorted(set(wanted) - set(results)):
        raise ExportError(f"recipe {name}: there is no output {unknown[0]!r}", hint=f"there is {', '.join(results)}",
                          id="bad-recipe")

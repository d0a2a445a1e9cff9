"""A recipe: what serving needs around a model, as a value that changes one of its signatures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deploy.errors import ExportError
from deploy.export.options import SignatureFunction
from deploy.savedmodel.recipes import RecipeRecord
from deploy.types import TensorSpec

Wrap = Callable[[SignatureFunction, Path], "SignatureFunction | tuple[SignatureFunction, ...]"]
"""A signature, and an empty directory for files that become assets -> what takes the signature's place."""

Tensors = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What `image_bytes`, `top_k` and the others return. record: its name, signature and parameters, for the manifest.

    wrap: what it does; raises ExportError for a signature that it doesn't fit, also later, when that is traced.
    """

    record: RecipeRecord
    wrap: Wrap = field(repr=False, compare=False)

    def __str__(self) -> str:
        return str(self.record)

    def error(self, what: str, hint: str) -> ExportError:
        """A sentence about this recipe."""
        return refused(self.record.name, what, hint)


def refused(name: str, what: str, hint: str) -> ExportError:
    """The error of a recipe that can't be made or applied."""
    return ExportError(f"recipe {name}: {what}", hint=hint, id="bad-recipe")


def recipe(name: str, signature: str, wrap: Wrap, digests: Mapping[str, str] | None = None, /,
           **parameters: object) -> Recipe:
    """A recipe with those of the parameters that are something. Raises ExportError for a signature that is no name."""
    if not isinstance(signature, str) or not signature:
        raise refused(name, f"signature is {signature!r}", "name one of the model's signatures, or leave it out")
    given = {key: list(value) if isinstance(value, tuple) else value for key, value in parameters.items()
             if value is not None and value not in ("", ())}
    return Recipe(RecipeRecord(name, signature, given, dict(digests or {})), wrap)


def apply(recipes: Sequence[Recipe], signatures: Sequence[SignatureFunction],
          scratch: Path) -> list[SignatureFunction]:
    """The signatures with all recipes around them, applied in this order.

    scratch: an empty directory, which has to stay until the model is saved. Raises ExportError.
    """
    for number, each in enumerate(recipes):
        place = scratch / str(number)  # two recipes may have a labels.txt each
        place.mkdir()
        signatures = _applied(each, signatures, place)
    return list(signatures)


def _applied(each: Recipe, signatures: Sequence[SignatureFunction], place: Path) -> list[SignatureFunction]:
    names, wanted = [signature.name for signature in signatures], each.record.signature
    if wanted not in names:
        raise each.error(f"there is no signature {wanted!r}", f"say signature=...; there is {', '.join(names)}")
    result: list[SignatureFunction] = []
    for signature in signatures:
        changed = each.wrap(signature, place) if signature.name == wanted else signature
        result += changed if isinstance(changed, tuple) else (changed,)
    after = [signature.name for signature in result]
    if twice := sorted({name for name in after if after.count(name) > 1}):
        raise each.error(f"there is a signature {twice[0]!r} already", "choose another name")
    return result


def chosen_input(name: str, base: SignatureFunction, wanted: str) -> TensorSpec:
    """The input that a recipe is about: the one that was named, or the only one."""
    by_name = {spec.name: spec for spec in base.inputs}
    if wanted and wanted not in by_name:
        raise refused(name, f"signature {base.name!r} has no input {wanted!r}", f"it takes {'; '.join(by_name)}")
    if not wanted and len(by_name) != 1:
        raise refused(name, f"signature {base.name!r} has {len(by_name)} inputs ({', '.join(by_name)})",
                      "say which of them with input=...")
    return by_name[wanted] if wanted else base.inputs[0]


def with_input(name: str, base: SignatureFunction, old: TensorSpec, new: TensorSpec,
               make: Callable[[Any], Any]) -> SignatureFunction:
    """`base` with the input `new` in the place of `old`, which is made from it by `make`."""
    taken = [spec.name for spec in base.inputs if spec is not old]
    if new.name in taken:
        raise refused(name, f"signature {base.name!r} has an input {new.name!r} already", "say name=...")

    def call(tensors: Tensors) -> Any:
        others = {key: tensor for key, tensor in tensors.items() if key != new.name}
        return base.call({**others, old.name: make(tensors[new.name])})

    inputs = tuple(new if spec is old else spec for spec in base.inputs)
    return replace(base, inputs=inputs, call=call, samples=without(base.samples, old.name))


def without(mapping: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The mapping without a key."""
    return {name: value for name, value in mapping.items() if name != key}

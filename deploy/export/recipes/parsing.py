"""`image-bytes(scale=-1..1)`, as the command line has it -> a recipe. The options are the functions' parameters."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from deploy.errors import ExportError
from deploy.export.recipes import images, inputs, outputs, texts
from deploy.export.recipes.recipe import Recipe, refused

RECIPES: Mapping[str, Callable[..., Recipe]] = {
    function.__name__.replace("_", "-"): function for function in (
        images.image_bytes, texts.text, inputs.tf_example, inputs.classify, inputs.regress, outputs.top_k, inputs.keys,
        inputs.copy_signature, inputs.rename_inputs, outputs.rename_outputs, outputs.cast_outputs)}
_OF_NAMES = {"rename-inputs": "names", "rename-outputs": "names", "cast-outputs": "dtypes"}
"""Those whose options are names of the model's own, and the parameter that gets them."""

_TOKEN = re.compile(r"""\s*(?:(?P<quoted>'[^']*'|"[^"]*")|(?P<mark>[(),=\[\]])"""
                    r"""|(?P<bare>[^\s'"(),=\[\]](?:[^'"(),=\[\]]*[^\s'"(),=\[\]])?))\s*""")
_HOW = "write NAME or NAME(value, option=value), with ' or \" around a value that has , ( ) [ ] = in it: " \
    "image-bytes(scale=-1..1), top-k(5, labels=labels.txt)"
_LIST = "give a list: recipes=[recipes.image_bytes('-1..1'), recipes.top_k(5)]"
_YES_NO = {"true": True, "yes": True, "false": False, "no": False}


def parse(text: str) -> Recipe:
    """The recipe of a text. Underscores do for hyphens. Raises ExportError: what can't be read, unknown names, and what
    the recipe itself refuses.
    """
    tokens = _tokens(text)
    name = tokens[0][1].replace("_", "-") if tokens and tokens[0][0] == "bare" else ""
    if not name:
        raise ExportError(f"can't read the recipe {text!r}", hint=_HOW, id="bad-recipe")
    if name not in RECIPES:
        close = difflib.get_close_matches(name, RECIPES, 1)
        hint = f"did you mean {close[0]}?" if close else f"there is {', '.join(RECIPES)}"
        raise ExportError(f"there is no recipe {name!r}", hint=hint, id="bad-recipe")
    return _called(name, *_arguments(text, tokens[1:]))


def read(given: object) -> list[Recipe]:
    """Recipes and texts of them -> recipes. Raises ExportError for what is neither."""
    if isinstance(given, str | Recipe):
        given = [given]
    if not isinstance(given, Iterable):
        raise ExportError(f"recipes are {given!r:.60}", hint=_LIST, id="bad-recipe")
    return [_one(each) for each in given]


def _one(given: object) -> Recipe:
    if isinstance(given, Recipe):
        return given
    if isinstance(given, str):
        return parse(given)
    what = "a function that makes recipes: call it" if given in RECIPES.values() else f"no recipe: {given!r:.60}"
    raise ExportError(f"{getattr(given, '__name__', 'this')} is {what}", hint=_LIST, id="bad-recipe")


def _tokens(text: str) -> list[tuple[str, str]]:
    """(`quoted`, `mark` or `bare`, its text)."""
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ExportError(f"can't read the recipe {text!r} from {text[position:]!r} on", hint=_HOW, id="bad-recipe")
        group = match.lastgroup or ""
        tokens.append((group, match[group][1:-1] if group == "quoted" else match[group]))
        position = match.end()
    return tokens


def _arguments(text: str, tokens: Sequence[tuple[str, str]]) -> tuple[list[Any], dict[str, Any]]:
    """Values in their order, and those with a name."""
    unreadable = ExportError(f"can't read the recipe {text!r}", hint=_HOW, id="bad-recipe")
    if not tokens:
        return [], {}
    marks = [tokens[0], tokens[-1]]
    if marks != [("mark", "("), ("mark", ")")] or len(tokens) == 1:
        raise unreadable
    values: list[Any] = []
    named: dict[str, Any] = {}
    for part in _split(tokens[1:-1], unreadable):
        key = part[0][1] if len(part) > 1 and part[1] == ("mark", "=") and part[0][0] != "mark" else None
        value = _value(part if key is None else part[2:], unreadable)
        if key is None:
            values.append(value)
        elif key in named:
            raise ExportError(f"the recipe {text!r} says {key} twice", hint="say it once", id="bad-recipe")
        else:
            named[key] = value
    return values, named


def _split(tokens: Sequence[tuple[str, str]], unreadable: ExportError) -> list[list[tuple[str, str]]]:
    """At the commas that are in no list."""
    parts: list[list[tuple[str, str]]] = [[]]
    depth = 0
    for token in tokens:
        depth += {("mark", "["): 1, ("mark", "]"): -1}.get(token, 0)
        if token == ("mark", ",") and not depth:
            parts.append([])
        else:
            parts[-1].append(token)
    if depth or (len(parts) > 1 and not all(parts)):
        raise unreadable
    return [part for part in parts if part]


def _value(tokens: Sequence[tuple[str, str]], unreadable: ExportError) -> Any:
    if len(tokens) == 1 and tokens[0][0] != "mark":
        return tokens[0][1]
    if len(tokens) < 2 or (tokens[0], tokens[-1]) != (("mark", "["), ("mark", "]")):
        raise unreadable
    items = _split(tokens[1:-1], unreadable)
    if not all(len(item) == 1 and item[0][0] != "mark" for item in items):
        raise unreadable
    return [item[0][1] for item in items]


def _called(name: str, values: Sequence[Any], named: Mapping[str, Any]) -> Recipe:
    function = RECIPES[name]
    parameters = inspect.signature(function).parameters
    if name in _OF_NAMES:
        signature = {key: value for key, value in named.items() if key == "signature"}
        own = {key: value for key, value in named.items() if key != "signature"}
        if own and not values:
            return function(own, **signature)
        if name != "cast-outputs" or len(values) != 1 or own:
            raise refused(name, "no names are given" if not values else "expected names only",
                          f"write {name}(old=new)" if name != "cast-outputs" else "write cast-outputs(scores=float32)")
        return function(values[0], **signature)
    in_order = [each.name for each in parameters.values() if each.kind is not each.KEYWORD_ONLY]
    if len(values) > len(in_order):
        raise refused(name, f"{values[len(in_order)]!r} has no option's name", f"its options: {', '.join(parameters)}")
    given = dict(zip(in_order, values, strict=False))
    if twice := sorted(set(given) & set(named)):
        raise refused(name, f"{twice[0]} is given twice", "say it once")
    if unknown := sorted(set(named) - set(parameters)):
        raise refused(name, f"there is no option {unknown[0]!r}", f"its options: {', '.join(parameters)}")
    given |= named
    missing = [each.name for each in parameters.values() if each.default is each.empty and each.name not in given]
    if missing:
        raise refused(name, f"{missing[0]} isn't given", f"write {name}({missing[0]}=...)")
    return function(**{key: _converted(name, key, str(parameters[key].annotation), value)
                       for key, value in given.items()})


def _converted(name: str, key: str, wanted: str, value: Any) -> Any:
    """As the parameter's annotation says. Raises ExportError."""
    try:
        if wanted == "int":
            return int(value)
        if wanted == "bool":
            return _YES_NO[value.lower()]
        if wanted == "Numbers":
            return tuple(float(each) for each in ([value] if isinstance(value, str) else value))
    except (ValueError, TypeError, KeyError, AttributeError):
        expected = {"int": "a whole number", "bool": "true or false", "Numbers": "a number, or [number, number, ...]"}
        raise refused(name, f"{key} is {value!r}", f"expected {expected[wanted]}") from None
    if wanted == "str" and not isinstance(value, str):
        raise refused(name, f"{key} is a list", "expected one text")
    return value

"""Prints docs/api.md from the public names' own docstrings: `make configs`.

Which names, in which order and section: the stub deploy/__init__.pyi, the one table of them. The examples at the top
are docs/examples/api.md; a test runs them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import deploy

ROOT = Path(__file__).parents[1]


def sections() -> dict[str, list[str]]:
    """The stub's comments that are one word, and the names below each."""
    found: dict[str, list[str]] = {}
    names: list[str] = []
    for line in (ROOT / "deploy" / "__init__.pyi").read_text().splitlines():
        if heading := re.fullmatch(r"# (\w+)", line):
            names = found.setdefault(heading[1], [])
        elif entry := re.fullmatch(r"from \.[\w.]+ import ([A-Za-z]\w*) as \1", line):
            names.append(entry[1])
    return found


def signature(name: str, item: object) -> str:
    """How it is called, one parameter a line if it is long."""
    if not callable(item) or getattr(item, "_is_protocol", False):
        return name
    try:
        taken = inspect.signature(item)
    except (TypeError, ValueError):
        return name
    parameters = [p for p in taken.parameters.values() if p.name != "self"]
    text = str(taken.replace(parameters=parameters))
    text = re.sub(r"ForwardRef\(('[^']*')\)", r"\1", text)
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)  # annotations are kept as strings
    text = re.sub(r"(?:deploy|pathlib|collections\.abc|typing)(?:\.\w+)*\.(\w+)", r"\1", text)
    text = re.sub(r"<[^<>]* at 0x\w+>", "...", text)
    if len(name + text) <= 110:
        return name + text
    inner, _, result = text[1:].rpartition(")")
    return f"{name}(\n    " + re.sub(r", (?![^\[(]*[\])])", ",\n    ", inner) + f"\n){result}"


def methods(item: type) -> Iterator[str]:
    """The public methods and properties that have a docstring."""
    for name, member in vars(item).items():
        function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        text = inspect.getdoc(function)
        if name.startswith("_") or not text or not (inspect.isfunction(function) or isinstance(function, property)):
            continue
        called = name if isinstance(function, property) else " ".join(signature(name, function).split())
        yield f"- `{called}`: {' '.join(text.split())}"


def entry(name: str) -> str:
    """One name: how it is called, what its docstring says, its methods."""
    item = getattr(deploy, name)
    if inspect.ismodule(item):
        return module(name, item)
    lines = [f"### {name}", "", "```python", signature(name, item), "```", "",
             "```text", inspect.getdoc(item) or "", "```", ""]
    if inspect.isclass(item) and not issubclass(item, Exception) and (listed := list(methods(item))):
        lines += [*listed, ""]
    return "\n".join(lines)


def module(name: str, item: ModuleType) -> str:
    """What stands in a module of its own: its first paragraphs, then its functions."""
    text, _, _ = (inspect.getdoc(item) or "").partition("\n\n    ")
    lines = [f"`deploy.{name}`: {' '.join(text.split())}", ""]
    for each in item.__all__:
        if inspect.isfunction(member := getattr(item, each)):
            lines += [f"### {name}.{each}", "", "```python", signature(f"{name}.{each}", member), "```", "",
                      "```text", inspect.getdoc(member) or "", "```", ""]
    return "\n".join(lines)


def error(name: str) -> str:
    item = getattr(deploy, name)
    text = " ".join((inspect.getdoc(item) or "").split())
    return f"| `{name}` | {item.exit_code} | `{item.__mro__[1].__name__}` | {text} |"


if __name__ == "__main__":
    print((ROOT / "docs" / "examples" / "api.md").read_text().rstrip())
    for title, names in sections().items():
        print(f"\n## {title}\n")
        if title == "Errors":
            print("Each is a `DeployError` and knows the exit code of the command line; `hint` says what to do, "
                  "`details` has the evidence.\n\n| error | exit code | is a | |\n|---|---|---|---|")
            print("\n".join(map(error, names)))
        else:
            print("\n".join(map(entry, names)), end="")

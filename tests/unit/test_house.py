"""The house's own rules, as far as no linter knows them (CONTRIBUTING, Laws)."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
MODULES = [p for p in sorted(DEPLOY.rglob("*.py")) if not p.name.endswith("_pb2.py")]
PACKAGES = [str(p.parent.relative_to(DEPLOY)) for p in MODULES if p.name == "__init__.py" and p.parent != DEPLOY]
LONGEST = 300


def room(module: Path) -> str:
    return module.relative_to(DEPLOY).parts[0].removesuffix(".py")


def test_a_public_class_name_means_one_thing() -> None:
    rooms: dict[str, set[str]] = defaultdict(set)
    for module in MODULES:
        for node in ast.parse(module.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                rooms[node.name].add(room(module))
    assert not {name: where for name, where in rooms.items() if len(where) > 1}


@pytest.mark.parametrize("name", PACKAGES)
def test_the_sign_at_the_door_names_every_module(name: str) -> None:
    package = DEPLOY / name
    sign = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    modules = {p.stem for p in package.glob("*.py")} | {p.parent.name for p in package.glob("*/__init__.py")}
    modules -= {"__init__", "__main__"}
    words = {word.strip(",:;.`").rstrip("/") for word in sign.split()}
    assert not {m for m in modules if not m.endswith("_pb2")} - words


def test_no_module_is_too_long() -> None:
    lines = {str(m.relative_to(DEPLOY)): len(m.read_text().splitlines()) for m in MODULES}
    assert not {name: count for name, count in lines.items() if count > LONGEST}

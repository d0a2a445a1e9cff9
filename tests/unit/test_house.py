"""The house's own rules, as far as no linter knows them (CONTRIBUTING, Laws)."""

from __future__ import annotations

import ast
import re
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
        for name in re.findall(r"^class ([A-Za-z]\w*)", module.read_text(), re.MULTILINE):
            rooms[name].add(room(module))
    assert not {name: where for name, where in rooms.items() if len(where) > 1}


@pytest.mark.parametrize("name", PACKAGES)
def test_the_sign_at_the_door_names_every_module(name: str) -> None:
    package = DEPLOY / name
    sign = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    modules = {p.stem for p in package.glob("*.py")} | {p.parent.name for p in package.glob("*/__init__.py")}
    modules -= {"__init__", "__main__"}
    words = {word.strip(",:;.`").rstrip("/") for word in sign.split()}
    assert not {m for m in modules if not m.endswith("_pb2")} - words


@pytest.mark.parametrize("name", PACKAGES)
def test_a_rooms_names_are_where_its_stub_says(name: str) -> None:
    """Names are resolved by their module when they are first used. One that a module has, too, would be either."""
    package = DEPLOY / name
    stub = package / "__init__.pyi"
    if not stub.exists():
        return
    modules = {p.stem for p in package.glob("*.py")} | {p.parent.name for p in package.glob("*/__init__.py")}
    for node in ast.parse(stub.read_text()).body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            if node.module is None:
                assert alias.name in modules
                continue
            assert alias.name not in modules
            module = package.joinpath(*node.module.split(".")).with_suffix(".py")
            assert alias.name in _defined(module if module.exists() else module.with_suffix("") / "__init__.py")


def _defined(module: Path) -> set[str]:
    names = set[str]()
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def test_no_module_is_too_long() -> None:
    lines = {str(m.relative_to(DEPLOY)): len(m.read_text().splitlines()) for m in MODULES}
    assert not {name: count for name, count in lines.items() if count > LONGEST}

"""Names that are imported when they are first used."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deploy import lazy

STUB = "# what it offers\n\nfrom .walls import Wall as Wall\nfrom . import roof as roof\n"


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "lazy_house"
    package.mkdir()
    (package / "__init__.py").write_text("from deploy import lazy\n"
                                         "__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)\n")
    (package / "__init__.pyi").write_text(STUB)
    (package / "walls.py").write_text("class Wall: ...\n")
    (package / "roof.py").write_text("tiles = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("lazy_house", "lazy_house.walls", "lazy_house.roof"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return package


def test_a_name_is_imported_when_it_is_first_used(house: Path) -> None:
    import lazy_house  # type: ignore[import-not-found]

    assert dir(lazy_house) == ["Wall", "roof"] == lazy_house.__all__
    assert "lazy_house.walls" not in sys.modules
    assert lazy_house.Wall.__name__ == "Wall"
    assert "lazy_house.roof" not in sys.modules
    assert lazy_house.roof.tiles == 7
    assert vars(lazy_house)["Wall"] is lazy_house.Wall  # found without us the next time


def test_an_unknown_name_is_an_attribute_error(house: Path) -> None:
    import lazy_house

    with pytest.raises(AttributeError, match="module 'lazy_house' has no attribute 'Door'"):
        lazy_house.Door  # noqa: B018


def test_a_stub_of_another_form_is_named_with_its_line(house: Path) -> None:
    (house / "__init__.pyi").write_text(STUB + "from .walls import Wall\n")
    with pytest.raises(ValueError, match=r"__init__.pyi of lazy_house, line 5: expected from .module import"):
        import lazy_house  # noqa: F401


def test_no_room_offers_a_name_like_the_module_that_it_is_in() -> None:
    """Importing that module would put it where the name has to be."""
    for stub in Path(lazy.__file__).parent.rglob("__init__.pyi"):
        for line in stub.read_text().splitlines():
            if line.startswith("from ."):
                module, name = line.removeprefix("from .").split(" as ")[0].split(" import ")
                assert module.partition(".")[0] != name, f"{stub}: {line}"


def test_a_module_runs_when_it_is_first_asked_for_something(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (house.parent / "lazy_cellar.py").write_text("import sys\nsys.lazy_cellar_ran = True\nwine = 3\n")
    monkeypatch.delitem(sys.modules, "lazy_cellar", raising=False)
    cellar = lazy.load("lazy_cellar")
    assert not hasattr(sys, "lazy_cellar_ran")
    assert cellar.wine == 3
    assert hasattr(sys, "lazy_cellar_ran")
    del sys.lazy_cellar_ran
    del sys.modules["lazy_cellar"]


def test_a_module_that_is_not_there_is_said_at_once() -> None:
    with pytest.raises(ModuleNotFoundError, match="lazy_attic"):
        lazy.load("lazy_attic")

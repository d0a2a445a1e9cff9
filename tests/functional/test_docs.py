"""Documentation that fails the build."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import deploy
from deploy.cli.app import app
from tests.packages.release import changelog, release

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(group: click.Group, path: str = "tfs") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


ALL = dict(commands(app))


@pytest.mark.parametrize("path", ALL)
def test_every_command_has_help_with_an_example_and_json(path: str) -> None:
    command = ALL[path]
    assert command.help and len(command.get_short_help_str(200)) < 70
    assert f"{path} " in f"{command.epilog} " or f"$({path}" in (command.epilog or "")
    assert any("--json" in option.opts for option in command.params)


@pytest.mark.parametrize("page", ["cli", "api", "troubleshooting"])
def test_the_references_are_current(page: str) -> None:
    made = subprocess.run([sys.executable, str(ROOT / "docs" / f"{page}_reference.py")], check=True,
                          capture_output=True, text=True, cwd=ROOT).stdout
    assert (ROOT / "docs" / f"{page}.md").read_text() == made, "run `make configs`"


def test_the_picture_of_the_concepts_is_current(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "docs/pictures.py"), str(tmp_path / "made.svg")], check=True)
    assert (tmp_path / "made.svg").read_text() == (ROOT / "docs/concepts.svg").read_text(), "run docs/pictures.py"


def test_every_public_name_is_explained() -> None:
    assert not [name for name in deploy.__all__ if not name.startswith("_") and not getattr(deploy, name).__doc__]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_guides_exist(page: Path) -> None:
    """Each `tfs verb` and each `make target` that a page shows is there."""
    text = page.read_text()
    verbs = {path.split()[1] for path in ALL}
    assert not set(re.findall(r"(?:^|`|\n|&& )tfs ([a-z-]+)\b(?!')", text)) - verbs
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert not set(re.findall(r"`make ([a-z-]+)", text)) - targets


def test_the_changelog_keeps_its_form_and_the_package_its_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert not list(changelog(text))
    assert deploy.__version__ == importlib.metadata.version("tfs-deploy")
    assert deploy.__version__ in text.partition("\n### ")[0], "the first section says which version it is or will be"


def test_what_is_missing_before_a_release() -> None:
    dated = "# Changelog\n\n## [1.2.0] - 2026-01-31\n\n### Added\n\n- a\n"
    assert not list(changelog(dated)) and not list(release(dated, "1.2.0", {"v1.1.0"}))
    assert "is there already" in next(release(dated, "1.2.0", {"v1.2.0"}))
    assert "[Unreleased]" in next(release("## [Unreleased]\n", "1.2.0", set()))
    assert len(list(changelog("## 1.2\n\n### Misc\n\n### Fixed\n"))) == 3


def test_every_make_target_is_explained() -> None:
    """Each make target says what it does, since `make` prints that."""
    rules = re.findall(r"^([a-z-]+):(?! *=)(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert not [name for name, rest in rules if "##" not in rest]

"""Every command that README, guides, messages, CI templates and tests show has the options that they give it; the
extras and their sizes are told completely."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import click

from deploy.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "CHANGELOG.md", "Makefile", "docs/**/*.md", "docs/**/*.py", "deploy/**/*.md", "deploy/**/*.py",
         "deploy/cli/tfs.mk", "tests/**/*.py", ".github/actions/tfs/*", ".gitlab/*.yml", ".pre-commit-hooks.yaml",
         "docker/*"]
MENTION = re.compile(r"(?<![\w./-])(?:\$\(TFS\)|\$\(BIN\)/tfs|tfs) (?P<verb>[a-z]+)(?P<rest>(?: [^\n`;|&]*)?)")
ENDS = re.compile(r"\s#|\s--\s|\btfs [a-z]|[\"'] *[,)\]]|\\n|\$\(BIN\)")
OPTION = re.compile(r"(?<=[\s\[(])--?[a-z][a-z0-9-]*")


def files() -> list[Path]:
    """But for this one, which shows wrong ones."""
    return sorted({path for page in PAGES for path in ROOT.glob(page) if path.is_file()} - {Path(__file__)})


def mentions(text: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Of each command in the text: its words as they stand there, and its options."""
    for found in MENTION.finditer(re.sub(r"\\\n\s*", "", text)):
        command = ENDS.split(found["rest"], maxsplit=1)[0]
        yield found[0], [found["verb"], *command.split()], OPTION.findall(command)


def command_of(words: list[str]) -> click.Command | None:
    command: click.Command | None = app
    for word in words:
        if not isinstance(command, click.Group):
            break
        command = command.commands.get(word)
    return command


def unknown(text: str) -> list[str]:
    """The mentions with an option that their command doesn't have, each with those options."""
    bad = []
    for said, words, options in mentions(text):
        if (command := command_of(words)) is not None:
            known = {"--help"}.union(*([*p.opts, *p.secondary_opts] for p in command.params))
            bad += [f"{said}: {option}" for option in options if option not in known]
    return bad


def test_every_option_that_is_shown_exists() -> None:
    wrong = [f"{path.relative_to(ROOT)}: {said}" for path in files() for said in unknown(path.read_text())]
    assert not wrong, "\n".join(wrong)


def test_the_mentions_are_found() -> None:
    """Otherwise the test above would pass by seeing nothing."""
    text = "`tfs publish x --nmae y --json | jq -r .digest`, or `tfs goldens add m \\\n  --exmaples a.npz  # -- --no`."
    assert [said.rpartition(": ")[2] for said in unknown(text)] == ["--nmae", "--exmaples"]
    assert unknown('run("tfs down --spec s.yaml -x", "--y")')[0].endswith(": -x")
    assert sum(bool(options) for path in files() for _, _, options in mentions(path.read_text())) > 400


def test_each_extra_has_a_size_or_says_why_not() -> None:
    section = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]\n")[2]
    extras = re.findall(r"^([a-z0-9]+) = \[", section.partition("\n[")[0], re.MULTILINE)
    sizes = runpy.run_path(str(ROOT / "docs/sizes.py"))
    measured, left_out = set(sizes["FOR"]), set(sizes["UNMEASURED"])
    assert measured | left_out == set(extras) and not measured & left_out
    installed = re.search(r"'\.\[([a-z0-9,]+)\]'", (ROOT / "Makefile").read_text())
    assert installed and set(installed[1].split(",")) == measured
    page = (ROOT / "docs/sizes.md").read_text()
    assert {*re.findall(r"^\| `([a-z0-9]+)` \|", page, re.MULTILINE)} == measured
    assert all(f"`{extra}` ({purpose})" in page for extra, purpose in sizes["UNMEASURED"].items())

"""The docs as a site: built strictly, nothing in it is loaded from elsewhere, and each link in it leads somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("mkdocs")
ROOT = Path(__file__).parents[2]


def build(site: Path, config: Path = ROOT / "docs/site/mkdocs.yml") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(site)],
        capture_output=True, text=True, check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("site")
    done = build(where)
    assert done.returncode == 0, done.stdout + done.stderr
    return where


class References(HTMLParser):
    """What a page loads, where its links lead, and the anchors that it has."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loaded: set[str] = set()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if "src" in given or (tag == "link" and given.get("rel") not in {"canonical", "next", "prev"}):
            self.loaded.add(given.get("src", given.get("href", "")))
        elif tag == "a" and "href" in given:
            self.links.add(given["href"])


def pages(site: Path) -> Iterator[tuple[Path, References]]:
    for page in sorted(site.rglob("*.html")):
        if page.name != "404.html":  # its addresses are those of a server's root
            yield page, References(page)


def test_every_page_is_there_and_found_by_search(site: Path) -> None:
    written = {page.relative_to(site).as_posix() for page, _ in pages(site)}
    sources = {page.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for page in (ROOT / "docs").rglob("*.md")
               if page.parts[-2] != "examples"}
    assert written == sources | {"index.html", "CHANGELOG.html", "CONTRIBUTING.html"}
    index = (site / "search/search_index.json").read_text()
    assert "golden" in index and not [page for page in written - {"index.html"} if page not in index]


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    assert not {(page.name, address) for page, references in pages(site) for address in references.loaded
                if urlsplit(address).netloc}
    styles = "".join(style.read_text() for style in site.rglob("*.css"))
    assert not re.findall(r"url\([\"']?https?:[^)]*", styles)


def test_every_link_leads_somewhere(site: Path) -> None:
    references = dict(pages(site))
    missing = set()
    for page, found in references.items():
        for address in found.loaded | found.links:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            there = target in references and unquote(parts.fragment) in references[target].anchors | {""}
            if not there and not (target.is_file() and target.suffix != ".html"):
                missing.add((page.name, address))
    assert not missing


def test_a_link_to_a_file_that_is_not_there_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs/site").mkdir(parents=True)
    for name in ("mkdocs.yml", "hooks.py"):
        text = (ROOT / "docs/site" / name).read_text()
        (tmp_path / "docs/site" / name).write_text(re.sub(r"nav:\n(  .*\n)+$", "", text))
    for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md"):
        (tmp_path / name).write_text("# A page\n\n[code](LICENSE), [a page](docs/a.md)\n")
    (tmp_path / "LICENSE").touch()
    (tmp_path / "docs/a.md").write_text("# A\n\n[code](../LICENSE), [start](../README.md)\n")
    config = tmp_path / "docs/site/mkdocs.yml"
    assert build(tmp_path / "good", config).returncode == 0
    (tmp_path / "docs/a.md").write_text("# A\n\n[code](../LICENCE)\n")
    refused = build(tmp_path / "bad", config)
    assert refused.returncode == 1 and "docs/a.md: there is no LICENCE" in refused.stderr

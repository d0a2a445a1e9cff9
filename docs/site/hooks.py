"""What MkDocs is told beside mkdocs.yml: README is the first page, CHANGELOG and CONTRIBUTING are pages, and links to
files that aren't in the site keep their text. A file that isn't there at all is a warning, which `--strict` refuses.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = {"README.md": "index.md",  # place in the repository: place in the site
         "CHANGELOG.md": "CHANGELOG.md", "CONTRIBUTING.md": "CONTRIBUTING.md"}
LINK = re.compile(r"(?P<start>!?\[(?P<text>[^\]]*)\])\((?P<target>[^)#\s]+)(?P<anchor>#[^)]*)?\)")
CODE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)
log = logging.getLogger("mkdocs.hooks.docs")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: object) -> str:
    """The page with links from where it is in the site; in the repository it may be elsewhere."""
    places = {added: source for source, added in PAGES.items()}
    source = PurePosixPath(places.get(page.file.src_uri, f"docs/{page.file.src_uri}"))

    def link(match: re.Match[str]) -> str:
        if "://" in match["target"]:
            return match[0]
        path = os.path.normpath(source.parent / match["target"])
        if not (ROOT / path).exists():
            log.warning("%s: there is no %s, which [%s] leads to", source, path, match["text"])
        place = PAGES.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
        if place is None or files.get_file_from_path(place) is None:
            return match["text"] if match["text"] != path else f"`{path}`"
        target = os.path.relpath(place, PurePosixPath(page.file.src_uri).parent)
        return f"{match['start']}({target}{match['anchor'] or ''})"

    parts = CODE.split(markdown)
    return "".join(part if number % 2 else LINK.sub(link, part) for number, part in enumerate(parts))

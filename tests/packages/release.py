"""`make release-check`: what has to hold before a version is tagged. Says all that doesn't, and ends with 1."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from deploy.version import __version__

ROOT = Path(__file__).parents[2]
SECTIONS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def changelog(text: str) -> Iterator[str]:
    """What isn't as Keep a Changelog has it, whether or not a release is near."""
    first = re.search(r"^## (.*)$", text, re.MULTILINE)
    if first is None or not re.fullmatch(r"\[Unreleased\]|\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", first[1]):
        yield "CHANGELOG.md: expected ## [Unreleased] or ## [1.2.3] - 2026-01-31 first"
    for section in set(re.findall(r"^### (.*)$", text, re.MULTILINE)) - SECTIONS:
        yield f"CHANGELOG.md: section {section!r} is none of {', '.join(sorted(SECTIONS))}"
    if re.search(r"^### \w+\n\n?(?=#|\Z)", text, re.MULTILINE):
        yield "CHANGELOG.md: an empty section: leave it out"


def release(text: str, version: str, tags: set[str]) -> Iterator[str]:
    """What is missing before `version` can be tagged."""
    first = re.search(r"^## \[(.*?)\]", text, re.MULTILINE)
    if first is None or first[1] != version:
        yield f"CHANGELOG.md: expected ## [{version}] - and the date first; its lines are in [Unreleased]"
    if f"v{version}" in tags:
        yield f"the tag v{version} is there already: raise deploy/version.py"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def main() -> int:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    faults = [*changelog(text), *release(text, __version__, set(_git("tag").split()))]
    if changed := _git("status", "--porcelain").splitlines():
        faults.append(f"{len(changed)} files aren't committed: {changed[0].strip()} ...")
    for fault in faults:
        print(f"release-check: {fault}", file=sys.stderr)
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())

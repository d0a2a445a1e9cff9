"""annotate.py DIRECTORY: what `tfs check` and `tfs smoke` have reported there, as annotations of a GitHub job.

Reads check-*.sarif and smoke.xml, merges the former into check.sarif (code scanning takes one run of a tool), writes
annotations to stdout, counts to $GITHUB_OUTPUT and a table to $GITHUB_STEP_SUMMARY. Needs nothing but Python.
"""

from __future__ import annotations

import json
import os
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

LEVELS = {"error": "error", "warning": "warning", "note": "notice"}
LIMIT = 2000  # characters of a message; the report has all of it


def escaped(text: str) -> str:
    """As the runner wants messages: what looks like another command or another line is none."""
    return text[:LIMIT].replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def annotation(level: str, title: str, message: str) -> str:
    title = escaped(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={title}::{escaped(message)}"


def merged(directory: Path) -> dict[str, Any] | None:
    """The reports of all models as one; None if there is none. A check that ended early has left an empty file."""
    whole: dict[str, Any] | None = None
    for path in sorted(directory.glob("check-*.sarif")):
        text = path.read_text(encoding="utf-8")
        if not text.strip():
            continue
        report = json.loads(text)
        if whole is None:
            whole = report
        else:
            whole["runs"][0]["results"] += report["runs"][0]["results"]
    return whole


def findings(report: dict[str, Any] | None) -> list[tuple[str, str, str]]:
    """(level, rule, message) of what isn't allowed."""
    results = report["runs"][0]["results"] if report else []
    return [(LEVELS.get(result.get("level", "warning"), "warning"), result["ruleId"], result["message"]["text"])
            for result in results if not result.get("suppressions")]


def failures(path: Path) -> list[tuple[str, str]]:
    """(check, message) of the smoke test's failures."""
    if not path.is_file():
        return []
    shown = []
    for case in ET.parse(path).getroot().iter("testcase"):  # noqa: S314  we have written it
        for problem in (*case.findall("failure"), *case.findall("error")):
            shown.append((f"{case.get('classname', '')} {case.get('name', '')}".strip(),
                          problem.get("message") or problem.text or "failed"))
    return shown


def append(variable: str, text: str) -> None:
    if path := os.environ.get(variable):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)


def main(directory: Path) -> None:
    report = merged(directory)
    if report:
        (directory / "check.sarif").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    found, failed = findings(report), failures(directory / "smoke.xml")
    for level, rule, message in found:
        print(annotation(level, f"tfs check {rule}", message))
    for check, message in failed:
        print(annotation("error", f"tfs smoke {check}", message))
    counted = sum(level != "notice" for level, _, _ in found)
    append("GITHUB_OUTPUT", f"findings={counted}\nfailures={len(failed)}\n")
    append("GITHUB_STEP_SUMMARY", f"| tfs | |\n|---|---|\n| errors and warnings of the check | {counted} |\n"
                                  f"| failures of the smoke test | {len(failed)} |\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""A report as JUnit XML, as CI systems read it: a suite per model, a case per check."""

from __future__ import annotations

import re
from itertools import groupby
from xml.etree import ElementTree as ET

from deploy.smoke import Outcome, SmokeCheck, SmokeReport

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAGS = {Outcome.FAILED: "failure", Outcome.SKIPPED: "skipped", Outcome.NOT_RUN: "error"}


def junit(report: SmokeReport) -> str:
    """The XML text."""
    root = ET.Element("testsuites", {"name": "tfs smoke", **_numbers(report.checks)})
    for model, checks in groupby(sorted(report.checks, key=lambda c: c.model), key=lambda c: c.model):
        cases = tuple(checks)
        suite = ET.SubElement(root, "testsuite", {
            "name": _text(model), "hostname": _text(report.endpoint), **_numbers(cases)})
        for check in cases:
            _case(suite, check)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ET.Element, check: SmokeCheck) -> None:
    case = ET.SubElement(suite, "testcase", classname=_text(f"tfs.smoke.{check.subject}"),
                         name=_text(f"{check.name} ({check.protocol})"), time=f"{check.seconds:.6f}")
    tag = _TAGS.get(check.outcome)
    if tag is None:
        return
    message = check.seen if check.outcome is not Outcome.NOT_RUN else f"not run: {check.seen}"
    node = ET.SubElement(case, tag, message=_text(message))
    if check.outcome is Outcome.FAILED:
        node.text = _text(f"expected: {check.expected}\nseen: {check.seen}\nreproduce: {check.reproduce}")


def _numbers(checks: tuple[SmokeCheck, ...]) -> dict[str, str]:
    count = {outcome: sum(c.outcome is outcome for c in checks) for outcome in Outcome}
    return {"tests": str(len(checks)), "failures": str(count[Outcome.FAILED]), "errors": str(count[Outcome.NOT_RUN]),
            "skipped": str(count[Outcome.SKIPPED]), "time": f"{sum(c.seconds for c in checks):.6f}"}


def _text(value: str) -> str:
    """Characters that XML can't have, not even escaped, are shown as a replacement."""
    return _NOT_XML.sub("\ufffd", value)

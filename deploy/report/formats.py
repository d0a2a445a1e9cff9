"""What other programs read: a smoke test as JUnit XML, as CI systems take it; findings of a check as SARIF 2.1.0
(docs.oasis-open.org/sarif/sarif/v2.1.0), as code hosts and editors take them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from urllib.parse import quote_from_bytes
from xml.etree import ElementTree as ET

from deploy.checks import CheckReport
from deploy.checks.rules import RULES, Finding, Rule
from deploy.smoke import Outcome, SmokeCheck, SmokeReport
from deploy.version import __version__

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAGS = {Outcome.FAILED: "failure", Outcome.SKIPPED: "skipped", Outcome.NOT_RUN: "error"}
_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_INDEX = {name: place for place, name in enumerate(RULES)}


def junit(report: SmokeReport) -> str:
    """The XML text."""
    root = ET.Element("testsuites", {"name": "tfs smoke", **_numbers(report.checks)})
    _suites(root, report)
    return _xml(root)


def junit_of_servers(reports: Mapping[str, SmokeReport | str]) -> str:
    """As `junit`, of several servers: the suites `server/model` of each report; a text is why there is none, and an
    error in the suite `server`."""
    given = [report for report in reports.values() if isinstance(report, SmokeReport)]
    numbers = _numbers(tuple(check for report in given for check in report.checks))
    missing = len(reports) - len(given)
    numbers |= {name: str(int(numbers[name]) + missing) for name in ("tests", "errors")}
    root = ET.Element("testsuites", {"name": "tfs smoke", **numbers})
    for server, report in reports.items():
        if isinstance(report, SmokeReport):
            _suites(root, report, server)
            continue
        suite = ET.SubElement(root, "testsuite", {"name": _text(server), **_numbers(()), "tests": "1", "errors": "1"})
        case = ET.SubElement(suite, "testcase", classname=_text(f"tfs.smoke.{server}"), name="asked", time="0.000000")
        ET.SubElement(case, "error", message=_text(report))
    return _xml(root)


def _suites(root: ET.Element, report: SmokeReport, server: str = "") -> None:
    """One for each model."""
    for model, checks in groupby(sorted(report.checks, key=lambda c: c.model), key=lambda c: c.model):
        cases = tuple(checks)
        name = f"{server}/{model}" if server else model
        suite = ET.SubElement(root, "testsuite", {
            "name": _text(name), "hostname": _text(report.endpoint), **_numbers(cases)})
        for check in cases:
            _case(suite, check, f"tfs.smoke.{server}." if server else "tfs.smoke.")


def _xml(root: ET.Element) -> str:
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ET.Element, check: SmokeCheck, prefix: str) -> None:
    case = ET.SubElement(suite, "testcase", classname=_text(f"{prefix}{check.subject}"),
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


def sarif(report: CheckReport) -> dict[str, object]:
    """One run with all rules and the report's findings."""
    driver = {"name": "tfs check", "semanticVersion": __version__, "rules": [_rule(r) for r in RULES.values()]}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints",
           "properties": {"target": report.target},
           "results": [_result(finding, report.path) for finding in report.findings]}
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(rule: Rule) -> dict[str, object]:
    return {"id": rule.name, "name": "".join(part.capitalize() for part in rule.name.split("-")),
            "shortDescription": {"text": rule.title}, "fullDescription": {"text": f"{rule.reason}."},
            "help": {"text": rule.fix}, "defaultConfiguration": {"level": rule.severity.value},
            "properties": {"tags": [rule.group]}}


def _result(finding: Finding, path: str) -> dict[str, object]:
    location: dict[str, object] = {
        "physicalLocation": {"artifactLocation": {"uri": _uri(Path(path), finding.where.file or "saved_model.pb")}}}
    logical = dict.fromkeys(  # a function may be called as the signature is, and the schema wants each once
        (name, kind) for name, kind in ((finding.where.signature, "function"), (finding.where.function, "function"),
                                        (finding.where.node, "member")) if name)
    if logical:
        location["logicalLocations"] = [{"fullyQualifiedName": name, "kind": kind} for name, kind in logical]
    result: dict[str, object] = {
        "ruleId": finding.rule, "ruleIndex": _INDEX[finding.rule], "level": finding.severity.value,
        "message": {"text": f"{finding.message}. {finding.fix[:1].upper()}{finding.fix[1:]}."}, "locations": [location]}
    if finding.allowed is not None:
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": finding.allowed}]
    return result


def _uri(path: Path, file: str) -> str:
    """A file of the version at `path`, or `path` if it is a file, by RFC 3986; relative if `path` is."""
    where = path if path.is_file() else path / file
    return where.as_uri() if where.is_absolute() else quote_from_bytes(bytes(where))

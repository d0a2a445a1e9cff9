"""SARIF 2.1.0 (docs.oasis-open.org/sarif/sarif/v2.1.0): results as code hosts and editors take them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote_from_bytes

from deploy.checks import Report
from deploy.checks.rules import RULES, Finding, Rule
from deploy.version import __version__

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_INDEX = {name: place for place, name in enumerate(RULES)}


def sarif(report: Report) -> dict[str, object]:
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
    found = path if path.is_file() else path / file
    return found.as_uri() if found.is_absolute() else quote_from_bytes(bytes(found))

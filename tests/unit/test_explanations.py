"""Each message has an id, and each id an explanation."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import errors, report
from deploy.checks import CheckReport
from deploy.checks.rules import RULES, Finding, Severity
from deploy.engine.library import EngineError
from deploy.errors import DeployError, PortTaken, Rejected, SpecError
from deploy.net.ssh import SshRefused
from deploy.report.explanations import explanations, mentioning
from deploy.repository.stores import refusals
from deploy.rollout.driver import Unfinished
from deploy.smoke import Outcome, SmokeCheck, SmokeReport

DEPLOY = Path(errors.__file__).parent
CLASSES = {c.__name__: c for c in (*vars(errors).values(), EngineError, SshRefused, Unfinished)
           if isinstance(c, type) and issubclass(c, DeployError)}


def raised() -> Iterator[tuple[str, str, str]]:
    """Where an error of ours is made, its class, and the id that it gets there."""
    for module in sorted(DEPLOY.rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in CLASSES:
                name = node.func.id  # type: ignore[attr-defined]
                given = [k.value.value for k in node.keywords if k.arg == "id" and isinstance(k.value, ast.Constant)]
                yield f"{module.relative_to(DEPLOY)}:{node.lineno}", name, str(given[0]) if given else CLASSES[name].id


def refused() -> Iterator[tuple[str, str]]:
    """Where a store's refusal is made, and each id that it can get there; those of `refusals` come from its table."""
    for module in sorted((DEPLOY / "repository").rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Refused":
                given = [*node.args[2:], *(k.value for k in node.keywords if k.arg == "id")]
                branches = [given[0].body, given[0].orelse] if given and isinstance(given[0], ast.IfExp) else given
                for one in branches or [ast.Constant("")]:
                    if isinstance(one, ast.Constant):
                        yield f"{module.relative_to(DEPLOY)}:{node.lineno}", str(one.value)


def doctor_rules() -> set[str]:
    """The first argument of each Cause and Fault, and what stands first in the tables of phrases."""
    names = set[str]()
    for module in (*(DEPLOY / "serving" / "doctor").glob("*.py"), DEPLOY / "backends" / "kubernetes" / "faults.py",
                   DEPLOY / "backends" / "kubernetes" / "site.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            first = None
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Cause", "Fault") and node.args:
                first = node.args[0]
            elif isinstance(node, ast.Tuple) and 2 <= len(node.elts) <= 4:
                first = node.elts[0]
                if not any(isinstance(e, ast.Constant) and " " in str(e.value) for e in node.elts[1:]):
                    continue
            texts = [str(n.value) for n in ast.walk(first) if isinstance(n, ast.Constant)] if first else []
            names |= {text for text in texts if re.fullmatch(r"[a-z][a-z-]+", text)}
    return names


def test_every_error_has_an_id_that_is_explained() -> None:
    sites = list(raised())
    assert len(sites) > 400
    assert not [site for site in sites if site[2] not in explanations()]
    assert not {kind.id for kind in refusals._KINDS} - explanations().keys()
    assert not [name for name, kind in CLASSES.items() if kind.id not in explanations()]


def test_every_refusal_of_a_store_has_an_id_that_is_explained() -> None:
    sites = list(refused())
    assert len(sites) > 20
    assert not [site for site in sites if site[1] not in explanations()]


def test_every_rule_and_check_is_explained() -> None:
    found = doctor_rules()
    assert {"port-taken", "tls", "sigill", "no-gpu", "config-unreadable", "batching-off"} <= found
    assert not (found | RULES.keys()) - explanations().keys()
    smoke = {"status", "contract", "golden 1 of f", "generated request for f", "agreement on golden 1 of f",
             "name alone", "classify with f", "regress with f", "label", "label answers", "unknown version",
             "unknown model", "malformed request"}
    assert not {SmokeCheck("m", 1, None, name, "gRPC", Outcome.PASSED).rule for name in smoke} - explanations().keys()


def test_no_explanation_is_left_over() -> None:
    """What nothing says any more stays only if its id is kept on purpose."""
    used = {site[2] for site in raised()} | {site[1] for site in refused()} | doctor_rules() | RULES.keys()
    used |= {kind.id for kind in refusals._KINDS} | {kind.id for kind in CLASSES.values()}
    assert not [name for name in explanations().keys() - used if not name.startswith("smoke-") and name != "usage"]


def test_ids_are_short_words_and_texts_say_something() -> None:
    page = (DEPLOY / "report" / "explanations.md").read_text()
    headings = re.findall(r"^### (.*)", page, re.MULTILINE)
    assert len(headings) == len(set(headings))
    assert set(headings) <= explanations().keys()  # none is left out for its form
    for one in explanations().values():
        assert re.fullmatch(r"[a-z][a-z0-9-]{1,30}", one.id)
        assert one.title.endswith((".", "?")) and one.text and one.topic


def test_a_class_has_an_id_and_a_raise_can_have_a_narrower_one() -> None:
    assert PortTaken("x").id == "port-taken" and SpecError("x", id="unknown-key").id == "unknown-key"
    assert Rejected("x", code="NOT_FOUND", id="unknown-model").to_json()["id"] == "unknown-model"
    assert SpecError("y").id == "spec-error" == SpecError.id


def test_a_refusal_and_a_failed_smoke_test_name_what_failed() -> None:
    finding = Finding("unknown-op", Severity.ERROR, "no op Foo", "leave it out")
    with pytest.raises(errors.CheckFailed) as refused:
        CheckReport("m/1", "2.19", (finding,)).raise_if_refused()
    assert refused.value.id == "unknown-op"
    check = SmokeCheck("m", 1, None, "golden 2 of serving_default", "gRPC", Outcome.FAILED, "1", "2")
    with pytest.raises(errors.SmokeFailed) as failed:
        SmokeReport("x:1", (check,), (), 0.1).raise_if_failed()
    assert failed.value.id == "smoke-golden" == check.to_json()["rule"]


def test_an_unknown_id_is_told_the_nearest() -> None:
    assert report.explain("port-taken").title.startswith("Another program")
    with pytest.raises(SpecError, match="port-taken"):
        report.explain("port-takn")
    with pytest.raises(SpecError, match="lists all"):
        report.explain("qqqqqq")
    assert "port-taken" in [one.id for one in mentioning("listens PORT")]

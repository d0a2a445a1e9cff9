"""Smoke checks as pytest's test items: one each, known before any server runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from _pytest._code.code import ExceptionInfo, TerminalRepr

from deploy.errors import DeployError
from deploy.repository import VersionFacts
from deploy.smoke import CheckId, Outcome, SmokeCheck, SmokeReport, planned_checks, smoke_test, source_of
from deploy.spec import Spec
from deploy.testing.servers import ServerUnderTest
from deploy.testing.sources import server_of
from deploy.types import ModelRef, ModelVersion

_UNPLANNED = "requests by its live signatures"


class CheckError(Exception):
    """A check that failed. check: None if it couldn't be asked, and `why` says so."""

    def __init__(self, subject: str, check: SmokeCheck | None, why: str, log: str) -> None:
        super().__init__(subject)
        self.subject, self.check, self.why, self.log = subject, check, why, log

    def text(self) -> str:
        """What was expected and seen, how to see it again, and what the server said."""
        lines = [self.subject]
        if self.check is not None:
            lines += [f"  expected   {self.check.expected}", f"  seen       {self.check.seen}"]
            lines += [f"  reproduce  {self.check.reproduce}"] if self.check.reproduce else []
        else:
            lines.append(f"  {self.why}")
        return "\n".join([*lines, *_last_lines(self.log)])


def with_evidence(error: DeployError) -> str:
    """Its sentence, and what the server printed."""
    log = str(error.details.get("logs") or "").strip()
    return "\n".join([str(error), *_last_lines(log)]) if log not in error.message else str(error)


def _last_lines(log: str) -> list[str]:
    return ["", "the server's last lines:", *(f"  {line}" for line in log.rstrip().splitlines())] if log else []


class SpecNode(pytest.File):
    """A serving.yaml: its models' versions and labels, and in them the checks.

    serve: starts the spec's server, or returns the one that runs. server: the one of several that is meant.
    """

    serve: Callable[[Spec], ServerUnderTest]
    server: str

    @cached_property
    def spec(self) -> Spec:
        return server_of(self.path, self.server)

    @cached_property
    def source(self) -> Callable[[ModelVersion], VersionFacts | None]:
        """What is known of a version, read once."""
        known, read = dict[ModelVersion, VersionFacts | None](), source_of(self.spec)

        def facts(mv: ModelVersion) -> VersionFacts | None:
            if mv not in known:
                known[mv] = read(mv)
            return known[mv]

        return facts

    def knows(self, mv: ModelVersion) -> bool:
        """Whether its signatures are known, and so what there is to ask."""
        facts = self.source(mv)
        return facts is not None and facts.contract is not None

    def collect(self) -> Iterable[pytest.Collector]:
        """One node per version, label and model; an error if the spec can't be read, or there is nothing to ask."""
        checks = planned_checks(self.spec.models, self.source)
        for subject, group in groupby(sorted(checks, key=lambda check: _order(checks, check)), lambda c: c.subject):
            yield SubjectNode.from_parent(self, name=subject, checks=tuple(group))

    def repr_failure(self, excinfo: ExceptionInfo[BaseException]) -> str | TerminalRepr:  # type: ignore[override]
        """One sentence, for a spec that can't be read."""
        return str(excinfo.value) if isinstance(excinfo.value, DeployError) else super().repr_failure(excinfo)


def _order(checks: tuple[CheckId, ...], check: CheckId) -> int:
    """Subjects in the order of their first check."""
    return next(number for number, other in enumerate(checks) if other.subject == check.subject)


class SubjectNode(pytest.Collector):
    """`mnist/3`, `mnist@stable` or `mnist`: what its checks are about."""

    def __init__(self, *, checks: tuple[CheckId, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._checks = checks

    def collect(self) -> Iterator[pytest.Item]:
        for check in self._checks:
            yield self._item(CheckItem, f"{check.name}[{check.protocol}]", (check,))
        ref, file = ModelRef.parse(self.name), self.parent
        assert isinstance(file, SpecNode)
        if ref.version is not None and not file.knows(ModelVersion(ref.name, ref.version)):
            yield self._item(Unplanned, _UNPLANNED, self._checks)

    def _item(self, kind: type[CheckItem], name: str, checks: tuple[CheckId, ...]) -> CheckItem:
        """One test. Its id is given as text: pytest takes what it makes of a name with brackets for another id than
        what its cache has, and so knows no failed ones again (9.1 and newer)."""
        name = name.replace(" ", "-")
        item: CheckItem = kind.from_parent(self, name=name, nodeid=f"{self.nodeid}::{name}", checks=checks)
        return item


class CheckItem(pytest.Item):
    """One check. It asks the server itself, whatever other checks have seen."""

    def __init__(self, *, checks: tuple[CheckId, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.checks = checks
        self.add_marker(pytest.mark.tfs_smoke)

    @property
    def file(self) -> SpecNode:
        assert isinstance(self.parent, SubjectNode) and isinstance(self.parent.parent, SpecNode)
        return self.parent.parent

    @property
    def title(self) -> str:
        return str(self.checks[0])

    def runtest(self) -> None:
        """Raises CheckError, or skips what can't be asked."""
        server = self.file.serve(self.file.spec)
        answered = self.asked(server)
        failed = next((check for check in answered if check.outcome is Outcome.FAILED), None)
        left = next((check.seen for check in answered if check.outcome is Outcome.NOT_RUN), "")
        if failed is not None or left or not answered:
            raise CheckError(self.title, failed, left or "not asked: the version isn't served", server.logs())
        if all(check.outcome is Outcome.SKIPPED for check in answered):
            pytest.skip(answered[0].seen)

    def asked(self, server: ServerUnderTest) -> list[SmokeCheck]:
        """The checks that this item stands for, as they ended."""
        return list(self._ask(server, self.checks).checks)

    def _ask(self, server: ServerUnderTest, only: tuple[CheckId, ...] | None) -> SmokeReport:
        name = ModelRef.parse(self.checks[0].subject).name
        models = [model for model in server.spec.models if model.name == name]
        return smoke_test(server.client, models, self.file.source, server.settings, only=only)

    def repr_failure(self, excinfo: ExceptionInfo[BaseException], style: Any = None) -> str | TerminalRepr:
        """The check's own words; those of an error of ours without a traceback."""
        if isinstance(excinfo.value, CheckError):
            return excinfo.value.text()
        if isinstance(excinfo.value, DeployError):
            return with_evidence(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, self.title


class Unplanned(CheckItem):
    """Everything else about a version that nothing was known of: its requests are made of its live signatures."""

    @property
    def title(self) -> str:
        return f"{self.checks[0].subject} {_UNPLANNED}"

    def asked(self, server: ServerUnderTest) -> list[SmokeCheck]:
        return [check for check in self._ask(server, None).checks
                if check.subject == self.checks[0].subject and check.id not in self.checks]

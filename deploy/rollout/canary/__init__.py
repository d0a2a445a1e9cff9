"""Judge a version on trial by its answers, beside those of the version that it should replace.

    report = judge(client, ModelRef("m", label="stable"), ModelRef("m", label="canary"), requests, limits=ComparePart())
    report.raise_if_refused()

    judging   both sides asked in turn; the limits
    report    what was found, as values and JSON
    page      the report as an HTML page
"""

from __future__ import annotations

from deploy.rollout.canary.judging import judge
from deploy.rollout.canary.page import report_page
from deploy.rollout.canary.report import CanaryReport, CanarySide

__all__ = ["CanaryReport", "CanarySide", "judge", "report_page"]

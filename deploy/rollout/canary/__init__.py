"""Judge a version on trial by its answers, beside those of the version that it should replace.

    report = judge(client, ModelRef("m", label="stable"), ModelRef("m", label="canary"), requests, limits=ComparePart())
    report.raise_if_refused()

    requests   what is asked: golden cases, recorded files, generated
    judging    both sides asked in turn; the limits
    report     what was found, as table and JSON; html draws it
    watching   the server's own counters, before and after
"""

from __future__ import annotations

from deploy.rollout.canary.judging import judge
from deploy.rollout.canary.report import Report, Side
from deploy.rollout.canary.requests import Request, from_file, from_version, generated
from deploy.rollout.canary.watching import Counted, counted

__all__ = ["Counted", "Report", "Request", "Side", "counted", "from_file", "from_version", "generated", "judge"]

"""Reports written down for other programs: values come in, text goes out, and no value knows how it is drawn.

    junit   a smoke test as JUnit XML, as CI systems read it
    sarif   the findings of a check as SARIF, as code hosts and editors read it
    page    an HTML page that stands alone: head, tables, lists
    svg     bars and curves

Tables for a terminal are drawn in `cli`.
"""

from __future__ import annotations

from deploy.report.junit import junit
from deploy.report.sarif import sarif

__all__ = ["junit", "sarif"]

"""Reports written down for others: values come in, text goes out, and no value knows how it is drawn.

    formats   a smoke test as JUnit XML, the findings of a check as SARIF
    html      pages that stand alone: tables, lists; bars and curves as SVG

Tables for a terminal are drawn in `cli`.
"""

from __future__ import annotations

from deploy.report.formats import junit, sarif

__all__ = ["junit", "sarif"]

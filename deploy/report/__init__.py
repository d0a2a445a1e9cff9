"""Reports written down for others: values come in, text goes out, and no value knows how it is drawn.

    formats   a smoke test as JUnit XML, the findings of a check as SARIF
    html      pages that stand alone: tables, lists; bars and curves as SVG

Tables for a terminal are drawn in `cli`. Names are resolved on first use: a page needs nothing of smoke tests and
checks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from deploy.report.formats import junit as junit
    from deploy.report.formats import sarif as sarif

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"formats": ["junit", "sarif"]})

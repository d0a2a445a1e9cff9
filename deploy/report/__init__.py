"""Reports written down for others: values come in, text goes out, and no value knows how it is drawn.

    formats   a smoke test as JUnit XML, the findings of a check as SARIF
    bom       a version's bill of materials as CycloneDX
    explanations   what each message, rule and check means: explanations.md, and what the rules say of themselves
    html      pages that stand alone: tables, lists; bars and curves as SVG

Tables for a terminal are drawn in `cli`. Names are resolved on first use: a page needs nothing of smoke tests and
checks.
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)

"""Judge a version on trial by its answers, beside those of the version that it should replace.

    report = judge(client, ModelRef("m", label="stable"), ModelRef("m", label="canary"), requests, limits=ComparePart())
    report.raise_if_refused()

    judging   both sides asked in turn; the limits
    report    what was found, as values and JSON
    page      the report as an HTML page
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Prove what is served: states, contracts, golden answers over both protocols and all forms, addressing, errors.

    report = deploy.smoke_test(endpoint, spec.models, deploy.Repository("models"))
    report.raise_if_failed()

    running      `smoke_test`: which models, versions and labels are asked, and what is known of them
    version      everything about one version
    answers      one request in every form it can be asked in
    addressing   labels, names, and errors that have to come
    asking       one check at a time; what happens when the server is gone
    report       what was found; `deploy.report.junit` and the command line write it down
"""

from __future__ import annotations

from deploy.smoke.report import CheckId, Latency, Outcome, SmokeCheck, SmokeReport
from deploy.smoke.running import Settings, Source, from_models, from_repository, planned_checks, smoke_test

__all__ = ["CheckId", "Latency", "Outcome", "Settings", "SmokeCheck", "SmokeReport", "Source", "from_models",
           "from_repository", "planned_checks", "smoke_test"]

"""Prove what is served: states, contracts, golden answers over both protocols and all forms, addressing, errors.

    report = deploy.smoke_test(endpoint, spec.models, deploy.Repository("models"))
    report.raise_if_failed()

    running      `smoke_test`: which models, versions and labels are asked
    version      everything about one version
    answers      one request in every way it can be asked
    addressing   labels, names, and errors that have to come
    sources      what is known of a version: contract, golden cases, tolerances
    asking       one check at a time; what happens when the server is gone
    report       what was found; junit and table write it down
"""

from __future__ import annotations

from deploy.smoke.report import Check, Latency, Outcome, Report
from deploy.smoke.running import Settings, smoke_test
from deploy.smoke.sources import Known, Source, from_models, from_repository

__all__ = ["Check", "Known", "Latency", "Outcome", "Report", "Settings", "Source", "from_models", "from_repository",
           "smoke_test"]

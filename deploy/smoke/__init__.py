"""Prove what is served: states, contracts, golden answers over both protocols and all forms, addressing, errors.

    report = deploy.smoke_test(endpoint, spec.models, deploy.Repository("models"))
    report.raise_if_failed()

    running      `smoke_test`: which models, versions and labels are asked, and what is known of them
    version      everything about one version; labels, names, and errors that have to come
    answers      one request in every form it can be asked in
    report       what was found, one check at a time; `deploy.report.junit` and the command line write it down
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)

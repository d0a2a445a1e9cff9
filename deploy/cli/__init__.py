"""The command line `tfs`: one file per family of verbs, one place that turns errors into exit codes.

    app          the root of the command tree; completion
    exports, models, checks, inspection, diffs, goldens   export; publish, repository; check; inspect; diff; goldens
    mirrors, retention, signing   pull, mirror: versions that are elsewhere; prune: which may go; sign, verify, bom
    specs, servers, health, doctor, smoke   init, configure; up, logs, down, image; status, ready; and so on
    fleets, fleet_views   a verb on several servers of one spec: one table, JSON by server, the worst exit code
    rollouts, history, adopting, ui   rollout, rollback, repair; history; adopt, watch; the page
    replacing        rollout --replace-pods
    fleet_rollouts   releases of one server or of several; their events as a stream
    explaining   explain: what a message means
    options      options that several commands share, and how commands speak; targets: what a command is about
    outcome      errors become sentences and exit codes, nowhere else; untranslated: those of nobody's
    overview     `tfs` alone: how far a directory is, and the next command
    tables, smoke_tables, console, escaping   what people see, and that nobody else's codes reach it
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `tfs`. Ends the process with house-wide exit codes (deploy/errors.py)."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # its INFO lines of goodbyes would stand among our sentences
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cancelled CI job cleans up as Ctrl-C does
    try:
        from deploy.cli.outcome import run
    except KeyboardInterrupt:  # imports take most of the time of a short command
        sys.exit(130)
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))

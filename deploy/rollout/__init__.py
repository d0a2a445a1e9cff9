"""Change what is served: one version in, another one out, so that nobody notices; and back.

    goals        from what is wanted to a goal; releases begun and read back
    algebra      goal, snapshot, actions: values
    policy       what to do next, from a snapshot: pure
    driver       observe, decide, apply one thing, confirm it, write it down
    confirming   when a change is done
    trial        what checks get to know
    site         the live server and the file that it starts from
    restoring    a live server back to what its file names
    configs      a model's entry in that file

It knows nothing of smoke tests and comparisons: checks are functions that are passed in (see deploy.rollout).
"""

from __future__ import annotations

from deploy.rollout.algebra import Goal, Observed
from deploy.rollout.configs import ConfigFile
from deploy.rollout.driver import Driver, Ended, LeftOpen
from deploy.rollout.goals import Way, backward, begin, forward, goal_of
from deploy.rollout.plan import Plan
from deploy.rollout.policy import next_action
from deploy.rollout.restoring import restore
from deploy.rollout.running import Released, abort, adjusted, go_on, history, repair, roll_back, roll_out
from deploy.rollout.site import Site, Timeouts, drift
from deploy.rollout.trial import Checks, Trial

__all__ = ["Checks", "ConfigFile", "Driver", "Ended", "Goal", "LeftOpen", "Observed", "Plan", "Released", "Site",
           "Timeouts", "Trial", "Way", "abort", "adjusted", "backward", "begin", "drift", "forward", "go_on",
           "goal_of", "history", "next_action", "repair", "restore", "roll_back", "roll_out"]

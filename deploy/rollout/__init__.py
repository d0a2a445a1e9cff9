"""Change what is served: one version in, another one out, so that nobody notices; and back.

    running      roll_out, roll_back, go_on, abort, repair
    context      what a release works with: the spec's server, found and connected; a rollback while it is down
    goals        from what is desired and a strategy to a goal; releases begun and read back: history
    actions      goal, snapshot, actions, canary trial, how far a run is: values
    policy       what to do next, from a snapshot: pure
    driver       observe, decide, apply one thing, confirm it, write it down
    live_server  the live server, seen for one model; when a change of it is done
    observing    what a driver asks of a live server, and what it was just shown
    server_runs  which run of a server is seen, where only its metrics tell
    replicas     several replicas of a server as one live server
    merging      what several show, as one would; what the ledger says that they have shown
    replacing    replace_replicas, abort_replacement: another image or other flags, by new replicas for old ones
    replacing_driver  carries it out
    replacing_policy  what to do next meanwhile: pure
    replica_checks    is a new replica as good as those that it replaces?
    restoring    a server brought back to what its config file names
    configs      a model's entry in the file that the server starts from
    freezing     no rollout begins in a freeze window
    preflight    what can be known before anything is changed
    plan         plan_rollout, plan_rollback: what a release would do, as plain data
    watching     watch, repair: back to what is known to be good, once or again and again
    checks       smoke test, comparison, bake times, confirmation
    canary       a version on trial, judged beside the one that it replaces; the report, also as an HTML page
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)

"""replace_replicas: another image, other flags, by new replicas in the place of the old ones; or everything as before.

The versions that are served stay: new replicas start with what is known to be good. What was begun is kept where the
server is, so that another process, on any operator's machine, goes on with it or undoes it.
"""

from __future__ import annotations

from collections.abc import Callable

from deploy import backends, serving
from deploy.backends import Progress, ReplacementRecord, ServerChange, silent
from deploy.errors import LockHeld, RolloutError, ServerError
from deploy.locks import whoami
from deploy.rollout import configs
from deploy.rollout.freezing import refuse_frozen
from deploy.rollout.replacing_driver import Replaced, ReplacementDriver, ReplacementPlan
from deploy.serving import planning, resolving
from deploy.serving.snapshot import open_release
from deploy.spec import Spec
from deploy.state import changing, ledger_of
from deploy.state.ledger import utc_now
from deploy.types import Serving, Specific


def plan_replacement(spec: Spec, *, force: bool = False, progress: Progress = silent) -> ServerChange:
    """What the spec changes about its server, which runs. Nothing is changed. force: see `replace_replicas`."""
    return _planned(spec, progress).replacement.change(force=force)


def replace_replicas(spec: Spec, *, force: bool = False, note: str = "", despite_freeze: str = "",
                     planned: Callable[[ServerChange], None] | None = None, progress: Progress | None = None
                     ) -> Replaced:
    """Let the spec's server, which runs, be as the spec says, by new replicas; old ones go once those have been tested.

    A replacement that a crash left open is gone on with, if it aims at the same. planned: gets what is to change before
    anything is. force: take fields over that somebody else owns. despite_freeze: why it can't wait.

    Raises LockHeld (5) if another change is open, SpecError, RepositoryError, ServerError, BackendMissing before
    anything is changed; RolloutError (8) if a new replica wasn't good: then all replicas are as they were.
    """
    progress = progress or silent
    refuse_frozen(spec.rollout, despite_freeze)
    with changing(spec, "replacement of pods", release=True):
        _refuse_open_release(spec)
        plan = _planned(spec, progress)
        record = plan.replacement.record()
        if record is not None and (record.undoing or record.digest != plan.replacement.digest):
            raise record.held(spec.name)
        change = plan.replacement.change(force=force or record is not None)
        if record is None:
            if planned:
                planned(change)
            if not change.replacing:
                serving.start_stop.require_same(spec, plan.replacement.server)
                if change.at_once:
                    plan.replacement.apply(force=force)
                return Replaced(spec.name, "none", change)
            _refuse_other_models(spec, plan)
            plan.await_steady()
            record = _begin(spec, plan, change, note or despite_freeze)
        else:
            progress(f"going on with replacement {record.id}, begun {record.since} by {record.by}")
        return ReplacementDriver(spec, plan, record, progress, force=force).run(change)


def abort_replacement(spec: Spec, reason: str = "aborted", *, progress: Progress | None = None) -> Replaced:
    """Undo a replacement that is open. Raises RolloutError if none is."""
    with changing(spec, "replacement of pods", release=True):
        plan = _planned(spec, progress or silent)
        record = plan.replacement.record()
        if record is None:
            raise RolloutError(f"no replacement of pods of {spec.name} is open", hint="see tfs history",
                               id="no-open-release")
        driver = ReplacementDriver(spec, plan, record, progress or silent)
        return driver.undo(record.undoing or reason)


def _planned(spec: Spec, progress: Progress) -> ReplacementPlan:
    backends.replacing(spec)  # before versions are fetched and ports looked at
    known_good = resolving.as_known_good(spec)
    models = resolving.wanted(known_good, progress)
    return ReplacementPlan(planning.replacement(spec, known_good, models, progress), models, known_good, progress)


def _begin(spec: Spec, plan: ReplacementPlan, change: ServerChange, note: str) -> ReplacementRecord:
    ledger, me = ledger_of(spec), whoami()
    number = 1 + sum(line["event"] == "replace_begin" for line in ledger.read())
    record = plan.replacement.prepared(ReplacementRecord(
        f"p{number}", plan.replacement.digest, me["by"], utc_now().isoformat(timespec="seconds"), note))
    plan.replacement.write(record)
    ledger.append("replace_begin", replacement=record.id, by=me, note=note, change=change.to_json())
    return record


def _refuse_open_release(spec: Spec) -> None:
    unfinished = open_release(ledger_of(spec).read())
    if unfinished is not None:
        raise LockHeld(f"{unfinished.kind} {unfinished.id} of {unfinished.model} to version {unfinished.version} is "
                       "open, and versions and pods aren't changed at once", by=str(unfinished.by.get("by", "unknown")),
                       since=unfinished.began, why=unfinished.kind, id="release-open",
                       hint=f"finish it: tfs rollout {unfinished.model} --continue; or undo it: --abort")


def _refuse_other_models(spec: Spec, plan: ReplacementPlan) -> None:
    """New replicas start from the config file that the old ones started from: what isn't in it isn't served."""
    config = serving.drift.read_config(backends.config(spec, plan.replacement.server))
    if config is None:
        return
    there = {entry.name: entry for entry in config.model_config_list.config}
    if there.keys() != (wanted := {model.name for model in spec.models}):
        others = ", ".join(sorted(there.keys() ^ wanted))
        raise ServerError(f"{spec.name} serves other models than the spec names: {others}", id="other-configuration",
                          hint="models are added or removed by tfs down, then tfs up; pods are replaced for images, "
                               "flags and resources")
    for model in plan.known_good.models:
        if isinstance(model.versions, Specific) and configs.serving_of(there[model.name]) != (aim := Serving(
                frozenset(model.versions.versions), model.labels)):
            raise ServerError(f"{spec.path.name} now wants {aim} of {model.name}, and its pods serve "
                              f"{configs.serving_of(there[model.name])}: versions and pods aren't changed at once",
                              hint=f"put the versions back and replace pods first, then tfs rollout {model.name} "
                                   "--to N", id="other-configuration")

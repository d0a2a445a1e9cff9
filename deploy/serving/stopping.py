"""`down`: let running requests finish, then stop what we started."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import replace

from deploy import backends, client
from deploy.backends import Progress, silent
from deploy.client import Client
from deploy.client.interfaces import Control, ReloadControl
from deploy.errors import ClientError, Rejected, SpecError
from deploy.locks import locked
from deploy.render import models_config
from deploy.serving.drift import read_config
from deploy.spec import Spec
from deploy.types import Endpoint, ModelRef, VersionState
from deploy.waiting import Deadline, poll

_GRACE = 5.0  # seconds from SIGTERM to SIGKILL, once running requests are done
_REPLIES = 0.2  # seconds for replies on their way: the model is let go before the last one is written


def _connect(endpoint: Endpoint) -> Client:
    return client.connect(replace(endpoint, rest_port=None))


def down(spec: Spec, *, progress: Progress | None = None, connect: Callable[[Endpoint], Client] = _connect) -> bool:
    """Stop the spec's server; False if it wasn't running. Only what carries this spec's name and state is touched.

    Running requests get server/drain seconds. A server that doesn't drain by itself (tensorflow_model_server cuts
    requests off) is first told to unload every model: requests that run finish, new ones get NOT_FOUND.

    Raises LockHeld, ServerError, or BackendMissing if the backend that the spec names can't be asked.
    """
    with locked(spec.state_dir, "down"):
        found = backends.find(spec, certain=True)
        if found is None or not found.alive():
            if found is not None:
                found.stop(0)
            backends.forget(spec)
            return False
        if backends.backend_of(found).capabilities.drains:
            found.stop(spec.server.drain + _GRACE)
            return True
        if spec.server.drain > 0:
            names, deadline = _served(spec), Deadline(spec.server.drain)
            with closing(connect(found.endpoint)) as control:
                drain(control, names, deadline, progress or silent)
        found.stop(_GRACE)
        return True


def _served(spec: Spec) -> list[str]:
    """The models of the server: also of one whose spec can't be read any more."""
    if spec.models:
        return [model.name for model in spec.models]
    with suppress(SpecError):
        config = read_config(backends.config(spec))
        return [entry.name for entry in config.model_config_list.config] if config else []
    return []


def drain(control: ReloadControl, models: Iterable[str], deadline: Deadline, progress: Progress = silent) -> bool:
    """Unload every model and wait until none has a request left; False if that can't be known or takes too long."""
    names = list(models)
    progress("letting running requests finish")
    try:
        control.reload(models_config([], {}), timeout=max(0.1, deadline.left))
        done = poll(lambda: None if _busy(control, names, deadline) else True, deadline)
    except ClientError as e:
        progress(f"can't wait for running requests: {e.message}")
        return False
    if done:
        deadline.sleep(_REPLIES)
    return bool(done)


def _busy(control: Control, models: Iterable[str], deadline: Deadline) -> bool:
    for name in models:
        try:
            statuses = control.status(ModelRef(name), timeout=max(0.1, deadline.left))
        except Rejected as e:
            if e.code == "RESOURCE_EXHAUSTED":  # all threads are at work
                return True
            continue  # unknown by now
        if any(s.state is not VersionState.END for s in statuses):
            return True
    return False

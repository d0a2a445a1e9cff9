"""Which kind of server runs a spec, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from deploy.backends.base import Kind, Progress, silent
from deploy.errors import BackendMissing, ServerError
from deploy.spec import Spec


@dataclass(frozen=True, slots=True)
class Choice:
    """A kind of server, and the reason in half a sentence."""

    kind: Kind
    why: str


class ImageSource(Protocol):
    """A container engine, as far as the choice needs one. machine: where its ports are, if not here."""

    machine: str

    def has_image(self, image: str) -> bool: ...

    def pull(self, image: str, progress: Progress) -> None: ...


def _engine() -> ImageSource:
    from deploy.backends.engine import connect

    return connect()


def _embedded_unavailable() -> str | None:
    from deploy.backends.process import unavailable

    return unavailable()


def choose_backend(spec: Spec, progress: Progress | None = None, *, pull: bool = True,
                   engine: Callable[[], ImageSource] = _engine,
                   embedded_unavailable: Callable[[], str | None] = _embedded_unavailable) -> Choice:
    """The spec's backend; for `auto` a container if an engine answers and has or gets the image, else embedded.

    pull: False takes an image that would have to be pulled for granted (dry run).
    Raises BackendMissing if `auto` finds nothing that can run here.
    """
    if spec.server.backend != "auto":
        return Choice(spec.server.backend, "the spec says so")
    image = spec.server.image
    try:
        source = engine()
        if source.machine and spec.server.host.startswith(("127.", "::1", "localhost")):
            raise ServerError(f"the Docker engine is on another machine, {source.machine}, and server/host is this one")
        if source.has_image(image):
            return Choice("container", f"a Docker engine answers and has {image}")
        if not pull:
            return Choice("container", f"a Docker engine answers; {image} would be pulled, and without it the embedded "
                                       "server would run")
        source.pull(image, progress or silent)
        return Choice("container", f"a Docker engine answers and pulled {image}")
    except ServerError as e:
        why_not = e.message
    reason = None if spec.server.flags.get("tfs_loader") == "echo" else embedded_unavailable()
    if reason is not None:
        raise BackendMissing(f"nothing here can serve: {why_not}; and the embedded server can't run: {reason}",
                             hint="start Docker, or pip install 'tfs-deploy[server,tensorflow]'")
    return Choice("embedded", why_not)

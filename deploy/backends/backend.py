"""Where servers run: what is asked of every kind of place, and what each can do; the config store on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from deploy import files as disk
from deploy import render
from deploy.backends.base import Inspected, Progress, Server
from deploy.errors import ServerError
from deploy.render import Layout
from deploy.spec import Spec

if TYPE_CHECKING:
    from deploy.repository import StoredVersion

_MODE = 0o755  # whatever the umask: a container's user is another one


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend's servers can do. Callers ask these, and never which kind of backend it is.

    own_files: they see another file system than this machine's: a model is where the layout says, links that leave a
    mount resolve to nothing, and a path that is here may be missing there.
    own_network: an engine forwards their ports, so whoever listens on them here isn't the server itself.
    drains: on SIGTERM they finish running requests within server/drain, and refuse new ones.
    restarts: they start again by themselves, as server/restart says.
    replicas: several processes may stand behind one address.
    logs_after_end: what a server printed can be read when it has ended, also by another process.
    limits_memory: server/resources bounds them.
    images: they run images, and can try one that carries its models.
    bundled: they are this package's own server, with the TensorFlow that is installed here.
    starts: we start and stop them; else somebody else does.
    manifests: they are objects of a cluster, which others than us can apply, too.
    leases: who changes one is seen by operators on other machines, by a lock where the server is.
    replaces: one that runs gets another configuration, at once or by new replicas (see replacement.Replacing).
    """

    own_files: bool = False
    own_network: bool = False
    drains: bool = False
    restarts: bool = False
    replicas: bool = False
    logs_after_end: bool = False
    limits_memory: bool = False
    images: bool = False
    bundled: bool = False
    starts: bool = True
    manifests: bool = False
    leases: bool = False
    replaces: bool = False


class LaunchOptions(Protocol):
    """How a backend starts one server, as plain data in the backend's own terms."""

    @property
    def name(self) -> str: ...

    @property
    def argv(self) -> tuple[str, ...] | None:
        """The command line, program first; None for that of an image."""

    def to_json(self) -> dict[str, Any]:
        """What a dry run shows beside files and command line."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A server as it would be started. files: the config files that belong into the backend's config store."""

    files: Mapping[str, str]
    options: LaunchOptions


class ConfigStore(Protocol):
    """The files that a server starts from, by name: beside its state on this machine; a ConfigMap elsewhere.

    Whoever writes holds the server's lock. A server that runs doesn't notice a change, unless its flags say so.
    """

    @property
    def place(self) -> str:
        """Where it is, for people."""

    @property
    def lost_on_restart(self) -> str:
        """What a restart of the server undoes although it is written here, in a sentence that says so and what helps;
        "" for a server that starts from these files."""

    def path(self, name: str) -> str:
        """Where a file is, for people."""

    def read(self, name: str) -> str | None:
        """A file's text, None if it isn't there. Raises ServerError if it can't be read."""

    def write(self, files: Mapping[str, str], secrets: Mapping[str, str] | None = None) -> None:
        """Keep these; others stay. secrets: files that nobody but the server's user may read.

        Each file is written whole or not at all, and whoever reads meanwhile gets the old text or the new one. Raises
        ServerError naming what can't be written: that file is as it was.
        """


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a backend needs on this machine before it can start a spec's server.

    engine_error, program_error: why there is no engine, or no program that could run; "" if there is.
    image_here: None if nobody asked. image_platform: as `amd64`.
    """

    engine_error: str = ""
    program_error: str = ""
    image: str = ""
    image_here: bool | None = None
    image_platform: str = ""


class Backend(Protocol):
    """A place where servers run. It has no state: everything is in the spec, its state directory, and the place itself.

    A server's way: `offer` or the spec chooses the backend; `prepared` checks what a start needs and settles the ports;
    `plan` decides everything else as plain data; its files go into `config`; `server` makes the server, whose own
    methods start, stop and look at it (see base.Server). Any later process gets it from `find`.

    Another kind of place is one more module with one more object of this kind, a line in registry.BACKENDS, and a name
    in spec.BackendKind. tests/contract/test_backends.py says what it has to keep.
    """

    @property
    def name(self) -> str:
        """As in server/backend."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def user(self) -> str | None:
        """`uid:gid` of its servers, where that is another user than this process's; None: the same one."""

    @property
    def reader(self) -> tuple[int, int]:
        """User and group of its servers: the only one to read secrets."""

    def offer(self, spec: Spec, progress: Progress, *, pull: bool) -> str:
        """For `backend: auto`: why it can serve this spec, in half a sentence; "" if there is nothing to say.

        pull: False takes an image that would have to be pulled for granted. Raises ServerError if it can't.
        """

    def prepared(self, spec: Spec) -> Spec:
        """The spec with ports that are free now, where the server gets them from us; a port of 0 stays where the engine
        picks one. Raises BackendMissing if no server could run, PortTaken or ServerError."""

    def layout(self, spec: Spec, config_dir: str | None = None) -> Layout:
        """Where its servers find models and config files. config_dir: on this machine, if not that of `config`."""

    def plan(self, spec: Spec, *, labels: Mapping[str, str], versions: Mapping[str, Sequence[str]] | None = None
             ) -> Launch:
        """How the spec's server would be started. Nothing is asked or changed.

        labels: what a later process can read off the server. versions: model -> the directories of its versions, where
        the backend can look before the start whether they are there.
        """

    def stage(self, spec: Spec, versions: Sequence[StoredVersion], progress: Progress) -> None:
        """Bring these versions to where the spec's server looks, verified there; no server is told. What is there
        already is left alone. Nothing is to do where servers read the repository of this machine.

        Raises ServerError, DigestMismatch or BackendMissing; what was there before is as it was.
        """

    def server(self, launch: Launch, progress: Progress) -> Server:
        """The server that is described, not started."""

    def find(self, spec: Spec) -> Server | None:
        """The spec's server, whoever started it, also one that has ended if the place keeps it. Raises BackendMissing
        if the place can't be asked, ServerError if what is known of the server can't be read."""

    def logs(self, spec: Spec, tail: int) -> str | None:
        """The last lines of the spec's server that ran here last and isn't found any more; None if there are none."""

    def left(self, spec: Spec, tail: int) -> Inspected | None:
        """What a server left that ended and wasn't stopped; None for one that is found, or left nothing."""

    def forget(self, spec: Spec) -> None:
        """Remove what a server left that ended by itself; its log stays."""

    def discard(self, spec: Spec) -> Sequence[str]:
        """Remove the copies of versions and config files that the place keeps for the spec's server, which doesn't run;
        what they were, for people. Nothing else, and nothing of this machine. Raises ServerError."""

    def config(self, spec: Spec) -> ConfigStore:
        """Where the spec's config files are kept."""

    def surroundings(self, spec: Spec) -> Surroundings:
        """For a diagnosis: what keeps it from starting servers. Raises ServerError if that can't be asked."""


class LocalConfig:
    """See backend.ConfigStore. reader: the server's user and group, the only one to read secrets; None: our own."""

    def __init__(self, directory: Path, reader: tuple[int, int] | None = None) -> None:
        self.directory, self.reader = directory, reader or (os.getuid(), os.getgid())

    @classmethod
    def of(cls, spec: Spec, reader: tuple[int, int]) -> LocalConfig:
        """Beside the state of the spec's server."""
        return cls(spec.state_dir / "config", reader)

    @property
    def place(self) -> str:
        return str(self.directory)

    @property
    def lost_on_restart(self) -> str:
        return ""

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def read(self, name: str) -> str | None:
        try:
            return disk.read_text(self.directory / name)
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as e:
            raise ServerError(f"can't read the server's config file {self.path(name)}: "
                              f"{disk.reason(e) if isinstance(e, OSError) else e}") from None

    def write(self, files: Mapping[str, str], secrets: Mapping[str, str] | None = None) -> None:
        render.write(files, self.directory)
        render.write(secrets or {}, self.directory, secret_of=self.reader)
        try:
            if self.directory.stat().st_mode & _MODE != _MODE:
                self.directory.chmod(_MODE)
        except OSError as e:
            raise ServerError(f"can't open {self.directory} for the server's user: {e.strerror or e}") from None

"""The config file of a server that somebody else starts: written where it reads it, as far as tfs can write there.

What is known to be good is always kept here as well. The file there is a copy; without the labels, unless the server is
known to take them: one that is started without --allow_version_labels_for_unavailable_models would end at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from deploy import render
from deploy.addresses import Address
from deploy.backends.backend import LocalConfig
from deploy.backends.shared_place import SharedPlace, place_of
from deploy.errors import DeployError, ServerError, SpecError
from deploy.render.configs import MODELS
from deploy.repository import failures
from deploy.repository.stores.addresses import open_store
from deploy.spec import Spec
from deploy.wire import serving_pb2 as pb
from deploy.wire.text import from_text, to_text

_MOST_BYTES = 1 << 20
FLAG = "allow_version_labels_for_unavailable_models"
_WATCH = "`tfs watch` brings it back"


class RemoteConfig(LocalConfig):
    """See backend.ConfigStore.

    directory: on this machine. there: the server's own file, a path or an address; None: none that tfs can write.
    labels: whether the server starts with labels in its file. before: a directory that counts for what isn't there.
    """

    def __init__(self, directory: Path, there: str | None, *, labels: bool, before: Path | None = None) -> None:
        super().__init__(directory)
        self._before = None if before is None else LocalConfig(before)
        self._there, self._labels = None if there is None else _File(there), labels

    @property
    def place(self) -> str:
        return super().place if self._there is None else self._there.directory

    @property
    def lost_on_restart(self) -> str:
        if self._there is None:
            return ("a restart of this server undoes what was released since it was adopted, since tfs can't write its "
                    f"config file: {_WATCH}")
        if not self._labels:
            return (f"a restart of this server loses its labels, since {self._there.name} is written without them (it "
                    f"may run without --{FLAG}): {_WATCH}")
        return ""

    def path(self, name: str) -> str:
        return super().path(name) if self._there is None else self._there.beside(name)

    def read(self, name: str) -> str | None:
        ours = super().read(name)
        if self._there is None:
            return self._before.read(name) if ours is None and self._before is not None else ours
        there = self._there.read(name)
        return ours if ours is not None and there == self._copy(name, ours) else there

    def write(self, files: Mapping[str, str], secrets: Mapping[str, str] | None = None) -> None:
        super().write(files, secrets)  # first: what the server's file isn't a copy of doesn't count, see `read`
        if self._there is not None:
            for name, text in {**files, **(secrets or {})}.items():
                self._there.write(name, self._copy(name, text))

    def _copy(self, name: str, text: str) -> str:
        """What stands in the server's own file."""
        if name != MODELS or self._labels:
            return text
        config = from_text(text, pb.ModelServerConfig, name)
        for entry in config.model_config_list.config:
            entry.version_labels.clear()
        comments = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
        return comments + to_text(config)


class _SharedConfig(RemoteConfig):
    """Of a server that reads no file that tfs can write: what it is told, where all operators see it."""

    def __init__(self, spec: Spec, place: SharedPlace, *, labels: bool) -> None:
        super().__init__(spec.state_dir / "config", None, labels=labels)
        self._name, self._shared = spec.name, place

    @property
    def place(self) -> str:
        return str(self._shared)

    def path(self, name: str) -> str:
        return f"{self._name}.{name} in {self._shared}"

    def read(self, name: str) -> str | None:
        try:
            text = self._shared.read(f"{self._name}.{name}")
        except (OSError, DeployError) as e:
            raise ServerError(f"can't read {self.path(name)}: {e}", id="config-unreadable") from e
        return text.decode(errors="replace") if text else super().read(name)

    def write(self, files: Mapping[str, str], secrets: Mapping[str, str] | None = None) -> None:
        super().write({}, secrets)
        for name, text in files.items():
            try:
                self._shared.write(f"{self._name}.{name}", text.encode())
            except (OSError, DeployError) as e:
                raise ServerError(f"can't write {self.path(name)}: {e}", id="config-unreadable") from e


def config_of(spec: Spec, there: str | None, *, labels: bool) -> RemoteConfig:
    """The config store of a remote server. there, labels: see RemoteConfig."""
    here, place = spec.state_dir / "config", None if there is not None else place_of(spec)
    if isinstance(place, Path):
        return RemoteConfig(place / spec.name / "config", None, labels=labels, before=here)
    return RemoteConfig(here, there, labels=labels) if place is None else _SharedConfig(spec, place, labels=labels)


class _File:
    """A file at a path of this machine, or at an address; those beside it by their names."""

    def __init__(self, place: str) -> None:
        self.name = place
        self.directory, _, self._base = place.rpartition("/")
        self._store = open_store(self.directory)
        self._local = None if Address.parse(place) else LocalConfig(Path(self.directory))

    def beside(self, name: str) -> str:
        return f"{self.directory}/{self._called(name)}"

    def read(self, name: str) -> str | None:
        if self._local is not None:
            return self._local.read(self._called(name))
        try:
            with failures.translated("read the server's config file", self.beside(name)):
                try:
                    with self._store.open(self._called(name)) as file:
                        data = file.read(_MOST_BYTES + 1)
                except FileNotFoundError:
                    return None
            if len(data) > _MOST_BYTES:
                raise ServerError(f"{self.beside(name)} is no config file: it has more than {_MOST_BYTES:,} bytes",
                                  id="config-unreadable")
            return data.decode()
        except UnicodeDecodeError:
            raise ServerError(f"{self.beside(name)} isn't text", id="config-unreadable") from None
        except DeployError as e:
            raise _as_server_error(e) from e

    def write(self, name: str, text: str) -> None:
        """By a rename: whole or not at all."""
        if self._local is not None:
            _replace(Path(self.beside(name)).resolve(), text)
            return
        try:
            with failures.translated("write the server's config file", self.beside(name)):
                self._store.put(self._called(name), text.encode())
        except DeployError as e:
            raise _as_server_error(e) from e

    def _called(self, name: str) -> str:
        return self._base if name == MODELS else name


def _replace(path: Path, text: str) -> None:
    """Mode and owner stay: the file is somebody else's, as its directory is."""
    try:
        before = path.stat() if path.exists() else None
    except OSError as e:
        raise ServerError(f"can't write {path}: {e.strerror or e}", id="config-unreadable") from None
    render.write({path.name: text}, path.parent)
    if before is not None:
        with suppress(OSError):
            path.chmod(before.st_mode)
            os.chown(path, before.st_uid, before.st_gid)


def _as_server_error(error: DeployError) -> DeployError:
    """What a store refuses, as ConfigStore says it; what is wrong with the address stays that."""
    return error if isinstance(error, ServerError | SpecError) else ServerError(error.message, hint=error.hint,
                                                                                id=error.id)

"""One model's entry in the server's config file: read it, change it, leave all others as they are."""

from __future__ import annotations

from functools import lru_cache

from deploy.backends import ConfigStore
from deploy.errors import RolloutError, ServerError, SpecError
from deploy.render.configs import MODELS
from deploy.types import Serving, Specific
from deploy.wire import serving_pb2 as pb
from deploy.wire.model_config import policy_of, set_served
from deploy.wire.text import from_text, to_text

_CACHED = 1 << 14  # characters of a file that is kept as it was parsed
_WRITTEN = "start the server with `tfs up`, which writes it"


class ConfigFile:
    """The file that the server starts from, models.config. Whoever writes it holds the server's lock."""

    def __init__(self, store: ConfigStore) -> None:
        self._store = store

    @property
    def exists(self) -> bool:
        """Raises RolloutError if that can't be known."""
        return self._text() is not None

    @property
    def lost_on_restart(self) -> str:
        """See ConfigStore."""
        return self._store.lost_on_restart

    def read(self) -> pb.ModelServerConfig:
        """Raises RolloutError if it isn't there, SpecError naming line and column if it can't be parsed."""
        return self._split()[1]

    def change(self, model: str, serving: Serving) -> bool:
        """Let the file name this for the model; False if it does already. Whole or not at all, its comments kept.

        Raises RolloutError if it can't be written: then it is as it was.
        """
        comments, config = self._split()
        return self._write(comments, config, replaced(config, model, serving))

    def write(self, changed: pb.ModelServerConfig) -> bool:
        """Let the file say this, also where there is none yet. As `change`."""
        comments, config = self._split() if self.exists else ("", pb.ModelServerConfig())
        return self._write(comments, config, changed)

    def _write(self, comments: str, config: pb.ModelServerConfig, changed: pb.ModelServerConfig) -> bool:
        if changed.SerializeToString(deterministic=True) == config.SerializeToString(deterministic=True):
            return False
        try:
            self._store.write({MODELS: comments + to_text(changed)})
        except ServerError as e:
            raise RolloutError(e.message, hint=e.hint, id=_id(e)) from None
        return True

    def _split(self) -> tuple[str, pb.ModelServerConfig]:
        text, path = self._text(), self._store.path(MODELS)
        if text is None and self.lost_on_restart:  # it isn't the server's, but what we know of it
            raise RolloutError(f"the server hasn't been taken over: there is no {path}, which says what it serves",
                               hint="take it over: tfs up",
                               id="config-unreadable")
        if text is None:
            raise RolloutError(f"can't read the server's config file {path}: it isn't there", hint=_WRITTEN,
                               id="config-unreadable")
        try:
            comments, parsed = _parsed(text) if len(text) <= _CACHED else _parsed.__wrapped__(text)
        except SpecError as e:
            raise SpecError(e.message, path=path, hint=e.hint, id=e.id, details=e.details) from None
        return comments, pb.ModelServerConfig.FromString(parsed)

    def _text(self) -> str | None:
        try:
            return self._store.read(MODELS)
        except ServerError as e:
            raise RolloutError(e.message, hint=e.hint or _WRITTEN, id=_id(e)) from None


@lru_cache(256)
def _parsed(text: str) -> tuple[str, bytes]:
    """The text's comments, and the text as a message. It is read again and again while nothing changes it, mostly the
    same for many servers, and parsing takes long."""
    comments = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    return comments, from_text(text, pb.ModelServerConfig, "").SerializeToString()


def _id(error: ServerError) -> str:
    """Why another machine refuses, where that is known."""
    return "config-unreadable" if error.id == ServerError.id else error.id


def find(config: pb.ModelServerConfig, model: str) -> pb.ModelConfig:
    """The model's entry. Raises RolloutError if there is none."""
    for entry in config.model_config_list.config:
        if entry.name == model:
            return entry
    names = ", ".join(e.name for e in config.model_config_list.config) or "none"
    raise RolloutError(f"the server's config file has no model {model!r}", hint=f"it has {names}; add it to the spec, "
                       "then `tfs down` and `tfs up`", id="config-unreadable")


def pinned(entry: pb.ModelConfig) -> bool:
    """Whether the entry names its versions; else the server itself decides what is loaded."""
    return isinstance(policy_of(entry), Specific)


def serving_of(entry: pb.ModelConfig) -> Serving:
    """What a pinned entry asks for."""
    policy = policy_of(entry)
    return Serving(frozenset(policy.versions if isinstance(policy, Specific) else ()), dict(entry.version_labels))


def replaced(config: pb.ModelServerConfig, model: str, serving: Serving) -> pb.ModelServerConfig:
    """A copy in which the model is served like this."""
    changed = pb.ModelServerConfig()
    changed.CopyFrom(config)
    set_served(find(changed, model), Specific(tuple(serving.versions)), serving.labels)
    return changed

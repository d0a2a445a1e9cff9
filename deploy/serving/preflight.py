"""What keeps a server from starting, told before it is started, since its own answer is closed ports or a usage text.

Flags that it doesn't know: it goes on without them. Values that it can't read: it ends. Files that its user can't read:
it waits.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import RepositoryError, SpecError
from deploy.render import flag_text
from deploy.serving.resolving import ResolvedModel
from deploy.wire.flags import FLAGS, parse

_KINDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "string": "text"}
_WORDS = {"true": ("true", "t", "1", "yes", "y", "on", "enabled"),
          "false": ("false", "f", "0", "no", "n", "off", "disabled")}
KNOWN = frozenset(flag.name for flag in FLAGS)

Readable = Callable[[Path], bool]


def nearest(name: str) -> str | None:
    """The known flag that is most likely meant; None if none is similar."""
    plain = name.strip("-\u2013\u2014\u2212").replace("-", "_").lower()  # a copied dash is often another one
    matches = difflib.get_close_matches(plain, sorted(KNOWN), 1, 0.6)
    return matches[0] if matches else None


def check_values(flags: Mapping[str, object]) -> None:
    """Raises SpecError for a value that the server can't read: it would end with its usage text."""
    for name, value in flags.items():
        if name in KNOWN and parse([flag_text(name, value)], FLAGS).bad:
            kind = next(flag.kind for flag in FLAGS if flag.name == name)
            raise SpecError(f"expected {_KINDS[kind]}, got {value!r}", path=f"server/flags/{name}",
                            hint="the server would end with its usage text", id="bad-value")


@dataclass(frozen=True, slots=True)
class UnreadableFlag:
    """An argument whose value the server can't read. write: the same with what was most likely meant; "" if unknown."""

    argument: str
    expected: str
    write: str

    @property
    def sentence(self) -> str:
        meant = f"; write {self.write}" if self.write else ""
        return f"{self.argument} can't be read: expected {self.expected}{meant}"


def unreadable_flags(arguments: Iterable[str], *, strict: bool = False) -> Iterator[UnreadableFlag]:
    """The arguments that end a server with its usage text. strict: booleans other than true and false as well."""
    for argument in arguments:
        name, _, value = argument.removeprefix("--").partition("=")
        flag = next((f for f in FLAGS if f.name == name), None)
        if flag is None or not argument.startswith("--"):
            continue
        word = flag.kind == "bool" and value not in ("", "true", "false")
        if parse([argument], FLAGS).bad or (strict and word):
            meant = _meant(flag.kind, value)
            yield UnreadableFlag(argument, _KINDS[flag.kind], f"--{name}={meant}" if meant else "")


def _meant(kind: str, value: str) -> str:
    """`" True "` -> true, `'8501'` -> 8501, `64.0` -> 64; empty if it can't be told."""
    plain = value.strip().strip("\"'").strip()
    if kind == "bool":
        return next((word for word, spellings in _WORDS.items() if plain.lower() in spellings), "")
    plain = plain.replace("_", "").replace(",", "")
    if kind == "int" and re.fullmatch(r"[+-]?\d+(\.0*)?", plain):
        return plain.partition(".")[0]
    return plain if kind == "float" and re.fullmatch(r"[+-]?\d+\.?\d*", plain) else ""


def number(flags: Mapping[str, object], name: str) -> float:
    """A number flag as the server understands it, its default if it isn't given. Raises SpecError as check_values."""
    given = {name: flags[name]} if name in flags else {}
    check_values(given)
    return float(parse([flag_text(n, v) for n, v in given.items()], FLAGS).values[name])


def misspelled(names: Iterable[str]) -> Iterator[str]:
    """A sentence for each name of server/flags that no model server knows."""
    for name in names:
        if name not in KNOWN:
            meant = nearest(name)
            yield (f"server/flags/{name}: tensorflow_model_server knows no flag --{name}, and goes on without it"
                   + (f"; is --{meant} meant?" if meant else ""))


def check_readable(models: Iterable[ResolvedModel], user: str | None) -> None:
    """Raises RepositoryError naming the first path that the server couldn't read, or couldn't find.

    user: `uid:gid` of a container, where links that leave the mounted base path lead nowhere; None for this process's
    own user, whose links may lead anywhere.
    """
    readable = _readable_for(user) if user else _readable_here
    for model in models:
        for version in model.paths.values():
            base = version.parent
            for path in (base, version, *_below(version)):
                if user and path != base and not path.resolve().is_relative_to(base.resolve()):
                    raise RepositoryError(
                        f"model {model.name!r}: {path} is a link to {path.resolve()}, which isn't in the container",
                        hint=f"only {base} is mounted: put the files themselves there, or use backend: embedded",
                        id="symbolic-link")
                if not readable(path):
                    who = f"the container's user {user}" if user else "this user"
                    raise RepositoryError(f"model {model.name!r}: {path} is not readable for {who}",
                                          hint=f"chmod -R a+rX {base}", id="permission-denied")


def unreadable(base: Path, versions: Iterable[Path], user: str | None) -> Path | None:
    """The first path that the server's user can't read, of a base path and some of its versions; see check_readable."""
    readable = _readable_for(user) if user else _readable_here
    paths = (path for version in versions for path in (version, *_below(version)))
    return next((path for path in (base, *paths) if not readable(path)), None)


def _below(directory: Path) -> Iterator[Path]:
    for parent, directories, files in os.walk(directory, onerror=lambda _: None):
        for name in (*directories, *files):
            yield Path(parent, name)


def _readable_here(path: Path) -> bool:
    return os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0))


def _readable_for(user: str) -> Readable:
    """By the permission bits alone, for a user without supplementary groups and capabilities."""
    uid, gid = map(int, user.split(":"))

    def readable(path: Path) -> bool:
        try:
            status = path.stat()
        except OSError:
            return False
        shift = 6 if status.st_uid == uid else 3 if status.st_gid == gid else 0
        needed = 0o5 if stat.S_ISDIR(status.st_mode) else 0o4
        return (status.st_mode >> shift) & needed == needed

    return readable

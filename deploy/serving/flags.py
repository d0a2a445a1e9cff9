"""A spec's flags, as tensorflow_model_server takes them.

Flags that it doesn't know: it prints its usage text and goes on without them. Values that it can't read: it ends.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping

from deploy.errors import SpecError
from deploy.modelserver.flags import parse
from deploy.modelserver.options import FLAGS
from deploy.render import flag_text

_KINDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "string": "text"}
KNOWN = frozenset(flag.name for flag in FLAGS)


def nearest(name: str) -> str | None:
    """The known flag that is most likely meant; None if none is similar."""
    found = difflib.get_close_matches(name.strip("-").replace("-", "_"), sorted(KNOWN), 1, 0.6)
    return found[0] if found else None


def check_values(flags: Mapping[str, object]) -> None:
    """Raises SpecError for a value that the server can't read: it would end with its usage text."""
    for name, value in flags.items():
        if name in KNOWN and parse([flag_text(name, value)], FLAGS).bad:
            kind = next(flag.kind for flag in FLAGS if flag.name == name)
            raise SpecError(f"expected {_KINDS[kind]}, got {value!r}", path=f"server/flags/{name}",
                            hint="the server would end with its usage text")


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

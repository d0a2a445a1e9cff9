"""Files with one label or word on each line: read, refused where a server would answer nonsense, kept as assets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy import files
from deploy.export import quiet
from deploy.export.recipes.recipe import refused

_MOST = 1 << 30  # bytes
_ONE_EACH = "give a file with one on each line, in the order of the model's {}, or a list of them"


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of a file, or a list. name: the file's, which the asset gets, too. digest: of the lines as kept."""

    name: str
    values: tuple[str, ...] = field(repr=False)

    @property
    def content(self) -> bytes:
        """The asset's bytes: UTF-8, each line ended by one newline, whatever the file had."""
        return "".join(f"{value}\n" for value in self.values).encode()

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"

    def asset(self, scratch: Path) -> str:
        """Written as a file that saving the model copies."""
        path = scratch / self.name
        path.write_bytes(self.content)
        return str(path)


def read(recipe: str, what: str, given: object, order: str, leading: tuple[str, ...] = ()) -> Lines:
    """Labels or words, each once. what: `label` or `word`. order: what their order is that of, for people.

    given: a file or a sequence. leading: entries that may stand in front, and don't count.

    Raises ExportError for a file that can't be read or isn't UTF-8, for none, an empty one and one that comes twice.
    """
    hint = _ONE_EACH.format(order)
    if isinstance(given, str | Path):
        name, values = Path(given).name, _lines(recipe, Path(given), hint)
    elif isinstance(given, Sequence) and all(isinstance(value, str) for value in given):
        name, values = f"{what}s.txt", tuple(given)
    else:
        raise refused(recipe, f"expected {what}s or their file, got {given!r:.60}", hint)
    where = str(given) if isinstance(given, str | Path) else f"the list of {what}s"
    positions: dict[str, int] = {}
    skipped = len(leading) if leading and values[:len(leading)] == leading else 0
    values = values[skipped:]
    if not values:
        raise refused(recipe, f"{where} has no {what} in it", hint)
    for number, value in enumerate(values, skipped + 1):
        if not value.strip() or "\n" in value:
            raise refused(recipe, f"line {number} of {where} is {'empty' if not value.strip() else repr(value)}",
                          f"every line has to be a {what}: {hint}")
        if value in positions:
            raise refused(recipe, f"{value!r} stands in {where} twice, on the lines {positions[value]} and {number}",
                          f"every {what} has to be there once")
        positions[value] = number
    return Lines(name, values)


def _lines(recipe: str, path: Path, hint: str) -> tuple[str, ...]:
    try:
        text = files.read_given(path, _MOST).decode("utf-8-sig")
    except OSError as error:
        raise refused(recipe, f"{path} can't be read: {files.reason(error)}", hint) from error
    except UnicodeDecodeError as error:
        raise refused(recipe, f"{path} isn't UTF-8: {error.reason} at byte {error.start}",
                      "save it as UTF-8") from error
    lines = text.replace("\r\n", "\n").split("\n")  # not splitlines: a form feed or U+2028 is part of a word
    return tuple(lines[:-1] if not lines[-1] else lines)


def to_numbers(lines: Lines, scratch: Path) -> Any:
    """A table word -> its line's number from 0, -1 for others."""
    return _table(lines, scratch, ("string", "WHOLE_LINE"), ("int64", "LINE_NUMBER"), -1)


def to_text(lines: Lines, scratch: Path) -> Any:
    """A table line's number from 0 -> the line."""
    return _table(lines, scratch, ("int64", "LINE_NUMBER"), ("string", "WHOLE_LINE"), "")


def _table(lines: Lines, scratch: Path, key: tuple[str, str], value: tuple[str, str], default: object) -> Any:
    tf = quiet.tensorflow()
    index = tf.lookup.TextFileIndex
    with quiet.muted():
        initializer = tf.lookup.TextFileInitializer(
            lines.asset(scratch), tf.as_dtype(key[0]), getattr(index, key[1]), tf.as_dtype(value[0]),
            getattr(index, value[1]), vocab_size=len(lines.values))
        return tf.lookup.StaticHashTable(initializer, default)

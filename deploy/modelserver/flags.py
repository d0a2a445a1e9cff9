"""Command-line flags, parsed as TensorFlow's flag parser does.

`--name=value`, and `--name` alone for true. A boolean takes true, false (in any case), 1 and 0. The first argument that
is no flag, or stands behind a `--`, is reported, the others are ignored without a word.
Source: xla/tsl/util/command_line_flags.cc.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Value = bool | int | float | str
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. Its type is its default's. `ignored`: accepted, but without effect here."""

    name: str
    default: Value
    help: str
    ignored: bool = False

    @property
    def kind(self) -> str:
        return {bool: "bool", int: "int", float: "float", str: "string"}[type(self.default)]


@dataclass(frozen=True, slots=True)
class Parsed:
    """The values of all flags, and what was wrong: whether to end with the usage text, arguments that are no flags."""

    values: Mapping[str, Value]
    given: frozenset[str]
    bad: bool
    unknown: tuple[str, ...]


class BadValue(Exception):
    """A known flag with a value that isn't one."""


def parse(arguments: Sequence[str], flags: Sequence[Flag]) -> Parsed:
    """Read `arguments` (without the program's name). Never raises."""
    values: dict[str, Value] = {f.name: f.default for f in flags}
    end = arguments.index("--") if "--" in arguments else len(arguments)
    given, unknown, bad = set(), [], False
    for argument in arguments[:end]:
        try:
            found = _match(argument, flags)
        except BadValue:
            bad = True
            continue
        if found:
            values[found[0]] = found[1]
            given.add(found[0])
        else:
            unknown.append(argument)
    unknown += arguments[end:]
    bad = bad or unknown[:1] == ["--help"]
    return Parsed(values, frozenset(given), bad, tuple(unknown))


def _match(argument: str, flags: Sequence[Flag]) -> tuple[str, Value] | None:
    for flag in flags:
        rest = argument.removeprefix(f"--{flag.name}")
        if rest == argument:
            continue
        if not rest and isinstance(flag.default, bool):
            return flag.name, True
        if rest.startswith("="):
            return flag.name, _convert(flag.default, rest[1:])
    return None


def _convert(default: Value, text: str) -> Value:
    if isinstance(default, str):
        return text
    if isinstance(default, bool):
        if text.lower() not in _BOOLEANS:
            raise BadValue(text)
        return _BOOLEANS[text.lower()]
    number = r"\s*[+-]?\d+" if isinstance(default, int) else r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
    if not re.fullmatch(number, text, re.ASCII):
        raise BadValue(text)
    return type(default)(text)


def usage(program: str, flags: Sequence[Flag]) -> str:
    """The text that is printed when arguments can't be read."""
    lines = [f"usage: {program}", "Flags:"]
    for flag in flags:
        shown = f'"{flag.default}"' if isinstance(flag.default, str) else str(flag.default).lower()
        lines.append(f"\t--{flag.name}={shown}\t{flag.kind}\t{flag.help}{' (no effect here)' if flag.ignored else ''}")
    return "\n".join(lines) + "\n"

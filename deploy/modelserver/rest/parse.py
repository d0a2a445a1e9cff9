"""JSON as RapidJSON reads it: NaN and Infinity, raw bytes in strings, text after the value; its errors and offsets.

orjson reads nearly every body; the standard library's parser, those with NaN and Infinity; this slower one reads what
both refuse, however deep it is, and says what is wrong with it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import orjson

from deploy.modelserver.rest.numbers import rapidjson_number
from deploy.modelserver.status import StatusError, invalid

_BLANKS = re.compile(rb"[ \t\n\r]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_NUMBER = re.compile(rb"(-?)(0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]*)?")
_HEX = re.compile(rb"[0-9A-Fa-f]{4}")
_ESCAPED = {b'"': b'"', b"\\": b"\\", b"/": b"/", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_LONG_NUMBER = re.compile(rb"[0-9.]{17}|[eE][+-]?[0-9]{2}")
_SMALL, _SHORT, _MOST_AT_ONCE = 2**14, 2**10, 2**24  # bytes
_TOKENS = 1024  # between two looks at whether somebody still waits
_MARK = b"\xef\xbb\xbf"
_MOST_U64 = 2**64 - 1
_LEAST_I64 = -(2**63)
_MOST_DIGITS = 20  # of those two, with the sign


def keep_on() -> None:
    """Somebody waits for what is being read."""


def read(body: bytes, go_on: Callable[[], None] = keep_on) -> Any:
    """The body's JSON value; strings that aren't UTF-8 hold surrogate escapes.

    go_on: called now and then; what it raises ends the reading. Raises StatusError.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    exact = not _repeats(body) and not _inexact(body)
    try:
        if exact:
            return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    if exact and _SHORT <= len(body) <= _MOST_AT_ONCE and (b"NaN" in body or b"Infinity" in body):
        try:
            return json.loads(body, parse_float=_decimal, parse_int=_whole)
        except (ValueError, RecursionError):
            pass
    return _Parser(body, go_on).document()


def _decimal(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("RapidJSON has an error for it")
    return value


def _whole(text: str) -> int | float:
    value = int(text) if len(text) <= _MOST_DIGITS else _LEAST_I64 - 1
    return value if _LEAST_I64 <= value <= _MOST_U64 else _decimal(text)


def _repeats(body: bytes) -> bool:
    """Whether a small body may have a key twice: of those RapidJSON takes the first, orjson the last."""
    return len(body) < _SMALL and any(body.count(key) > 1 for key in (b'"instances"', b'"inputs"', b'"signature_name"'))


def _inexact(body: bytes) -> bool:
    """Whether a short body may have numbers that RapidJSON rounds more than once. Longer ones are read exactly."""
    return len(body) < _SHORT and _LONG_NUMBER.search(body) is not None


class _Parser:
    def __init__(self, body: bytes, go_on: Callable[[], None] = keep_on) -> None:
        self.body, self.at = body, 3 if body.startswith(_MARK) else 0
        self._go_on, self._tokens = go_on, 0

    def document(self) -> Any:
        self.blanks()
        if self.at == len(self.body):
            raise self.error("The document is empty.")
        return self.value()

    def error(self, text: str, at: int | None = None) -> StatusError:
        return invalid(f"JSON Parse error: {text} at offset: {self.at if at is None else at}")

    def blanks(self) -> None:
        match = _BLANKS.match(self.body, self.at)
        self.at = match.end() if match else self.at

    def peek(self) -> bytes:
        return self.body[self.at:self.at + 1]

    def take(self, expected: bytes) -> bool:
        if self.body.startswith(expected, self.at):
            self.at += len(expected)
            return True
        return False

    def value(self) -> Any:
        """A value with all that it holds: lists and objects that are open lie on a stack, since they may be many."""
        root: list[Any] = []
        open_ones: list[tuple[list[Any] | dict[str, Any], str]] = [(root, "")]  # each with the key that is being read
        while True:
            self._tokens += 1
            if not self._tokens % _TOKENS:
                self._go_on()
            first = self.peek()
            made: Any = {} if first == b"{" else [] if first == b"[" else self.scalar(first)
            _put(*open_ones[-1], made)
            if first in (b"{", b"["):
                open_ones.append((made, ""))
                self.at += 1
                self.blanks()
                if not self.take(b"}" if first == b"{" else b"]"):
                    if first == b"{":
                        open_ones[-1] = made, self.key()
                    continue
                open_ones.pop()
            if self.close(open_ones):
                return root[0]

    def close(self, open_ones: list[tuple[list[Any] | dict[str, Any], str]]) -> bool:
        """What comes after a value: the ends of lists and objects, and a comma. Whether nothing is open any more."""
        while len(open_ones) > 1:
            holder, _ = open_ones[-1]
            self.blanks()
            if not self.take(b"}" if isinstance(holder, dict) else b"]"):
                if not self.take(b","):
                    raise self.error("Missing a comma or } after an object member." if isinstance(holder, dict)
                                     else "Missing a comma or ] after an array element.")
                self.blanks()
                if isinstance(holder, dict):
                    open_ones[-1] = holder, self.key()
                return False
            open_ones.pop()
        return True

    def key(self) -> str:
        if self.peek() != b'"':
            raise self.error("Missing a name for object member.")
        name = self.string().decode("utf-8", "surrogateescape")
        self.blanks()
        if not self.take(b":"):
            raise self.error("Missing a colon after a name of object member.")
        self.blanks()
        return name

    def scalar(self, first: bytes) -> Any:
        if first == b'"':
            return self.string().decode("utf-8", "surrogateescape")
        for word, value in ((b"null", None), (b"true", True), (b"false", False)):
            if first == word[:1]:
                self.word(word)
                return value
        return self.number()

    def word(self, word: bytes) -> None:
        """A fixed word; the error stands where it first differs."""
        for letter in word:
            if not self.take(bytes([letter])):
                raise self.error("Invalid value.")

    def string(self) -> bytes:
        self.at += 1
        parts = []
        while True:
            match = _PLAIN.match(self.body, self.at)
            parts.append(match[0] if match else b"")
            self.at += len(parts[-1])
            if self.take(b'"'):
                return b"".join(parts)
            if self.peek() == b"\\":
                parts.append(self.escape())
            elif self.peek() in (b"", b"\0"):
                raise self.error("Missing a closing quotation mark in string.")
            else:
                raise self.error("Invalid escape character in string.")

    def escape(self) -> bytes:
        start = self.at
        self.at += 1
        letter = self.peek()
        self.at += 1
        if letter in _ESCAPED and letter:
            return _ESCAPED[letter]
        if letter != b"u":
            raise self.error("Invalid escape character in string.", start)
        code = self.hex(start)
        if 0xD800 <= code <= 0xDFFF:
            if code > 0xDBFF or not self.take(b"\\u"):
                raise self.error("The surrogate pair in string is invalid.", start)
            low = self.hex(start)
            if not 0xDC00 <= low <= 0xDFFF:
                raise self.error("The surrogate pair in string is invalid.", start)
            code = 0x10000 + ((code - 0xD800) << 10 | low - 0xDC00)
        return chr(code).encode()

    def hex(self, start: int) -> int:
        match = _HEX.match(self.body, self.at)
        if not match:
            raise self.error("Incorrect hex digit after \\u escape in string.", start)
        self.at = match.end()
        return int(match[0], 16)

    def number(self) -> int | float:
        start = self.at
        match = _NUMBER.match(self.body, self.at)
        if not match:
            return self.not_finite()
        self.at = match.end()
        _, _, fraction, exponent = match.groups()
        if fraction == b".":
            raise self.error("Miss fraction part in number.", match.end(3))
        if exponent is not None and not exponent[-1:].isdigit():
            raise self.error("Miss exponent in number.")
        if fraction is None and exponent is None and len(match[0]) <= _MOST_DIGITS:
            whole = int(match[0])
            if _LEAST_I64 <= whole <= _MOST_U64:
                return whole
        value = rapidjson_number(match[2], (fraction or b"")[1:], (exponent or b"")[1:], negative=bool(match[1]))
        if value is None:
            raise self.error("Number too big to be stored in double.", start)
        return value

    def not_finite(self) -> float:
        sign = -1.0 if self.take(b"-") else 1.0
        if self.peek() == b"N":
            self.word(b"NaN")
            return float("nan")
        if self.peek() == b"I":
            self.word(b"Inf")
            if self.peek() == b"i":
                self.word(b"inity")
            return sign * float("inf")
        raise self.error("Invalid value.")


def _put(holder: list[Any] | dict[str, Any], key: str, value: Any) -> None:
    """The first of several members with one name counts."""
    if isinstance(holder, dict):
        holder.setdefault(key, value)
    else:
        holder.append(value)

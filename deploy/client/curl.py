"""A REST call as a line for a shell."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping
from pathlib import Path

INLINE = 2000
"""Bytes of a body that stand in curl's own arguments; longer ones come by a pipe, since an argument has its limit."""


def line(url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> str:
    """`curl` for this call, quoted for POSIX shells. Values of headers are not shown, they may be secrets.

    The whole body is in the line; one that is no text as base64.
    """
    if body is None:
        return " ".join([_curl(headers), shlex.quote(url)])
    text = _text(body)
    if text is None:
        encoded = base64.b64encode(body).decode("ascii")
        return f"printf %s {encoded} | base64 -d | {_curl(headers)} --data-binary @- {shlex.quote(url)}"
    if len(body) <= INLINE and not text.startswith("@"):
        return f"{_curl(headers)} -d {shlex.quote(text)} {shlex.quote(url)}"
    return f"printf %s {shlex.quote(text)} | {_curl(headers)} -d @- {shlex.quote(url)}"


def of_file(url: str, file: Path) -> str:
    """The same for a body that stands in a file."""
    return f"{_curl(None)} -d {shlex.quote(f'@{file}')} {shlex.quote(url)}"


def _curl(headers: Mapping[str, str] | None) -> str:
    return " ".join(["curl -sS", *(f"-H {shlex.quote(f'{name}: ...')}" for name in headers or {})])


def _text(body: bytes) -> str | None:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text

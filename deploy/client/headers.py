"""Headers that may carry credentials: they are sent, and never printed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from deploy import files
from deploy.errors import SpecError
from deploy.types import Tls

Given = Mapping[str, str] | Sequence[tuple[str, str]]


class Headers(Mapping[str, str]):
    """Headers of every request: gRPC metadata, or HTTP headers. Names are lower case. No repr shows a value.

    Raises SpecError for a name or value that the protocols don't take.
    """

    __slots__ = ("_values",)

    def __init__(self, given: Given = ()) -> None:
        self._values = {name.lower(): value for name, value in (given.items() if isinstance(given, Mapping) else given)}
        for name, value in self._values.items():
            if not re.fullmatch(r"[a-z0-9_.-]+", name) or name.startswith("grpc-") or name.endswith("-bin"):
                raise SpecError(f"metadata {name!r} is not a valid name",
                                hint="use letters, digits, '-', '_' and '.'; not grpc-..., not ...-bin")
            if not isinstance(value, str) or not re.fullmatch(r"[ -~]*", value) or value != value.strip():
                raise SpecError(f"the value of metadata {name!r} is not printable ASCII",
                                hint="remove line ends and other characters that headers can't have")

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Headers({', '.join(self._values)})"


def pem(tls: Tls, part: str) -> bytes | None:
    """The bytes of `ca`, `certificate` or `key`; None if not given. Raises SpecError if the file can't be read."""
    path = getattr(tls, part)
    if path is None:
        return None
    try:
        return files.read_given(path)
    except OSError as error:
        where = "" if part == "key" else f" {path}"  # where a key lies is nobody's business
        raise SpecError(f"the TLS {part}{where} can't be read: {files.reason(error)}",
                        hint="give the path of a PEM file") from error

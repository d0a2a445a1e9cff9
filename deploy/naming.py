"""Which names and numbers are allowed: those that mean the same as a directory, in a URL and in a config file."""

from __future__ import annotations

import re

from deploy.errors import SpecError

MAX_VERSION = 2**63 - 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def is_name(name: object) -> bool:
    """Whether a model, a label or a signature may be called so."""
    return isinstance(name, str) and bool(_NAME.fullmatch(name))


def check_name(name: object, kind: str = "model name") -> str:
    """Return `name` if it is safe as a directory, a URL segment and a config value.

    Raises SpecError: TF Serving itself accepts nearly anything, but a slash, a blank or a leading
    dot changes what a path or a URL means.
    """
    if not isinstance(name, str) or not is_name(name):
        raise SpecError(
            f"{kind} {name!r} is not valid",
            hint="use 1 to 128 letters, digits, '_', '-' and '.', starting with a letter or digit", id="bad-name")
    return name


def check_version(version: object) -> int:
    """Return `version` as an int in 1 .. 2**63-1. Raises SpecError otherwise.

    0 exists for the server, but protobuf can't tell it from "no version given" in a ModelSpec.
    """
    if isinstance(version, str) and re.fullmatch(r"[1-9][0-9]*", version):
        version = int(version)
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= MAX_VERSION:
        raise SpecError(
            f"version {version!r} is not valid",
            hint=f"a version is a whole number from 1 to {MAX_VERSION}, written without sign or leading zeros",
            id="bad-version-number")
    return version

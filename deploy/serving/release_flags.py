"""Flags that the release in a server's image doesn't know yet, told before anything is started or changed: the server
itself prints its usage, and goes on without them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from deploy.checks.flags import lacked, release_of
from deploy.errors import SpecError
from deploy.render import argv, mounted_layout
from deploy.spec import ServerPart

if TYPE_CHECKING:
    from deploy.backends import Backend
    from deploy.spec import Spec

KEYS = {"grpc_max_threads": "threads/grpc_max", "num_load_threads": "threads/load",
        "tensorflow_intra_op_parallelism": "threads/intra_op", "tensorflow_inter_op_parallelism": "threads/inter_op"}
"""Flags that older releases lack -> the key below `server` that means them."""


def check_release(spec: Spec, backend: Backend, image: str = "") -> None:
    """Raises SpecError for a flag that `lacking` tells of."""
    error = next(iter(lacking(spec, backend, image)), None)
    if error is not None:
        raise error


def lacking(spec: Spec, backend: Backend, image: str = "") -> list[SpecError]:
    """What is wrong with flags that the spec asks for, by their names or by a key, and that the release in the server's
    image is known to lack. Nothing for an image whose release isn't known, nor for a server that doesn't run one.

    image: what it is to run, if not what the spec says.
    """
    can = backend.capabilities
    if not image and not (can.starts and can.own_files):  # it is a program on this machine, or not ours to start
        return []
    image = image or spec.server.image
    release = release_of(image)
    return [] if release is None else [
        _error(spec, flag, between, release, image) for flag in _asked(spec)
        if (between := lacked(flag, release)) is not None]


def _error(spec: Spec, flag: str, between: tuple[str, str], release: str, image: str) -> SpecError:
    key = f"flags/{flag}" if flag in spec.server.flags else KEYS.get(flag, "flags")
    return SpecError(f"TensorFlow Serving {release}, which {spec.name!r} would run ({image}), doesn't know --{flag}: "
                     f"it came after {between[0]}, and {between[1]} has it", path=f"server/{key}",
                     hint=f"use an image of {between[1]} or later, or take this out: the server would print its usage "
                          "and go on without it", id="flag-of-later-release")


def _asked(spec: Spec) -> Iterable[str]:
    """The flags on the server's command line, without those that nobody has asked for."""
    layout, anyway = mounted_layout(spec), msgspec.structs.replace(spec, server=ServerPart())
    added = set(argv(anyway, layout, 0, 0))
    rendered = (text.removeprefix("--").partition("=")[0] for text in argv(spec, layout, 0, 0) if text not in added)
    return dict.fromkeys((*spec.server.flags, *rendered))

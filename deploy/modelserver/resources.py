"""What the real server does before it loads a version: it adds up the sizes of all files, to reserve memory for them.

There is memory enough without a limit, so what remains of it are the versions that fail for a path that can't be looked
at: a plain file with a version's name, a link to nowhere.
Source: tensorflow_serving/servables/tensorflow/util.cc, tensorflow_serving/core/basic_manager.cc.
"""

from __future__ import annotations

import os
from collections import deque

from deploy.modelserver.catalog import Id
from deploy.modelserver.status import Code, StatusError

_MOST = 100_000  # files; beyond these nothing is looked at


def reserve(id: Id, path: str) -> None:
    """Look at every file below `path`. Raises StatusError."""
    try:
        _look(path)
    except OSError as error:
        why = f"; {error.strerror}" if os.path.exists(path) else " not found"  # noqa: PTH110
        raise StatusError(Code.INTERNAL, f"Error while attempting to reserve resources to load servable {id}: "
                                         f"{error.filename}{why}") from error


def _look(path: str) -> None:
    seen, directories = 0, deque([path])
    while directories and seen < _MOST:
        directory = directories.popleft()
        for name in os.listdir(directory):  # noqa: PTH208 (no objects per name)
            seen += 1
            child = f"{directory}/{name}"
            if os.path.isdir(child):  # noqa: PTH112
                directories.append(child)
            else:
                os.stat(child)  # noqa: PTH116

"""Unit tests touch no network, start nothing, and never sleep: what does belongs into tests/functional."""

from __future__ import annotations

import platform
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

platform.processor()  # runs uname once per process; h5py asks for it when it is imported
_INTERNET = (socket.AF_INET, socket.AF_INET6)


def _refused(what: str) -> NoReturn:
    raise AssertionError(f"a unit test {what}: move it to tests/functional")


@pytest.fixture(autouse=True, scope="module")
def _alone() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("bind", "connect", "connect_ex"):
            real = getattr(socket.socket, name)

            def guarded(self: socket.socket, *args: Any, _real: Any = real) -> Any:
                return _refused("uses the network") if self.family in _INTERNET else _real(self, *args)

            patch.setattr(socket.socket, name, guarded)
        patch.setattr(subprocess.Popen, "__init__", lambda *_, **__: _refused("starts a process"))
        patch.setattr(time, "sleep", lambda _: _refused("sleeps"))
        yield

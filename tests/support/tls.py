"""Certificates for tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.types import Tls

_MAKE = ("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={0} "
         "-addext subjectAltName={1}:{0} -keyout key.pem -out cert.pem")


def self_signed(where: Path, name: str = "127.0.0.1") -> Tls:
    """One that trusts in itself, for an address or a name. Skips the test if openssl isn't installed."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl isn't installed")
    kind = "IP" if name[0].isdigit() else "DNS"
    subprocess.run(_MAKE.format(name, kind).split(), cwd=where, check=True, capture_output=True)
    return Tls(str(where / "cert.pem"), str(where / "cert.pem"), str(where / "key.pem"))

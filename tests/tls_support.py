"""Certificates for tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.types import Tls

_MAKE = ("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1 "
         "-addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem")


def self_signed(where: Path) -> Tls:
    """One that trusts in itself, for 127.0.0.1. Skips the test if openssl isn't installed."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl isn't installed")
    subprocess.run(_MAKE.split(), cwd=where, check=True, capture_output=True)
    return Tls(str(where / "cert.pem"), str(where / "cert.pem"), str(where / "key.pem"))

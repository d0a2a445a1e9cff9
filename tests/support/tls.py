"""Certificates for tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.types import Tls

_MAKE = ("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={0} "
         "-addext subjectAltName={1}:{0} -keyout key.pem -out cert.pem")


def authority(where: Path) -> Path:
    """ca.pem of one, with its key beside it. Skips the test if openssl isn't installed."""
    (where / "authority").mkdir(parents=True)
    self_signed(where / "authority", "authority")
    return (where / "authority" / "cert.pem").rename(where / "ca.pem")


def signed(where: Path, *names: str) -> None:
    """server.pem and server.key for these names, by the authority there; each call makes others."""
    (where / "names").write_text("subjectAltName=" + ",".join(f"DNS:{name}" for name in names))
    for command in ("req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=server -keyout server.key "
                    "-out server.csr",
                    "x509 -req -days 2 -in server.csr -CA ca.pem -CAkey authority/key.pem -CAcreateserial "
                    "-extfile names -out server.pem"):
        subprocess.run(["openssl", *command.split()], cwd=where, check=True, capture_output=True)


def self_signed(where: Path, name: str = "127.0.0.1") -> Tls:
    """One that trusts in itself, for an address or a name. Skips the test if openssl isn't installed."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl isn't installed")
    kind = "IP" if name[0].isdigit() else "DNS"
    subprocess.run(_MAKE.format(name, kind).split(), cwd=where, check=True, capture_output=True)
    return Tls(str(where / "cert.pem"), str(where / "cert.pem"), str(where / "key.pem"))

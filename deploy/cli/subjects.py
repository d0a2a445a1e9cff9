"""What a command is about: a version in the repository, a directory, a TFLite file, or what a server serves."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from deploy.client import Client
    from deploy.types import ModelVersion

F = TypeVar("F", bound=Callable[..., Any])

_PATH = re.compile(r"^[./~]|.\w+/\w+/|\.tflite$")

_server_options = (
    click.option("--rest-url", metavar="URL", help="A server's REST address: http://host:port."),
    click.option("--grpc", "grpc_target", metavar="HOST:PORT", help="Its gRPC address."),
)


def server_options(function: F) -> F:
    """Add --rest-url and --grpc."""
    for option in reversed(_server_options):
        function = option(function)
    return function


def connected(rest_url: str | None, grpc_target: str | None) -> Client:
    """A client for these addresses; at least one of them."""
    from deploy.client import connect_to

    return connect_to(grpc_target, rest_url)


def version(repository: Path, text: str) -> tuple[ModelVersion, Path]:
    """`mnist/3`, or the newest version of `mnist`. Raises VersionNotFound, SpecError."""
    from deploy.cli.models import find_version

    return find_version(repository, text)


def place(repository: Path, text: str) -> tuple[Path, ModelVersion | None]:
    """Where it is, and which published version that is, if it is one: a path, or a name as `version` takes it."""
    path = Path(text)
    if text and (path.exists() or _PATH.search(text)):
        return path, None
    mv, found = version(repository, text)
    return found, mv

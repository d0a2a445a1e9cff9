"""Who asks a registry: from Docker's and Podman's config files and their credential helpers, never from an address."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy import files
from deploy.repository.failures import Refused

DOCKER_HUB = "docker.io"
_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io", "docker.io")
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_MOST = 1 << 20  # bytes of a config file
_SECONDS = 30  # of a helper
_NO_USER = "<token>"  # what helpers say instead of a user for an identity token


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a secret, which is never shown. identity: the secret is a token that others are asked for with.

    source: where they are from, for people.
    """

    user: str
    secret: str = field(repr=False)
    source: str
    identity: bool = False

    @property
    def basic(self) -> str:
        """The header of HTTP basic authentication."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()


def find(host: str) -> Credentials | None:
    """Those for a registry: of the first config file that has some. None: ask as nobody.

    Raises Refused for a config file or a helper that can't be used.
    """
    keys = _HUB_KEYS if host == DOCKER_HUB else (host,)
    for path in config_files():
        config = _read(path)
        helpers = _mapping(config, "credHelpers")
        named = next((str(helpers[key]) for key in keys if key in helpers), None) or config.get("credsStore")
        if named and (credentials := _ask_helper(str(named), keys[0], path)):
            return credentials
        for key, entry in _mapping(config, "auths").items():
            if (key in keys or _host(key) in keys) and isinstance(entry, dict):
                credentials = _of_entry(entry, path, key)
                if credentials:
                    return credentials
    return None


def config_files() -> Iterator[Path]:
    """Where they may be, Docker's before Podman's."""
    directory = os.environ.get("DOCKER_CONFIG")
    yield (Path(directory) if directory else Path.home() / ".docker") / "config.json"
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime) / "containers/auth.json"
    yield Path.home() / ".config/containers/auth.json"


def _read(path: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(files.read_bytes(path, _MOST))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise Refused(f"{path} can't be read: {files.reason(error)}", "check its owner and mode",
                      "docker-credentials") from error
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path} isn't JSON", "mend it, or log in again: docker login REGISTRY",
                      "docker-credentials") from error
    return data if isinstance(data, dict) else {}


def _mapping(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def _host(key: str) -> str:
    return key.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _of_entry(entry: Mapping[str, Any], path: Path, key: str) -> Credentials | None:
    """What stands in the file itself: user and password in base 64, or an identity token."""
    user, secret = str(entry.get("username", "")), str(entry.get("password", ""))
    if entry.get("auth"):
        try:
            user, _, secret = base64.b64decode(str(entry["auth"]), validate=True).decode().strip("\0").partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise Refused(f"{path}: what it has for {key} isn't base 64 of user:password",
                          f"log in again: docker login {_host(key)}", "docker-credentials") from error
    if entry.get("identitytoken"):
        return Credentials(user, str(entry["identitytoken"]), str(path), identity=True)
    return Credentials(user, secret, str(path)) if user else None


def _ask_helper(name: str, server: str, path: Path) -> Credentials | None:
    """The registry's name goes to the helper's standard input, and nothing into its arguments."""
    program = f"docker-credential-{name}"
    if not _HELPER.fullmatch(name):
        raise Refused(f"{path}: {name!r} can't be the name of a credential helper", "mend the file",
                      "docker-credentials")
    try:
        done = subprocess.run([program, "get"], input=server.encode(), capture_output=True, timeout=_SECONDS,
                              check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        why = "didn't answer" if isinstance(error, subprocess.TimeoutExpired) else "can't be started"
        raise Refused(f"{program}, which {path} names, {why}", "install it, or take it out of the file",
                      "docker-credentials") from error
    if done.returncode:
        text = (done.stdout + done.stderr).decode(errors="replace").strip()
        if "not found" in text:
            return None
        raise Refused(f"{program} has no credentials of {server}: {text[:200]}", "log in again with its own tool",
                      "docker-credentials")
    try:
        data = json.loads(done.stdout)
        user, secret = str(data["Username"]), str(data["Secret"])
    except (ValueError, TypeError, KeyError) as error:
        raise Refused(f"{program} gives no Username and Secret for {server}", "check it by hand",
                      "docker-credentials") from error
    return Credentials(user, secret, program, identity=user == _NO_USER) if secret else None

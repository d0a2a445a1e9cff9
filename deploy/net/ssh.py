"""One SSH connection: keys from ~/.ssh, the agent and ~/.ssh/config; hosts have to be known, and nobody adds any."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko

from deploy.errors import DeployError


class SshRefused(DeployError):
    """Why another machine can't be talked to. passing: it may be possible a moment later."""

    def __init__(self, message: str, *, hint: str = "", id: str = "", passing: bool = False) -> None:
        super().__init__(message, hint=hint, id=id)
        self.passing = passing


def connect(host: str, where: str, seconds: float) -> paramiko.SSHClient:
    """A connection to `user@name:port`; what isn't given comes from ~/.ssh/config. Raises SshRefused.

    where: the whole address, for messages. seconds: for each step of connecting. Needs paramiko (extra `ssh`).
    """
    logging.getLogger("paramiko").addHandler(logging.NullHandler())  # its tracebacks went to stderr
    user, name, port = _parts(host)
    options = _configured(name)
    known = Path(options.get("userknownhostsfile", "~/.ssh/known_hosts").split()[0]).expanduser()
    client = paramiko.SSHClient()
    with _readable(known):
        client.load_system_host_keys(str(known)) if known.exists() else None
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    target, number = options.get("hostname", name), int(port or options.get("port", "22"))
    typed = f"ssh {f'-p {port} ' if port else ''}{f'{user}@' if user else ''}{name}"
    user = user or options.get("user", "")
    command = options.get("proxycommand")  # as for a jump through another host
    try:
        client.connect(target, number, user or None, timeout=seconds, banner_timeout=seconds,
                       auth_timeout=seconds, key_filename=options.get("identityfile"),
                       sock=paramiko.ProxyCommand(command) if command else None)
    except (paramiko.SSHException, OSError, OverflowError) as error:  # the last: of a port beyond 65535
        client.close()
        raise _refused(error, f"{where}: {target}", number, user or "yours", known, typed=typed) from error
    return client


def machine(host: str) -> str:
    """The name or address of the machine that `user@name:port` means, as ~/.ssh/config has it."""
    name = _parts(host)[1]
    return _configured(name).get("hostname", name)


def _refused(error: Exception, where: str, port: int, user: str, known: Path, *, typed: str) -> SshRefused:
    """where: the address, and the machine's name. typed: what connects there by hand."""
    name = where.rpartition(" ")[2]
    entry = name if port == paramiko.config.SSH_PORT else f"'[{name}]:{port}'"
    if isinstance(error, paramiko.BadHostKeyException):
        return SshRefused(f"{where} has another host key than {known} says",
                          hint="somebody may be in between; if the machine was set up again, remove its old line: "
                               f"ssh-keygen -R {entry}", id="host-key")
    if isinstance(error, paramiko.AuthenticationException):
        return SshRefused(f"{where} accepts no key of {user}: {error}",
                          hint="add your public key there (ssh-copy-id), or your own to the agent (ssh-add)",
                          id="credentials-refused")
    if "not found in known_hosts" in str(error):
        return SshRefused(f"{where}: its host key isn't in {known}",
                          hint=f"compare it with whoever runs the machine, then connect once: {typed}",
                          id="host-key")
    if "No authentication methods available" in str(error):
        return SshRefused(f"{where} wants a key, and there is none: neither in ~/.ssh nor in an agent",
                          hint="make one (ssh-keygen) and add its public part there (ssh-copy-id), or start the agent "
                               "that has it (ssh-add)", id="credentials-refused")
    if isinstance(error, paramiko.SSHException):
        return SshRefused(f"{where} can't be talked to: {error}", hint="check that an SSH server runs there",
                          passing=True)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return SshRefused(f"{where} port {port} can't be reached: {reason}",
                      hint="check the name, the port and the network", passing=True)


def _parts(host: str) -> tuple[str, str, str]:
    """User, name and port of `user@name:port`; what isn't there is empty."""
    user, _, host = host.rpartition("@")
    match = re.fullmatch(r"(\[.*\]|[^:]*)(?::([0-9]+))?", host)
    if match is None:
        raise SshRefused(f"{host!r} isn't user@host:port")
    return user, match[1].strip("[]"), match[2] or ""


def _configured(name: str) -> dict[str, str]:
    """What ~/.ssh/config says of a host."""
    path = Path("~/.ssh/config").expanduser()
    if not path.is_file():
        return {}
    with _readable(path):
        return dict(paramiko.SSHConfig.from_path(str(path)).lookup(name).items())


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What is wrong with a file of ~/.ssh, as SshRefused."""
    try:
        yield
    except (paramiko.SSHException, paramiko.hostkeys.InvalidHostKey, OSError, ValueError) as error:
        what = error.args[0] if error.args else error
        raise SshRefused(f"{path} can't be used: {what}", hint="mend that line; `ssh -G HOST` reads the file, too") \
            from error

"""A directory of another machine, over SSH's file transfer: `ssh://user@host:port/path`.

Objects are written under another name and renamed, so they are there whole or not at all; OpenSSH's plain rename
doesn't replace a file, which is the conditional put. Versions are shown by their manifest, last, so no server may watch
such a directory: `tfs mirror` brings them to one. Keys come from ~/.ssh, the agent and ~/.ssh/config; hosts have to be
known.
"""

from __future__ import annotations

import errno
import io
import posixpath
import secrets
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import paramiko

from deploy.addresses import Address
from deploy.errors import RepositoryError
from deploy.net import ssh
from deploy.net.ssh import SshRefused
from deploy.repository import failures
from deploy.repository.failures import Refused
from deploy.repository.stores import Item
from deploy.repository.stores.ranged import open_ranged
from deploy.repository.stores.refusals import deadline
from deploy.repository.stores.remote import RemoteStore

_PART = ".tfs-part-"  # and a random number: on its way, nobody's object
_PIECE = paramiko.SFTPFile.MAX_REQUEST_SIZE  # one request each


def open_address(address: Address) -> SftpStore:
    """The store at an ssh:// address; it is connected to when something is asked of it."""
    return SftpStore(address)


class SftpStore(RemoteStore):
    """A directory there. Each thread has a channel of its own, on one connection."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._root = f"/{address.path}"
        self._lock, self._channels = threading.Lock(), threading.local()
        self._client: paramiko.SSHClient | None = None

    def make(self) -> None:
        with failures.translated("make the repository", str(self)), self._told("make the directory"):
            self._make(self._root)

    def list(self, prefix: str = "", *, deep: bool = False) -> Iterator[Item]:
        with self._told(f"list {prefix or 'it'}"):
            return iter(sorted(self._items(prefix, deep=deep), key=lambda item: item.name))

    def _items(self, prefix: str, *, deep: bool) -> Iterator[Item]:
        try:
            entries = self._sftp().listdir_attr(self._path(prefix))
        except FileNotFoundError:
            return
        start = f"{prefix}/" if prefix else ""
        for entry in entries:
            name = start + entry.filename
            if stat.S_ISDIR(entry.st_mode or 0):
                below = self._items(name, deep=deep)
                if deep:
                    yield from below
                elif next(below, None) is not None:  # nothing but an object makes a prefix
                    yield Item(f"{name}/")
            elif stat.S_ISREG(entry.st_mode or 0) and not entry.filename.startswith(_PART):
                yield Item(name, entry.st_size or 0, float(entry.st_mtime or 0))

    def open(self, name: str) -> BinaryIO:
        path = self._path(name)
        with self._told(f"read {name}"):
            size = self._sftp().stat(path).st_size or 0
        held: dict[int, paramiko.SFTPFile] = {}

        def fetch(start: int, end: int) -> bytes:
            with self._told(f"read {name}"):
                thread = threading.get_ident()
                if thread not in held:
                    held[thread] = self._sftp().open(path, "rb")
                return b"".join(held[thread].readv([(start, end - start)]))  # all its requests at once

        return open_ranged(size, fetch)

    def put(self, name: str, data: bytes | Path) -> None:
        with self._told(f"write {name}"):
            part, sftp = self._written(name, data), self._sftp()
            with _removed_on_failure(sftp, part):
                sftp.posix_rename(part, self._path(name))

    def put_if_absent(self, name: str, data: bytes) -> bool:
        with self._told(f"write {name}"):
            part, sftp = self._written(name, data), self._sftp()
            try:
                sftp.rename(part, self._path(name))
            except OSError as error:  # the protocol says no more than "failure"
                try:
                    sftp.stat(self._path(name))
                except FileNotFoundError:
                    raise error from None
                return False
            finally:
                with suppress(OSError):
                    sftp.remove(part)
            return True

    def delete(self, name: str) -> None:
        with self._told(f"delete {name}"):
            sftp = self._sftp()
            with suppress(FileNotFoundError):
                sftp.remove(self._path(name))
            directory = posixpath.dirname(name)
            with suppress(OSError):  # it holds something, or is gone
                while directory:
                    sftp.rmdir(self._path(directory))
                    directory = posixpath.dirname(directory)

    def _path(self, name: str) -> str:
        return posixpath.join(self._root, name) if name else self._root

    def _written(self, name: str, data: bytes | Path) -> str:
        """The object under a name that nobody looks for, whole: raises OSError if the server refused any of it."""
        path, sftp = self._path(name), self._sftp()
        part = posixpath.join(posixpath.dirname(path), f"{_PART}{secrets.token_hex(8)}")
        with data.open("rb") if isinstance(data, Path) else io.BytesIO(data) as source:
            file = self._made(part)
            with _removed_on_failure(sftp, part):
                with file:
                    sent = _sent(source, file)
                there = sftp.stat(part).st_size
                if there != sent:  # what closing it was refused isn't told
                    raise OSError(errno.EIO, f"{there} bytes of {sent} are there")
        return part

    def _made(self, path: str) -> paramiko.SFTPFile:
        """A new file to write to, and its directory."""
        for _ in range(5):
            self._make(posixpath.dirname(path))
            with suppress(FileNotFoundError):  # somebody has removed the directory, which was empty
                return self._sftp().open(path, "wx")
        raise OSError(errno.ENOENT, "the directory is removed again and again", path)

    def _make(self, directory: str) -> None:
        sftp = self._sftp()
        try:
            sftp.stat(directory)
        except FileNotFoundError:
            if directory != "/":
                self._make(posixpath.dirname(directory))
            try:
                sftp.mkdir(directory, 0o755)
            except OSError as error:  # another was first, or it can't be made
                try:
                    sftp.stat(directory)
                except FileNotFoundError:
                    raise Refused(f"{self}: the directory {directory} can't be made: {error}",
                                  "check the path, and who owns what is above it", "store-forbidden") from error

    def _sftp(self) -> paramiko.SFTPClient:
        channel: paramiko.SFTPClient | None = getattr(self._channels, "sftp", None)
        if channel is None:
            with self._lock:
                if self._client is None:
                    self._client = _connected(self._address)
                channel = self._client.open_sftp()
            channel.get_channel().settimeout(deadline())  # type: ignore[union-attr]
            self._channels.sftp = channel
        return channel

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """What the connection and the other machine refuse, in a sentence."""
        try:
            yield
        except (Refused, FileNotFoundError):
            raise
        except PermissionError as error:
            raise Refused(f"{self}: {_user(self._address)} may not {what}: {error.strerror or error}",
                          "check the owner and mode of the directory there", "store-forbidden") from error
        except (TimeoutError, paramiko.SSHException, EOFError, ConnectionError) as error:
            self._forget()
            raise Refused(f"{self}: the connection broke while it was asked to {what}: {error or 'it was closed'}",
                          "repeat the command: what was written is kept", "store-unreachable") from error
        except OSError as error:
            raise Refused(f"{self}: can't {what}: {error.strerror or error}",
                          "look at the disk and the directory there", "store-failing") from error

    def _forget(self) -> None:
        with self._lock:
            client, self._client = self._client, None
            self._channels = threading.local()
        if client is not None:
            client.close()


def _sent(source: BinaryIO, file: paramiko.SFTPFile) -> int:
    """Bytes of the source, all of them written to the file there. Raises OSError for a write that was refused.

    Pieces go without waiting for answers. paramiko forgets those that are open when a file is closed; a write that
    does wait looks at all before it, so the last one does.
    """
    sent, piece = 0, source.read(_PIECE)
    while piece:
        following = source.read(_PIECE)
        file.set_pipelined(bool(following))
        file.write(piece)
        sent, piece = sent + len(piece), following
    return sent


@contextmanager
def _removed_on_failure(sftp: paramiko.SFTPClient, path: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError, EOFError, paramiko.SSHException):  # the connection may be gone
            sftp.remove(path)
        raise


def _user(address: Address) -> str:
    return address.host.rpartition("@")[0] or "you"


def _connected(address: Address) -> paramiko.SSHClient:
    """Raises Refused, RepositoryError."""
    try:
        return ssh.connect(address.host, str(address), deadline())
    except SshRefused as error:
        if error.passing:
            raise Refused(error.message, error.hint, "store-unreachable") from error
        raise RepositoryError(error.message, hint=error.hint, id=error.id) from error

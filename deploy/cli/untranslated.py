"""Sentences for exceptions that no room has translated."""

from __future__ import annotations

import os

from deploy.errors import BackendMissing, DeployError, Malformed, RepositoryError
from deploy.extras import install, of_module
from deploy.files import no_letters, reason


def as_deploy_error(error: Exception) -> DeployError:
    """The error itself, if it is ours."""
    return error if isinstance(error, DeployError) else _sentence(error)


def _sentence(error: Exception) -> DeployError:
    """The system's refusals, and input that is too much, are no bugs of ours."""
    if isinstance(error, OSError) and error.errno is not None:
        where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "it"
        return RepositoryError(f"can't use {where:.300}: {reason(error)}",
                               hint="check the path, who may read and write there, and the room on its disk",
                               id="path-unusable")
    if isinstance(error, ModuleNotFoundError) and error.name and (extra := of_module(error.name)):
        return BackendMissing(f"this needs {error.name}, which isn't installed", hint=install(extra),
                              id="extra-missing")
    if isinstance(error, RecursionError):
        return Malformed("what was given is nested too deeply to be read", hint="see which file with --verbose",
                         id="file-too-deep")
    if isinstance(error, UnicodeEncodeError):
        return no_letters()
    if isinstance(error, MemoryError):
        return Malformed("what was given takes more memory than there is", hint="see which file with --verbose",
                         id="file-too-deep")
    return DeployError(f"internal error: {type(error).__name__}: {error}",
                       hint="run it again with --verbose to see where, and please report it", id="internal-error")

"""What a server was started with, or why it couldn't be: kept beside its state for `status` and `doctor`."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from deploy import files
from deploy.backends import find, preferred
from deploy.errors import BackendMissing, DeployError, ServerError, SpecError
from deploy.render import write
from deploy.serving.planning import configuration, digest_of
from deploy.spec import Spec, bare, parse

STARTED, FAILED = "started.json", "failed.json"
SPEC = "started.yaml"  # the spec's own text
_MOST_BYTES = 1 << 20


def remember_start(spec: Spec) -> None:
    """Called when the server is ready. That this can't be written is no reason to stop a server that is."""
    _write(spec.state_dir, STARTED, configuration(spec))
    with suppress(OSError, ValueError, SpecError):
        text = files.read_bytes(spec.path, files.MOST_TEXT)
        if any(one.name == spec.name for one in parse(text, spec.path).members):  # it may have been edited since
            write({SPEC: _came_from(spec.path) + text.decode("utf-8-sig")}, spec.state_dir)
    with suppress(OSError):
        (spec.state_dir / FAILED).unlink(missing_ok=True)


def last_started(path: Path) -> Spec | None:
    """The spec that was at `path` when its server was started last, for when it can't be read any more; if nothing
    but that server is left, a spec without models. None if neither is there."""
    candidates = list(bare(path))
    for candidate in candidates:
        with suppress(OSError, ValueError, SpecError):
            return parse(_own(candidate.state_dir / SPEC), candidate.path)
    for directory in {candidate.state_dir.parent for candidate in candidates}:  # its name went with the file
        for kept in sorted(directory.glob(f"*/{SPEC}")):
            with suppress(OSError, ValueError, SpecError):
                text = _own(kept)
                if text.startswith(_came_from(path.absolute()).encode()):
                    return parse(text, path.absolute())
    return next((candidate for candidate in candidates if find(candidate)), None) or _last_of_several(candidates)


def _last_of_several(candidates: Iterable[Spec]) -> Spec | None:
    """By the directories of its servers, `<fleet>.<server>`, a spec of several whose text is lost, too."""
    for fleet in candidates:
        beside = fleet.state_dir.parent.glob(f"{glob.escape(fleet.name)}.*")
        names = sorted(path.name for path in beside if path.is_dir())
        servers = [msgspec.structs.replace(fleet, name=name, fleet=fleet.name) for name in names]
        if any(map(find, servers)):
            return msgspec.structs.replace(fleet, servers=tuple(servers))
    return None


def forget_start(spec: Spec) -> None:
    """Called when the server was stopped on purpose. The spec's text stays: it may be all that is left of it."""
    with suppress(OSError):
        (spec.state_dir / STARTED).unlink(missing_ok=True)


def _came_from(path: Path) -> str:
    return f"# {path}\n"


def remember_failure(spec: Spec, error: DeployError) -> None:
    """Called when a start failed: its container is removed, so this is all that is left."""
    _write(spec.state_dir, FAILED, error.to_json())


def started(spec: Spec) -> bool:
    """Whether the spec's server was started and not stopped since, as far as that is written down: nothing is asked."""
    return (spec.state_dir / STARTED).is_file()


def started_elsewhere(spec: Spec) -> Spec | None:
    """The spec as it was when its server was started, if that was on another Docker engine than it names now, and the
    server is there still. None as well for one whose engine doesn't change: nothing is asked then.

    Raises BackendMissing if that engine can't be asked.
    """
    before = (_read(spec.state_dir / STARTED) or {}).get("server")
    if not isinstance(before, dict) or before.get("docker") == spec.server.docker:
        return None
    server = msgspec.structs.replace(spec.server, docker=before.get("docker"), docker_tls=before.get("docker_tls"))
    there = msgspec.structs.replace(spec, server=server)
    try:
        left = preferred(there).find(there)
    except BackendMissing as e:
        raise BackendMissing(f"{spec.name} was started {_place(there)}, and may run there still, but {e.message}",
                             hint=f"make that engine answer; if it is gone for good, remove {spec.state_dir / STARTED}",
                             id="engine-moved") from None
    return there if left is not None else None


def moved(spec: Spec, there: Spec) -> ServerError:
    """Where the spec's server is, if not where the spec says. there: as `started_elsewhere` found it."""
    return ServerError(f"{spec.name} is {_place(there)}, where it was started; {spec.path.name} now says it is "
                       f"{_place(spec)}", hint="tfs down stops it there; then tfs up starts it where the spec says",
                       id="engine-moved")


def _place(spec: Spec) -> str:
    return f"on {spec.server.docker}" if spec.server.docker else "on the default Docker engine"


def failure(spec: Spec) -> Mapping[str, Any] | None:
    """The last start's error as JSON data; None if it went well."""
    return _read(spec.state_dir / FAILED)


def changes(spec: Spec, digest: str | None) -> list[str]:
    """What differs between the spec now and what the server with this digest was started from, in sentences."""
    before, now = _read(spec.state_dir / STARTED), json.loads(json.dumps(configuration(spec)))
    if digest == digest_of(now):
        return []
    if before is None or digest_of(before) != digest:
        return ["it was started with another configuration"]
    return [_sentence(*change) for change in _differences(before, now, "")]


def _differences(before: Any, now: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) or isinstance(now, dict):
        old, new = before or {}, now or {}
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{path}/{key}" if path else key)
    elif before != now:
        yield path, before, now


def _sentence(path: str, before: Any, now: Any) -> str:
    if path.startswith("files/"):
        return f"{path.removeprefix('files/')} would be written differently"
    if path == "tls":
        return "the files of server/tls have changed"
    override = "; was it started with --image?" if path == "server/image" else ""
    was, is_now = ("the default" if value is None else json.dumps(value) for value in (before, now))
    return f"{path} is {is_now} in the spec, and was {was} at the start{override}"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(_own(path))
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _own(path: Path) -> bytes:
    """A file that we wrote ourselves, so a short regular one. Raises OSError for anything else."""
    return files.read_bytes(path, _MOST_BYTES, follow=False)


def _write(directory: Path, name: str, data: object) -> None:
    try:
        write({name: json.dumps(data, indent=1, default=str) + "\n"}, directory)
    except DeployError:
        return

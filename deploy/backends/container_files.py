"""How a container gets its files: by mounts of this machine's directories, or by volumes where its engine sees others.

Which of the two is found out by asking the engine at each start, and written down for whoever comes later.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy import files as disk
from deploy import render, savedmodel
from deploy.backends.base import Progress
from deploy.backends.container_options import Mount, name_on_engine, unseen_source
from deploy.backends.engine import Engine
from deploy.backends.engine_errors import translated
from deploy.backends.volume_files import Copy, VolumeConfig, bring
from deploy.backends.volumes import OWNER_LABEL, OWNER_STATE_LABEL, Volume, read
from deploy.errors import ServerError
from deploy.render.configs import CONFIG_MOUNT, MODELS_MOUNT
from deploy.spec import Spec

if TYPE_CHECKING:
    from docker.models.containers import Container

    from deploy.repository import StoredVersion

_MEMORY = "engine.json"  # in the state directory: how the server that was started last got its files
_PROBE = "/tfs-probe"
Connect = Callable[[], Engine]


def by_volumes(spec: Spec) -> bool:
    """Whether the spec's server gets its files by volumes, as far as that was said or found out. Nothing is asked."""
    if spec.server.docker_files != "auto":
        return spec.server.docker_files == "volumes"
    try:
        memory = json.loads(disk.read_bytes(spec.state_dir / _MEMORY, 1 << 16, follow=False))
        return bool(memory["files"] == "volumes")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def remember(spec: Spec, volumes: bool) -> None:
    """Write down how the spec's server gets its files, if the spec leaves that open. Raises ServerError."""
    if spec.server.docker_files == "auto" and by_volumes(spec) != volumes:
        render.write({_MEMORY: json.dumps({"files": "volumes" if volumes else "mounts"}) + "\n"}, spec.state_dir)


def models_volume(spec: Spec, connect: Connect) -> Volume:
    """The volume with the models of the spec's server."""
    return _volume(spec, "models", connect)


def config_store(spec: Spec, connect: Connect, reader: tuple[int, int]) -> VolumeConfig:
    """The volume with its config files."""
    return VolumeConfig(_volume(spec, "config", connect), reader)


def _volume(spec: Spec, what: str, connect: Connect) -> Volume:
    labels = {OWNER_LABEL: spec.name, OWNER_STATE_LABEL: str(spec.state_dir)}
    return Volume(connect, volume_name(spec, what), labels, spec.server.image)


def volume_name(spec: Spec, what: str) -> str:
    """As the engine knows it. what: models, config."""
    return f"{name_on_engine(spec.name, str(spec.state_dir))}-{what}"


def mounts_of_volumes(spec: Spec) -> tuple[Mount, ...]:
    """What a server gets of them."""
    return (Mount(volume_name(spec, "models"), str(MODELS_MOUNT), volume=True),
            Mount(volume_name(spec, "config"), str(CONFIG_MOUNT), volume=True))


def discard(spec: Spec, connect: Connect) -> list[str]:
    """Remove the volumes of the spec's server; the names of those that were there. Raises ServerError."""
    volumes = [_volume(spec, what, connect) for what in ("models", "config")]
    names = [f"volume {volume.name}" for volume in volumes if volume.remove()]
    (spec.state_dir / _MEMORY).unlink(missing_ok=True)
    return names


def bring_versions(spec: Spec, versions: Sequence[StoredVersion], connect: Connect, owner: tuple[int, int],
                   progress: Progress) -> None:
    """Copy versions into the volume of the spec's models; see volume_files.bring."""
    here = {model.name: Path(model.base_path) for model in spec.models}
    copies = [Copy(f"{model}/{version.path.name}", version) for version in versions
              for model, base in here.items() if version.path.parent == base]
    bring(models_volume(spec, connect), copies, owner, here, progress)


def sees(engine: Engine, spec: Spec, versions: Sequence[StoredVersion]) -> bool:
    """Whether the engine sees what the spec's server needs of this machine: it is asked for it. Raises ServerError.

    A container that is never started has all of it mounted. A file of the same path may be another machine's own, so
    there is one that only we know.
    """
    secret = secrets.token_bytes(16)
    probe = spec.state_dir / f".probe-{secret.hex()[:8]}"
    mounts = [Mount(str(probe), f"{_PROBE}/secret"), *(
        Mount(str(base), f"{_PROBE}/{number}") for number, base in enumerate(_bases(versions)))]
    numbers = {base: number for number, base in enumerate(_bases(versions))}
    graphs = [f"{_PROBE}/{numbers[v.path.parent.resolve()]}/{v.path.name}/{savedmodel.model_file(v.path)}"
              for v in versions]
    try:
        probe.mkdir(parents=True)
        (probe / "secret").write_bytes(secret)
        return _asked(engine, spec.server.image, mounts, secret, graphs)
    except OSError as e:
        raise ServerError(f"can't write {probe}: {disk.reason(e)}", hint="make room, or check who owns the directory"
                          ) from None
    finally:
        shutil.rmtree(probe, ignore_errors=True)


def _bases(versions: Sequence[StoredVersion]) -> list[Path]:
    """The engine's daemon resolves the paths, so links have to be resolved here, where they are understood."""
    return list(dict.fromkeys(version.path.parent.resolve() for version in versions))


def _asked(engine: Engine, image: str, mounts: Sequence[Mount], secret: bytes, graphs: Sequence[str]) -> bool:
    container: Container | None = None
    options: dict[str, Any] = {"mounts": [mount.to_docker() for mount in mounts], "network_mode": "none"}
    try:
        with translated("ask what it sees", engine.where):
            container = engine.client.containers.create(image, ["true"], **options)
        return read(container, f"{_PROBE}/secret/secret", engine) == secret and all(
            _is_there(container, path, engine) for path in graphs)
    except ServerError as e:
        if unseen_source(e.message, mounts):
            return False
        raise
    finally:
        if container is not None:
            with translated("remove the container that asked", engine.where):
                container.remove(force=True)


def _is_there(container: Container, path: str, engine: Engine) -> bool:
    import docker.errors

    with translated(f"look for {path}", engine.where):
        try:
            container.get_archive(path)  # its headers tell; the contents aren't read
        except docker.errors.NotFound:
            return False
    return True

"""What a server finds in its volumes: versions of models, brought there and verified there; its config files."""

from __future__ import annotations

import hashlib
import json
import secrets as random
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy import files as disk
from deploy.backends.base import Progress
from deploy.backends.volumes import AT, END, Holder, Volume, entry, padding, tar_of
from deploy.errors import ServerError

if TYPE_CHECKING:
    from deploy.repository import StoredVersion

INDEX = ".tfs-index.json"  # at the top of the volume, where no server looks: what is there, by `model/directory`
_STAGE = ".tfs-stage"
_CHUNK = 1 << 20
_SPARE = 64 << 20  # bytes that stay free: the disk is others', too


@dataclass(frozen=True, slots=True)
class Copy:
    """A version as it is to be in a volume. place: `model/directory`, as the server's layout has it."""

    place: str
    version: StoredVersion

    def digest(self) -> str:
        """Equal for equal contents: its manifest's, or that of its files if no tool has given it one."""
        manifest = self.version.find_manifest()
        if manifest is not None:
            return manifest.digest
        tree = hashlib.sha256()
        for name, path in _files(self.version.path):
            with disk.open_regular(path) as file:
                digest = hashlib.sha256()
                while piece := file.read(_CHUNK):
                    digest.update(piece)
            tree.update(f"{name}\0{digest.hexdigest()}\0".encode())
        return f"sha256:{tree.hexdigest()}"

    def size(self) -> int:
        """Bytes of its files."""
        return disk.total(self.version.path)[0]


def bring(volume: Volume, copies: Sequence[Copy], owner: tuple[int, int], here: Mapping[str, Path], progress: Progress
          ) -> None:
    """Bring the versions that aren't in the volume yet; what isn't in `here` (model -> directory) any more is removed.

    owner: user and group of the files there. Each is verified before it is sent and again where it has arrived, and
    seen by no server before that. Raises ServerError, DigestMismatch, RepositoryError: then nothing was shown.
    """
    present = _index(volume)
    wanted = {copy.place: (copy, copy.digest()) for copy in copies}
    missing = {place: copy for place, (copy, digest) in wanted.items() if present.get(place) != digest}
    gone = [place for place in present if place not in wanted and _is_gone(place, here)]
    if not missing and not gone:
        return
    sizes = {place: copy.size() for place, copy in missing.items()}
    with volume.held() as holder:
        _make_room(holder, volume, gone, sum(sizes.values()))
        try:
            for place, copy in missing.items():
                progress(f"bringing {place} to the engine at {volume.engine.where}, {sizes[place] / 1e6:,.1f} MB")
                copy.version.check()
                holder.put(_stream(copy, owner), f"{AT}/{_STAGE}")
            index = {**{p: d for p, d in present.items() if p not in gone}, **{p: wanted[p][1] for p in missing}}
            holder.put(tar_of({INDEX: json.dumps(index, indent=1).encode()}), f"{AT}/{_STAGE}")
            holder.run(_show(list(missing), owner))
        except BaseException:
            _discard(holder)
            raise


def _index(volume: Volume) -> dict[str, str]:
    try:
        index = json.loads(volume.read(INDEX) or b"{}")
    except ValueError:
        return {}  # all is sent again
    return {str(place): str(digest) for place, digest in index.items()} if isinstance(index, dict) else {}


def _is_gone(place: str, here: Mapping[str, Path]) -> bool:
    """Whether the version was removed on this machine: of a model that we know."""
    model, _, directory = place.partition("/")
    return model in here and not (here[model] / directory).is_dir()


def _make_room(holder: Holder, volume: Volume, gone: Sequence[str], needed: int) -> None:
    removed = " ".join(shlex.quote(f"{AT}/{place}") for place in gone)
    free = 1024 * int(holder.run(f"rm -rf {AT}/{_STAGE} {removed}\nmkdir -p {AT}/{_STAGE}\n"
                                 f"df -Pk {AT} | tail -n 1").split()[-3])
    if needed + _SPARE > free:
        raise ServerError(f"the disk of the Docker engine at {volume.engine.where} has {free / 1e6:,.0f} MB left, and "
                          f"{needed / 1e6:,.0f} MB are to be copied there", id="engine-disk-full",
                          hint="make room there: docker system df says what takes it",
                          details={"needed": needed, "free": free})


def _discard(holder: Holder) -> None:
    try:
        holder.run(f"rm -rf {AT}/{_STAGE}")
    except ServerError:  # the next one does it
        return


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """The files of a version; a link to a file counts as the file."""
    for name, found in disk.walk(root):
        if found.is_file():
            yield name, Path(found.path)


def _stream(copy: Copy, owner: tuple[int, int]) -> Iterator[bytes]:
    """A version as a tar stream, its checksums last: each file is read once."""
    sums, root = [], copy.version.path
    yield from (entry(f"{copy.place.partition('/')[0]}/", 0, owner), entry(f"{copy.place}/", 0, owner))
    for name, found in disk.walk(root):
        if found.is_dir(follow_symlinks=False):
            yield entry(f"{copy.place}/{name}/", 0, owner)
            continue
        digest, sent = hashlib.sha256(), 0
        with disk.open_regular(found.path) as file:
            size = found.stat().st_size
            yield entry(f"{copy.place}/{name}", size, owner)
            while piece := file.read(_CHUNK):
                sent += len(piece)
                digest.update(piece)
                yield piece
        if sent != size:
            raise ServerError(f"{found.path} changed while it was copied: {size} bytes, then {sent}",
                              id="model-changed")
        yield padding(size)
        sums.append(f"{digest.hexdigest()}  {name}\n")
    text = "".join(sums).encode()
    yield entry(f"{copy.place}.sums", len(text)) + text + padding(len(text)) + END


def _show(places: Sequence[str], owner: tuple[int, int]) -> str:
    """The script that checks what has arrived, and then shows it: by a rename, and the index last."""
    lines = [f"cd {AT}/{_STAGE}", "command -v sha256sum mv df > /dev/null"]
    for place in map(shlex.quote, places):
        lines.append(f"(cd {place} && sha256sum -c ../{place.rpartition('/')[2]}.sums > ../sums.out 2>&1) || "
                     f"{{ grep -v OK {place}/../sums.out; exit 1; }}")
    for number, place in enumerate(places):
        model, target = shlex.quote(place.partition("/")[0]), shlex.quote(f"{AT}/{place}")
        lines += [f"mkdir -p {AT}/{model}", f"chown {owner[0]}:{owner[1]} {AT}/{model}",
                  f"if [ -e {target} ]; then mv {target} old-{number}; fi", f"mv {shlex.quote(place)} {target}"]
    return "\n".join([*lines, "sync", f"mv -f {INDEX} {AT}/{INDEX}", f"rm -rf {AT}/{_STAGE}"])


class VolumeConfig:
    """See backend.ConfigStore: config files in a volume. reader: the server's user and group."""

    def __init__(self, volume: Volume, reader: tuple[int, int]) -> None:
        self._volume, self._reader = volume, reader

    @property
    def place(self) -> str:
        return f"volume {self._volume.name}"

    @property
    def lost_on_restart(self) -> str:
        return ""

    def path(self, name: str) -> str:
        return f"{self.place}:/{name}"

    def read(self, name: str) -> str | None:
        data = self._volume.read(name)
        try:
            return None if data is None else data.decode().replace("\r\n", "\n")
        except UnicodeDecodeError as e:
            raise ServerError(f"can't read the server's config file {self.path(name)}: {e}",
                              id="volume-unusable") from None

    def write(self, files: Mapping[str, str], secrets: Mapping[str, str] | None = None) -> None:
        part = f".{random.token_hex(4)}-"
        texts = {**files, **(secrets or {})}
        archive = b"".join(
            tar_of({f"{part}{name}": text.encode() for name, text in some.items()}, self._reader, mode)[:-len(END)]
            for some, mode in ((files, 0o644), (secrets or {}, 0o600))) + END
        moves = [f"mv -f {shlex.quote(part + name)} {shlex.quote(name)}" for name in texts]
        with self._volume.held() as holder:
            holder.put(archive)
            holder.run("\n".join([f"cd {AT}", "sync", *moves, "rm -f .????????-*"]))

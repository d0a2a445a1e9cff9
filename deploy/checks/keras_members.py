"""What stands in a Keras file beside its configuration: weights that lead elsewhere, and pickles in whatever coat."""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from typing import IO, Any

_HEAD = 1 << 16
_MOST_OBJECTS = 100_000
_MOST_MEMBERS = 10_000
_NUMPY, _ZIP, _HDF5 = b"\x93NUMPY", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"
_IMPORTS = frozenset({"GLOBAL", "INST", "STACK_GLOBAL", "REDUCE", "BUILD"})


def problems(file: IO[bytes]) -> Iterator[str]:
    """What is wrong with the contents of a member, or of a file of weights: sentences without a subject."""
    head = file.read(_HEAD)
    file.seek(0)
    if is_pickle(head):
        yield "is a pickle"
    elif head.startswith(_NUMPY):
        if _objects(head):
            yield "holds Python objects, as a pickle"
    elif head.startswith(_ZIP):
        yield from _arrays(file)
    elif head.startswith(_HDF5):
        yield from _links(file)


def is_pickle(head: bytes) -> bool:
    """Whether bytes begin as a pickle does: of protocol 2 to 5 by its mark, an older one by what it says."""
    if len(head) > 1 and head[0] == 0x80 and head[1] in range(2, 6):
        return True
    seen = set()
    try:
        for number, (opcode, _, _) in enumerate(pickletools.genops(head)):
            seen.add(opcode.name)
            if number > 10_000:
                break
    except Exception:  # it isn't one, or doesn't end here
        return False
    return "STOP" in seen and not _IMPORTS.isdisjoint(seen)


def _objects(head: bytes) -> bool:
    """Whether a .npy file's dtype has objects in it, alone or in a field."""
    text = head[:4096]
    return b"'|O" in text or b"'O'" in text or b'"|O' in text or b"'|O8'" in text


def _arrays(file: IO[bytes]) -> Iterator[str]:
    """An .npz: a zip of .npy files."""
    with zipfile.ZipFile(file) as inner:
        for member in inner.infolist()[:_MOST_MEMBERS]:
            with inner.open(member) as array:
                head = array.read(4096)
            if is_pickle(head):
                yield f"holds a pickle, {member.filename!r:.100}"
            elif head.startswith(_NUMPY) and _objects(head):
                yield f"holds Python objects, as a pickle, in {member.filename!r:.100}"


def _links(file: IO[bytes]) -> Iterator[str]:
    """An HDF5 file whose data stand in other files; each is told once. Without h5py nothing can be said."""
    try:
        import h5py  # type: ignore[import-untyped]
    except ImportError:
        return
    try:
        with h5py.File(file, "r") as opened:
            yield from _walk(h5py, opened)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError):  # damaged: whoever loads it will say so
        return


def _walk(h5py: Any, opened: Any) -> Iterator[str]:
    pending, seen, count = [opened], set(), 0
    while pending:
        group = pending.pop()
        for name in group:
            count += 1
            if count > _MOST_OBJECTS:
                yield f"has more than {_MOST_OBJECTS:,} objects"
                return
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield f"has a link to another file, {link.filename!r:.200}"
                continue
            if isinstance(link, h5py.SoftLink):
                continue
            item = group[name]
            where = h5py.h5o.get_info(item.id).addr
            if where in seen:
                continue
            seen.add(where)
            if isinstance(item, h5py.Group):
                pending.append(item)
            elif isinstance(item, h5py.Dataset):
                if item.external:
                    yield f"keeps data in another file, {str(item.external[0][0])!r:.200}"
                if item.is_virtual:
                    yield "takes data from other files"

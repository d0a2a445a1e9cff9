"""The files of a version on their way into a store, from where they lie: several at once, the biggest first."""

from __future__ import annotations

import threading
from collections.abc import Collection
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from deploy.repository import copying
from deploy.repository.copying import Progress
from deploy.repository.manifest import Manifest
from deploy.repository.stores import Store
from deploy.repository.survey import SourceFile, Survey

_FILES = 4  # at once: eight take 300 MB where a store sends parts of 8 MB, and were no faster on one machine
_LOOK = 0.1  # seconds between two reports of progress


def send(store: Store, name: str, source: Survey, manifest: Manifest, *, there: Collection[str] = (),
         progress: Progress | None = None) -> None:
    """Put a version's files below `name`, all but those in `there`.

    Raises OSError at the first that can't be sent, RepositoryError if one isn't what the manifest says any more.

    progress: called on the caller's thread.
    """
    files = sorted((file for file in source.files if file.name in manifest.files), key=lambda file: -file.size)
    stop, sent = threading.Event(), [file.size for file in files if file.name in there]

    def put(file: SourceFile) -> None:
        if not stop.is_set():
            store.put(f"{name}/{file.name}", Path(file.path))
            try:
                copying.check_unchanged(file, manifest.files[file.name], manifest.algorithm)
            except BaseException:  # else the next who sends the same would take it for whole
                store.delete(f"{name}/{file.name}")
                raise
            sent.append(file.size)

    with ThreadPoolExecutor(_FILES, "tfs-send") as pool:
        left = {pool.submit(put, file) for file in files if file.name not in there}
        try:
            while left:
                done, left = wait(left, _LOOK, FIRST_EXCEPTION)
                if progress:
                    progress(sum(sent), manifest.size)
                for future in done:
                    future.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise

"""The files of a version on their way into a store: several at once, the biggest first."""

from __future__ import annotations

import threading
from collections.abc import Collection
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from deploy.repository.copying import Progress
from deploy.repository.manifest import Manifest
from deploy.repository.stores import Store

_FILES = 4  # at once: eight take 300 MB where a store sends parts of 8 MB, and were no faster on one machine
_LOOK = 0.1  # seconds between two reports of progress


def send(store: Store, name: str, tree: Path, manifest: Manifest, *, there: Collection[str] = (),
         progress: Progress | None = None) -> None:
    """Put a version's files below `name`, all but those in `there`. Raises OSError at the first that can't be sent.

    progress: called on the caller's thread.
    """
    files = sorted(manifest.files.items(), key=lambda item: -item[1].size)
    stop, sent = threading.Event(), [record.size for file, record in files if file in there]

    def put(file: str, size: int) -> None:
        if not stop.is_set():
            store.put(f"{name}/{file}", tree / file)
            sent.append(size)

    with ThreadPoolExecutor(_FILES, "tfs-send") as pool:
        left = {pool.submit(put, file, record.size) for file, record in files if file not in there}
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

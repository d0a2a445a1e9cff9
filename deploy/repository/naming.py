"""What the names in a repository mean: `<root>/<model>/<version>/`, as TensorFlow Serving reads it.

The server parses directory names leniently (`007`, `+5` and ` 5` are versions) and ignores what isn't a number;
see tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc. We write canonical numbers only.
"""

from __future__ import annotations

from pathlib import Path

from deploy.wire.model_config import by_version, version_number

STAGE_PREFIX = ".stage-"
STATE_DIRECTORY = ".tfs"  # below the root: one small file per model, lock and memory of the highest number, or claims
ATTACHED_DIRECTORY = f"{STATE_DIRECTORY}/.attached"  # signatures and receipts; no model has such a name
EXTRA_DIRECTORY = "assets.extra"  # the server's name for files of a version that aren't the model's own
MANIFEST_FILE = f"{EXTRA_DIRECTORY}/tfs_manifest.json"
WARMUP_FILE = f"{EXTRA_DIRECTORY}/tf_serving_warmup_requests"


def names(directory: Path) -> list[str]:
    """The names in a directory; none if there is no such directory."""
    try:
        return [path.name for path in directory.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def version_paths(model_directory: Path) -> dict[int, Path]:
    """Version -> directory. Of several spellings of one number the canonical one counts."""
    paths: dict[int, Path] = {}
    for name in sorted(names(model_directory)):
        number = version_number(name)
        path = model_directory / name
        if number and number > 0 and path.is_dir() and (number not in paths or name == str(number)):
            paths[number] = path
    return dict(sorted(paths.items()))


def taken(model_directory: Path) -> dict[int, str]:
    """Every number that the server would see, files, version 0 and negative ones included -> its spelling."""
    return by_version(names(model_directory))


def stage_paths(model_directory: Path) -> list[Path]:
    """The stage directories beside a model's versions, sorted."""
    return [model_directory / name for name in sorted(names(model_directory)) if name.startswith(STAGE_PREFIX)]

"""The image's requirements and the guide don't drift from what they are about."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from deploy.wire.flags import FLAGS

ROOT = Path(__file__).parents[2]


def blocks(text: str) -> dict[str, str]:
    """Requirement line (name, version, marker) -> the whole entry with its hashes, without comments."""
    entries = re.split(r"\n(?=[A-Za-z])", re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE).strip())
    return {entry.partition("\\")[0].strip(): " ".join(entry.split()) for entry in entries}


def test_the_image_installs_what_is_locked() -> None:
    locked = blocks((ROOT / ".ci/requirements.txt").read_text())
    image = blocks((ROOT / "docker/modelserver.requirements.txt").read_text())
    assert image.items() <= locked.items(), "copy the entries anew from .ci/requirements.txt"
    names = {re.split(r"[=; ]", line)[0] for line in image}
    every = {line for line in locked if re.split(r"[=; ]", line)[0] in names}
    assert every == set(image), "an entry for another Python or machine is missing"


def test_the_image_has_what_the_server_imports() -> None:
    code = """
import importlib, pkgutil, sys, deploy.modelserver, deploy.engine
before = set(sys.stdlib_module_names) | {"deploy"}
for room in (deploy.modelserver, deploy.engine):
    for module in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
print(*sorted({name.partition(".")[0] for name, m in sys.modules.items() if getattr(m, "__spec__", None)} - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    packages = metadata.packages_distributions()
    # `google` is a namespace of many distributions; the server loads protobuf and google-crc32c of it
    packages["google"] = ["protobuf", "google-crc32c"]
    imported = {dist.lower().replace("_", "-") for name in done.stdout.split() for dist in packages.get(name, ())}
    image = {re.split(r"[=; ]", line)[0] for line in blocks((ROOT / "docker/modelserver.requirements.txt").read_text())}
    assert imported and imported - {"tfs-deploy", "setuptools"} <= image


def test_the_command_line_image_has_what_the_base_installs() -> None:
    printed = subprocess.run([sys.executable, str(ROOT / "docker/requirements.py"), "tfs"], capture_output=True,
                             text=True, check=True).stdout
    image = {re.split(r"[=; ]", line)[0] for line in blocks(printed)}
    wanted, needed = ["tfs-deploy"], set()
    while wanted:
        for line in metadata.requires(wanted.pop()) or ():
            name = re.split(r"[^\w.-]", line)[0].lower().replace("_", "-")
            if "extra ==" not in line and "win32" not in line and name not in needed:
                needed.add(name)
                wanted.append(name)
    assert "urllib3" in needed and needed <= image and "tensorflow" not in image


def test_our_own_flags_are_documented() -> None:
    guide = (ROOT / "docs/modelserver.md").read_text()
    ours = {flag.name for flag in FLAGS if flag.name.startswith("tfs_")}
    rows = "".join(re.findall(r"^\|.*\n", guide, re.MULTILINE))
    assert ours == set(re.findall(r"`--(tfs_\w+)", rows))

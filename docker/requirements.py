"""Prints docker/modelserver.requirements.txt: the entries of .ci/requirements.txt that the embedded server needs.

Part of `make requirements`. They are installed without dependencies, so everything is named here.
"""

from __future__ import annotations

import re
from pathlib import Path

NAMES = {
    "ai-edge-litert", "backports-strenum", "flatbuffers", "google-crc32c", "hpack", "httptools", "lazy-loader",
    "ml-dtypes", "numpy", "orjson", "protobuf", "pysimdjson", "tensorflow", "tensorflow-cpu", "tqdm",
    "typing-extensions", "uvloop"}
HEADER = """\
# What the embedded server's image needs, and nothing else; written by `make requirements` (docker/requirements.py).
# Installed without dependencies; of TensorFlow only the shared libraries are kept."""

if __name__ == "__main__":
    locked = (Path(__file__).parents[1] / ".ci" / "requirements.txt").read_text()
    entries = re.split(r"\n(?=[A-Za-z])", locked.strip())
    print(HEADER, *(e for e in entries if re.split(r"[=; ]", e)[0] in NAMES), sep="\n")

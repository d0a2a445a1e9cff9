"""The guides that promise a result: what they show is typed, block by block, in an empty directory.

A block with a title is written to the file of that name, a block of `sh` is run by bash and has to succeed, and each
line of a block of `text` has to stand in what the block before it printed. Blocks without a language are shown only.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ports import free_ports

ROOT = Path(__file__).parents[2]
GUIDES = [*sorted((ROOT / "docs/tutorials").glob("*.md")), ROOT / "docs/moving.md", ROOT / "docs/security.md",
          ROOT / "docs/kubernetes.md"]
BLOCK = re.compile(r"^```(?P<language>[a-z]+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$",
                   re.MULTILINE | re.DOTALL)


class Reader:
    """Somebody who types what a guide shows, in a directory with blanks, on ports that are free."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ports = dict(zip(("8500", "8501", "8555"), (*free_ports(), *free_ports()), strict=False))
        self.environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                            "COLUMNS": "160", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": "",
                            "DOCKER_HOST": f"unix://{directory}/nobody.sock"}

    def on_free_ports(self, text: str) -> str:
        return re.sub(r"\b(8500|8501|8555)\b", lambda match: str(self.ports[match[0]]), text)

    def write(self, name: str, text: str) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.on_free_ports(text))

    def run(self, script: str) -> str:
        """What one block prints. It is run line by line, so that a spec may be given its ports in between."""
        output = ""
        for line in commands(self.on_free_ports(script)):
            self.give_ports()
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", line], cwd=self.directory, env=self.environment,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False)
            output += done.stdout
            assert done.returncode == 0, f"{line}\n{output}"
        return output

    def give_ports(self) -> None:
        spec = self.directory / "serving.yaml"
        if spec.exists() and "rest_port:" not in re.sub(r"#.*", "", spec.read_text()):
            spec.write_text(with_ports(spec.read_text(), self.ports))


def commands(script: str) -> list[str]:
    """A block's commands; one that goes on in the next line stays whole."""
    return [line for line in re.sub(r"\\\n\s*", "", script).splitlines() if line.strip()]


def with_ports(spec: str, ports: dict[str, int]) -> str:
    given = f"grpc_port: {ports['8500']}, rest_port: {ports['8501']}"
    if re.search(r"^server: \{", spec, re.MULTILINE):
        return re.sub(r"^server: \{", f"server: {{{given}, ", spec, flags=re.MULTILINE)
    if re.search(r"^server:$", spec, re.MULTILINE):
        lines = given.replace(", ", "\n  ")
        return re.sub(r"^server:$", f"server:\n  {lines}", spec, flags=re.MULTILINE)
    return f"{spec}\nserver: {{{given}}}\n"


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", text)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    where = tmp_path / "a reader"
    where.mkdir()
    reader = Reader(where)
    yield reader
    subprocess.run(["tfs", "down"], cwd=where, env=reader.environment, capture_output=True, check=False)


@pytest.mark.tensorflow
@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_what_the_guide_shows_is_what_happens(guide: Path, reader: Reader) -> None:
    output = ""
    for block in BLOCK.finditer(guide.read_text()):
        if block["title"]:
            reader.write(block["title"], block["text"])
        elif block["language"] == "sh":
            output = reader.run(block["text"])
        elif block["language"] == "text":
            for line in reader.on_free_ports(block["text"]).splitlines():
                assert plain(line).strip() in plain(output), f"{line}\nisn't in\n{output}"

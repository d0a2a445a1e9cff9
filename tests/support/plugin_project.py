"""A project in which pytest runs with our plugin, in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

from deploy import goldens
from deploy.goldens import Golden
from tests.support.savedmodel import graph, save
from tests.support.servers import until

SPEC = """
models: [{name: m, versions: [1], labels: {stable: 1}}]
server: {backend: embedded, flags: {tfs_loader: echo}, grpc_port: 8500, rest_port: 8501}
"""
X = {"x": np.array([1, 2], np.float32)}


class Project:
    """A directory with a repository and a spec, served without TensorFlow."""

    def __init__(self, directory: Path, runs: Path) -> None:
        self.directory, self.runs = directory, runs
        self.environment = {**os.environ, "TFS_RUNS_DIR": str(runs), "PYTHONDONTWRITEBYTECODE": "1",
                            "DOCKER_HOST": f"unix://{directory}/nobody.sock"}
        self.write("serving.yaml", SPEC)
        self.golden(X)

    def write(self, name: str, text: str) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def golden(self, outputs: dict[str, np.ndarray]) -> None:
        meta = graph("Placeholder")
        for side in (meta.signature_def["serving_default"].inputs["x"],
                     meta.signature_def["serving_default"].outputs["y"]):
            side.tensor_shape.Clear()
            side.tensor_shape.unknown_rank = True
        version = save(self.directory / "models/m/1", meta)
        goldens.write(version, [Golden("serving_default", X, {"y": outputs["x"]})], "m")

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-m", "pytest", "-p", "no:cov", *args],
                                cwd=self.directory, env=self.environment, text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT)

    def pytest(self, *args: str, code: int = 0) -> str:
        process = self.start(*args)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == code, output
        return output

    def left(self) -> list[str]:
        """Processes that this project's runs have left, and directories."""
        mine = []
        for process in psutil.process_iter(["cmdline"]):
            line = " ".join(process.info["cmdline"] or ())
            if str(self.runs) in line:
                mine.append(line)
        return mine + ([path.name for path in self.runs.iterdir()] if self.runs.exists() else [])

    def gone(self) -> None:
        until(lambda: not self.left(), "nothing of the run to be left", seconds=30)


@contextmanager
def project_in(directory: Path) -> Iterator[Project]:
    """One whose path has a blank, and which may leave nothing of its runs."""
    (directory / "a project").mkdir()
    project = Project(directory / "a project", directory / "runs")
    yield project
    for line in project.left():
        assert not line, f"left over: {line}"

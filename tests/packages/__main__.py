"""`make packages`: wheel and sdist as a stranger gets them, on every Python that they are for and that is here.

    python -m tests.packages [--python 3.12 ...] [--require 3.12 ...] [--dist .cache/packages]

Each wheel is installed into a fresh environment, measured, and used: publish, init, check and `pytest --tfs`, below a
path with blanks and umlauts. pytest is the newest that pip finds, and the oldest that we support on the first Python.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from deploy.version import __version__
from tests.support.savedmodel import graph, save

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
MOST_MEGABYTES = 130  # of the base, without pip
OLDEST_PYTEST = "7.4.0"
ECHO = "server: {backend: embedded, grpc_port: 0, rest_port: 0, flags: {tfs_loader: echo}}\n"
_OF_VENV = re.compile(r"(pip|setuptools|pkg_resources|_distutils_hack)(-|$)")  # what a fresh environment has


def run(*command: str | Path, where: Path | None = None, **environment: str) -> str:
    """What it prints. Ends the program with that if it fails."""
    done = subprocess.run([str(c) for c in command], cwd=where, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False, env={**os.environ, **environment})
    if done.returncode:
        sys.exit(f"{done.stdout}\npackages: exit code {done.returncode} of {' '.join(map(str, command))}")
    return done.stdout


def interpreter(version: str) -> Path | None:
    """A Python of this version that runs: on PATH, or one of pyenv's."""
    for candidate in (f"python{version}", *sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))):
        path = shutil.which(candidate)
        if path and subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            return Path(path)
    return None


def build(dist: Path) -> tuple[Path, Path]:
    """The wheel, made from the sdist, and the sdist."""
    shutil.rmtree(dist, ignore_errors=True)
    tools = dist / "tools"
    run(sys.executable, "-m", "venv", tools)
    run(tools / "bin/pip", "install", "-qq", "build")
    run(tools / "bin/python", "-m", "build", "--outdir", dist, ROOT)
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    return wheel, sdist


class Environment:
    """A fresh one, with a package in it."""

    def __init__(self, python: Path, directory: Path) -> None:
        run(python, "-m", "venv", directory)
        self.bin = directory / "bin"

    def install(self, *what: str) -> None:
        run(self.bin / "python", "-m", "pip", "install", "-qq", "--disable-pip-version-check", *what)

    def megabytes(self) -> float:
        """Of everything that isn't pip, as it lies on the disk."""
        (site,) = (self.bin.parent / "lib").glob("*/site-packages")
        files = (f for top in site.iterdir() if not _OF_VENV.match(top.name) for f in (top, *top.rglob("*")))
        return sum(f.stat().st_blocks * 512 for f in files if f.is_file()) / 2**20

    def files(self) -> set[str]:
        """Those of ours."""
        (site,) = (self.bin.parent / "lib").glob("*/site-packages")
        return {str(f.relative_to(site)) for f in (site / "deploy").rglob("*") if "__pycache__" not in f.parts}


def use(environment: Environment, place: Path) -> str:
    """Publish, look, describe, and run the smoke checks as tests; how many passed."""
    save(place / "saved", graph("Placeholder"))
    tfs = environment.bin / "tfs"
    assert run(tfs, "--version").split()[-1] == __version__
    assert "tfs publish saved" in run(tfs, where=place)
    run(tfs, "publish", "saved", "--name", "m", where=place)
    (place / "serving.yaml").write_text(run(tfs, "init", where=place).replace("next: tfs up\n", "") + ECHO)
    run(tfs, "check", "m", where=place)
    run(tfs, "configure", where=place)
    assert "next:  tfs up" in run(tfs, where=place)
    said = run(environment.bin / "python", "-m", "pytest", "-q", "--tfs", "serving.yaml", where=place)
    return said.strip().splitlines()[-1]


def verify(version: str, python: Path, wheel: Path, oldest: bool) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="tfs packages ä ") as temporary:
        environment = Environment(python, Path(temporary) / "venv")
        environment.install(str(wheel))
        size = environment.megabytes()
        yield f"{size:.0f} MB"
        if size > MOST_MEGABYTES:
            sys.exit(f"packages: expected at most {MOST_MEGABYTES} MB on Python {version}, got {size:.0f}: make sizes "
                     "says what weighs what; move what the base doesn't need to an extra")
        for pytest in ("pytest", *[f"pytest=={OLDEST_PYTEST}"] * oldest):
            environment.install(f"{wheel}[server]", pytest)
            (place := Path(temporary) / f"Straße {pytest}").mkdir()
            yield f"{pytest}: {use(environment, place)}"


def verify_sdist(python: Path, sdist: Path, wheel: Path) -> str:
    """It installs the very files of the wheel."""
    files = []
    for package in (sdist, wheel):
        with tempfile.TemporaryDirectory(prefix="tfs-packages-") as temporary:
            environment = Environment(python, Path(temporary))
            environment.install("--no-deps", str(package))
            files.append(environment.files())
    if files[0] != files[1]:
        sys.exit(f"packages: the sdist installs other files than the wheel: {sorted(files[0] ^ files[1])}")
    return f"{len(files[0])} files, those of the wheel"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make packages", description="Build, install and use wheel and sdist")
    parser.add_argument("--python", action="append", choices=PYTHONS, help="only these; default: all that are here")
    parser.add_argument("--require", action="append", default=[], choices=PYTHONS, help="an error where it isn't here")
    parser.add_argument("--dist", type=Path, default=ROOT / ".cache" / "packages")
    args = parser.parse_args()
    here = {v: p for v in args.python or PYTHONS if (p := interpreter(v))}
    if missing := set(args.require) - here.keys() or (set(PYTHONS) if not here else set()):
        sys.exit(f"packages: no Python {', '.join(sorted(missing))} is here: install it, or leave --require out")
    began = time.monotonic()
    wheel, sdist = build(args.dist.absolute())
    print(f"built {wheel.name} ({wheel.stat().st_size / 1e6:.2f} MB), {sdist.name}", flush=True)
    for number, (version, python) in enumerate(here.items()):
        for line in verify(version, python, wheel, oldest=number == 0):
            print(f"Python {version}: {line}", flush=True)
    print(f"Python {version}: sdist: {verify_sdist(python, sdist, wheel)}")
    for version in sorted(set(args.python or PYTHONS) - here.keys()):
        print(f"Python {version}: not tested, it isn't here")
    print(f"done in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

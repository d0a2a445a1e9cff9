"""Whatever lies in a directory: an end within seconds, in bounded memory, with one sentence."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import hostile as hostile_support

MEMORY = 3 << 30  # bytes of address space; the interpreter with its libraries takes half of one
SECONDS = 100  # a bound for slow machines; a group takes ten
GROUPS = 6  # of cases, each in a process of its own
CODES = {0, 2, 3, 4, 10}


def _limits() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 26, 1 << 26))


def told(*lines: list[str], cwd: Path) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of command lines, run one after the other in one process with limits."""
    script = ("import sys, io, contextlib, json\nfrom deploy.cli.outcome import run\nfound = []\n"
              "for line in json.loads(sys.argv[1]):\n    out, err = io.StringIO(), io.StringIO()\n"
              "    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):\n        code = run(line)\n"
              "    found.append((code, out.getvalue(), err.getvalue()))\nprint(json.dumps(found))\n")
    done = subprocess.run([sys.executable, "-c", script, json.dumps(lines)], cwd=cwd, timeout=SECONDS, check=True,
                          capture_output=True, text=True, preexec_fn=_limits,
                          env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
    return [tuple(one) for one in json.loads(done.stdout)]


def _lines(root: Path, good: Path, name: str) -> list[list[str]]:
    """Make a bad version of a model of its own; the commands that read it."""
    model = "bad-" + "".join(c if c.isalnum() and c.isascii() else "-" for c in name)
    bad = hostile_support.whole(root / model / "1")
    hostile_support.HOSTILE[name](bad)
    return [["inspect", str(bad)], ["check", str(bad)], ["diff", str(good), str(bad), "--no-answers"],
            ["goldens", "list", f"{model}/1"], ["goldens", "check", f"{model}/1"],
            ["goldens", "remove", f"{model}/1", "0"], ["repository", "verify", f"{model}/1"],
            ["publish", str(bad), "--name", "new"]]


@pytest.mark.parametrize("group", range(GROUPS))
def test_reading_ends_with_a_sentence(tmp_path: Path, group: int) -> None:
    good, root = hostile_support.whole(tmp_path / "good"), tmp_path / "models"
    hostile_support.whole(root / "good" / "1")
    lines = [line for name in list(hostile_support.HOSTILE)[group::GROUPS] for line in _lines(root, good, name)]
    lines += [["repository", "list"], ["repository", "clean"]]
    for line, (code, _, err) in zip(lines, told(*lines, cwd=tmp_path), strict=True):
        assert "internal error" not in err and "Traceback" not in err, (line, err)
        assert code in CODES, (line, code, err)
        assert code in {0, 10} or err.splitlines()[-1].startswith("tfs: "), (line, err)
        assert code == 0 or line[0] != "repository" or line[1] == "verify", "one bad version doesn't hide the others"
    assert not list(root.glob("new/.stage*"))

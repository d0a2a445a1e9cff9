"""Whatever lies in a directory: an end within seconds, in bounded memory, with one sentence."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests import hostile_support

MEMORY = 3 << 30  # bytes of address space; the interpreter with its libraries takes half of one
SECONDS = 60  # a bound for slow machines; each takes one or two
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
    import json

    done = subprocess.run([sys.executable, "-c", script, json.dumps(lines)], cwd=cwd, timeout=SECONDS, check=True,
                          capture_output=True, text=True, preexec_fn=_limits,
                          env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
    return [tuple(one) for one in json.loads(done.stdout)]


@pytest.mark.parametrize("name", hostile_support.HOSTILE)
def test_reading_ends_with_a_sentence(tmp_path: Path, name: str) -> None:
    good, root = hostile_support.whole(tmp_path / "good"), tmp_path / "models"
    hostile_support.whole(root / "good" / "1")
    bad = hostile_support.whole(root / "bad" / "1")
    hostile_support.HOSTILE[name](bad)
    lines = [["inspect", str(bad)], ["inspect", str(bad), "--markdown"], ["check", str(bad)],
             ["diff", str(good), str(bad), "--no-answers"], ["diff", str(bad), str(good), "--no-answers"],
             ["goldens", "list", "bad/1"], ["goldens", "check", "bad/1"], ["goldens", "remove", "bad/1", "0"],
             ["repository", "list"], ["repository", "verify", "bad/1"],
             ["publish", str(bad), "--name", "new"], ["repository", "clean"]]
    for line, (code, _, err) in zip(lines, told(*lines, cwd=tmp_path), strict=True):
        assert "internal error" not in err and "Traceback" not in err, (line, err)
        assert code in CODES, (line, code, err)
        assert code == 0 or err.splitlines()[-1].startswith("tfs: ") or code == 10, (line, err)
        if line[:2] == ["repository", "list"]:
            assert code == 0, "one damaged version doesn't hide the others"
    left = [path for path in (root / "new").glob("**/*") if ".stage" in path.name] if (root / "new").exists() else []
    assert not left

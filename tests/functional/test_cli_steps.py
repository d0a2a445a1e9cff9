"""How a command says on stderr how far it is: live on a terminal, a line for each step elsewhere, nothing for JSON."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from deploy.cli.options import steps
from deploy.export import targets
from deploy.waiting import Deadline, poll


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """In place of stderr; no fixture, since pytest puts its own there when the test begins."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    return stream


def test_a_step_is_on_the_terminal_before_the_next_thing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = terminal(monkeypatch)
    with steps("exporting m") as progress:
        assert "exporting m" in seen.getvalue()
        progress("tracing")
        assert "exporting m: tracing" in seen.getvalue()


def test_the_bytes_of_a_big_copy_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = terminal(monkeypatch)
    with steps("exporting m") as progress:
        progress("publishing")
        progress.copied(1_000_000, 2_000_000)
        assert "MB" not in seen.getvalue()
        progress.copied(250_000_000, 1_070_000_000)
        assert poll(lambda: "1,070 MB" in seen.getvalue() or None, Deadline(10))
        assert "exporting m: publishing, 250 of 1,070 MB" in seen.getvalue()


def test_lines_without_bytes_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with steps("exporting m") as progress:
        progress("publishing")
        progress.copied(250_000_000, 1_070_000_000)
    assert capsys.readouterr().err == "exporting m: publishing\n"
    with steps("exporting m", quiet=True) as progress:
        progress("publishing")
        progress.copied(250_000_000, 1_070_000_000)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("target", "wanted"), [
    ("nowhere.py:build", "loading nowhere.py:build; importing TensorFlow takes a few seconds"),
    ("saved", "loading saved")])
def test_what_takes_long_is_told_before(target: str, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                        ) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    assert targets.loading(target) == wanted

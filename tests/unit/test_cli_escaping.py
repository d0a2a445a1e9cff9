"""Text of others: what reaches the terminal, a Markdown page, and a shell."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import click
import pytest

from deploy.cli import escaping
from deploy.cli.console import SafeConsole
from deploy.cli.outcome import run
from tests.support import savedmodel as support

EVIL = "a\x1b]0;pwned\x07\x1b[2J\x9b31m\u202egnp.exe\u200b\r[red]x[/] <script>alert(1)</script> `|[y](http://z)"
STEERING = ("\x1b", "\x07", "\x9b", "\u202e", "\u200b", "\r")


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    graph = support.graph("Placeholder", EVIL)
    signature = graph.signature_def[EVIL]
    signature.CopyFrom(graph.signature_def["serving_default"])
    signature.inputs[EVIL + "\nrm -rf x"].CopyFrom(signature.inputs["x"])
    graph.signature_def["a\nrm -rf ~"].CopyFrom(signature)
    graph.asset_file_def.add(filename=EVIL.replace("/", "-"))
    directory = support.save(tmp_path / "m", graph)
    (directory / "assets").mkdir(exist_ok=True)
    (directory / "assets" / EVIL.replace("/", "-")).write_bytes(b"")
    return directory


@pytest.mark.parametrize("words", [
    ("inspect",), ("inspect", "--calls"), ("inspect", "--markdown"), ("inspect", "--json"), ("check",),
    ("check", "--json"), ("check", "--format", "sarif"), ("diff", "."), ("diff", ".", "--json"),
    ("publish", "--name", "x")])
def test_no_verb_lets_a_model_steer_the_terminal(evil: Path, capfd: pytest.CaptureFixture[str], words: tuple[str, ...],
                                                 tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    good = support.save(tmp_path / "good", support.graph())
    verb, *rest = [str(good) if word == "." else word for word in words]
    run([verb, *rest[:verb == "diff"], str(evil), *rest[verb == "diff":]])
    said = capfd.readouterr()
    assert "alert(1)" in said.out + said.err, said
    for text in (said.out, said.err):
        assert not [character for character in STEERING if character in text], text
        assert "internal error" not in text
        assert not any(line.strip().startswith("rm -rf") for line in text.splitlines()), text
    if "--markdown" in words:
        assert "<script>" not in said.out.replace("```", "").split("Method")[0]
        assert "[y](" not in said.out.split("Method")[0].replace("\\[", "")


def test_on_a_terminal_the_styles_stay() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    console = SafeConsole(escaping.Escaping(stream), 80)  # type: ignore[arg-type]
    from rich.text import Text

    console._color_system = console._color_system or None
    console.print(Text(EVIL, style="bold red"))
    text = stream.getvalue()
    assert "pwned" in text
    assert "\x1b]0" not in text
    assert "\x1b[2J" not in text


@pytest.mark.parametrize(("encoding", "seen"), [("utf-8", "é \\x1b \\udcff"), ("ascii", "\\xe9 \\x1b \\udcff")])
def test_streams_escape_what_they_can_not_say(encoding: str, seen: str) -> None:
    raw = io.BytesIO()
    stream = escaping.Escaping(io.TextIOWrapper(raw, encoding))
    stream.write("é \x1b \udcff")
    stream.flush()
    assert raw.getvalue().decode(encoding) == seen


LONG = "a" * 300


@pytest.mark.parametrize("words", [
    ("check", LONG), ("check", "./" + LONG), ("inspect", LONG), ("diff", LONG, LONG), ("goldens", "list", LONG),
    ("goldens", "check", "./" + LONG), ("publish", LONG, "--name", "x"), ("publish", "m", "--name", "x", "-r", LONG),
    ("repository", "list", "-r", LONG), ("repository", "verify", "-r", LONG), ("repository", "clean", "-r", LONG),
    ("check", "file/below/x"), ("inspect", "file/below/x"), ("publish", "file/below", "--name", "x"),
    ("repository", "list", "-r", "file/below"), ("check", "loop/x/y"), ("inspect", "./loop"), ("check", ""),
    ("inspect", ""), ("check", "~nobody-of-that-name/x"), ("inspect", "/dev/null"), ("check", "/dev/zero"),
    ("inspect", "./\udcff"), ("check", "./\udcff"), ("publish", "loop", "--name", "x"), ("check", "./pipe"),
    ("inspect", "./pipe"), ("diff", "./pipe", "./pipe"), ("publish", "./pipe", "--name", "x"), ("check", "pipe.keras"),
    ("inspect", "pipe.tflite"), ("check", "pipe.tflite"),
])
def test_paths_that_can_not_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                         capfd: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("pipe", "pipe.keras", "pipe.tflite"):
        os.mkfifo(tmp_path / name)
    code, said = run(words), capfd.readouterr()
    assert code in (2, 3, 4), said
    assert "internal error" not in said.err
    assert said.err.splitlines()[-1].startswith("tfs: "), said
    assert len(said.err.encode()) < 2500


def test_what_the_system_refuses_is_a_sentence() -> None:
    from deploy.cli.untranslated import as_deploy_error

    assert str(as_deploy_error(OSError(28, "No space left on device", "/x"))).startswith("can't use /x: No space left")
    assert "nested too deeply" in str(as_deploy_error(RecursionError()))
    assert "more memory" in str(as_deploy_error(MemoryError()))
    assert sys.stdout is not None


def test_a_locale_of_ascii_lets_nothing_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """click takes the stream below for one that is set up wrongly, and would write into that."""
    below = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="surrogateescape")
    monkeypatch.setattr(sys, "stdout", below)
    with escaping.escaped_streams():
        click.echo("\u202ea\u200bü, \udcc3\udc9cber")
    below.flush()
    assert below.buffer.getvalue() == b"\\u202ea\\u200b\\xfc, \\udcc3\\udc9cber\n"  # type: ignore[attr-defined]

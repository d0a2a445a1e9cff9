"""Files of ~/.ssh that can't be used: one sentence that names the file."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("paramiko")
from deploy.net import ssh


@pytest.mark.parametrize(("name", "text", "says"), [
    ("config", "Nonsense\n", r"\.ssh/config can't be used: Unparsable line"),
    ("known_hosts", "localhost ssh-rsa !!!notbase64\n", r"\.ssh/known_hosts can't be used: localhost ssh-rsa"),
    ("other", "", r"127\.0\.0\.1 port 99999 can't be reached")])
def test_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, says: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / name).write_text(text)
    with pytest.raises(ssh.SshRefused, match=says):
        ssh.connect("u@127.0.0.1:99999", "ssh://u@127.0.0.1:99999", 2)

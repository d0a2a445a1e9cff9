"""Build contexts: what goes to the engine, without an engine."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from deploy.backends import images
from deploy.errors import ServerError

HERE = Path(__file__).parents[2]


def unpack(stream: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        assert all(m.uid == m.gid == m.mtime == 0 and m.mode == 0o644 for m in tar)
        return {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]


def test_a_context_is_a_deterministic_tar_with_the_dockerfile_last(tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables/data").write_bytes(b"x" * 3000)
    (tmp_path / "saved_model.pb").write_bytes(b"graph")
    (tmp_path / "saved_model.pb").chmod(0o600)
    files = {**images.files_below(tmp_path, "models/m/1"), "config/models.config": b"text"}
    first = b"".join(images.context(files, lambda d: f"FROM {d['models/m/1/saved_model.pb']}"))
    second = b"".join(images.context(files, lambda d: f"FROM {d['models/m/1/saved_model.pb']}"))
    assert first == second
    made = unpack(first)
    model = ["models/m/1/saved_model.pb", "models/m/1/variables/data"]
    assert list(made) == [*model, "config/models.config", "Dockerfile"]
    assert made["Dockerfile"] == b"FROM " + hashlib.sha256(b"graph").hexdigest().encode()
    assert made["models/m/1/variables/data"] == b"x" * 3000


def test_a_file_that_shrinks_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"x" * 100)
    stream = images.context({"big": big}, lambda _: "")
    next(stream)
    big.write_bytes(b"x")
    with pytest.raises(ServerError, match="changed while it was read"):
        b"".join(stream)


def test_a_digest_of_a_directory_depends_on_names_and_contents_only() -> None:
    one = images.tree_digest({"models/m/1/a": "1", "models/m/1/b": "2", "models/m/11/a": "3"}, "models/m/1")
    assert one == images.tree_digest({"elsewhere/b": "2", "elsewhere/a": "1"}, "elsewhere")
    assert one != images.tree_digest({"m/a": "1", "m/c": "2"}, "m")


def test_labels_and_flags_end_the_dockerfile() -> None:
    made = images.serving_dockerfile(["--port=8500"], {"b": '{"m/1": "sha256:0"}', "a": "1"})
    assert made.endswith('CMD ["--port=8500"]\nLABEL "a"="1"\nLABEL "b"="{\\"m/1\\": \\"sha256:0\\"}"\n')


def test_each_version_is_a_layer_and_configs_come_after_all() -> None:
    lines = images.serving_dockerfile([], {}, ["a b/9", "a b/10"]).splitlines()
    copies = [line for line in lines if line.startswith("COPY")]
    assert copies == ['COPY ["models/a b/9", "/models/a b/9"]', 'COPY ["models/a b/10", "/models/a b/10"]',
                      "COPY config /etc/tfs"]


def test_the_dockerfile_for_people_is_the_one_that_is_used() -> None:
    used = HERE / "deploy/backends/serving.Dockerfile"
    assert (HERE / "docker/serving.Dockerfile").samefile(used) and "#" not in images.dockerfile_lines()
    assert used.read_text().endswith(images.dockerfile_lines())


SERVER = """\
import signal, sys, time
def end(number, _):
    print("drained", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, end)
print(sys.argv[1:], flush=True)
time.sleep(60)
"""


def entry_point(server: str) -> list[str]:
    """The image's, with another program as the server, and without its flags."""
    line = next(line for line in images.dockerfile_lines().replace("\\\n", "").splitlines()
                if line.startswith("ENTRYPOINT "))
    shell, option, script, name = json.loads(line.removeprefix("ENTRYPOINT "))
    replaced = script.replace("/usr/bin/tensorflow_model_server", server)
    assert replaced != script
    return [shell, option, replaced, name]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_entry_point_hands_signals_and_flags_on_and_keeps_the_exit_code(tmp_path: Path, number: signal.Signals
                                                                            ) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    with subprocess.Popen([*entry_point(f"{sys.executable} {tmp_path}/server.py"), "--port=1", "--x=a b"],
                          stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None and shell.stdout.readline() == "['--port=1', '--x=a b']\n"
        shell.send_signal(number)
        assert shell.stdout.read() == "drained\n"
        assert shell.wait(10) == 7


def test_a_signal_that_comes_before_there_is_a_server_ends_it_all_the_same() -> None:
    shell, option, script, name = entry_point("/bin/sleep")
    early = script.replace("QUIT;", "QUIT; kill -TERM $$;", 1)
    assert early != script
    assert subprocess.run([shell, option, early, name, "60"], check=False, timeout=30).returncode == 143


def test_a_server_that_ends_by_itself_gives_its_exit_code() -> None:
    assert subprocess.run(entry_point("/bin/false"), check=False, timeout=10).returncode == 1

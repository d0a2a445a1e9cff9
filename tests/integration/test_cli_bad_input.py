"""The command line, given what it can't use: one sentence, the right exit code, and nothing half-done."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import psutil
import pytest

from deploy import testing
from deploy.backends.container_options import STATE_LABEL
from deploy.cli.outcome import run
from deploy.wire.model_pb2 import SavedModel
from tests.support.repository import listing, savedmodel
from tests.support.servers import FAKE, engine_or_skip, image_or_skip, taken_port, until

ROOT = Path(__file__).parents[2]
EMBEDDED = "server: {backend: embedded, grpc_port: 0, rest_port: 0, flags: {tfs_loader: echo}}"
MODEL = "models: [{name: m, versions: [1]}]"

Says = Callable[..., str]


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str]) -> Says:
    """Runs one command line, asserts its exit code, and gives its last line (or all that was said)."""

    def call(code: int, *argv: object, all_of_it: bool = False) -> str:
        capsys.readouterr()
        assert run([str(a) for a in argv]) == code, capsys.readouterr().err
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return said if all_of_it else said.rstrip("\n").rpartition("\n")[2]

    return call


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: `good` is a SavedModel, models/m/1 a version of it."""
    monkeypatch.chdir(tmp_path)
    savedmodel(tmp_path / "good")
    shutil.copytree("good", "models/m/1")
    return tmp_path


def spec(text: str, name: str = "serving.yaml") -> str:
    Path(name).write_text(text)
    return name


def processes(mark: object) -> list[str]:
    """What runs because of a test, told by what stands in its command line."""
    lines = [" ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])]
    return [line for line in lines if str(mark) in line]


# A SavedModel that isn't one

def _again(directory: Path) -> Path:
    shutil.rmtree(directory)
    return directory


BROKEN = [
    ("missing", shutil.rmtree, "doesn't exist"),
    ("empty", lambda d: _again(d).mkdir(), "empty"),
    ("truncated", lambda d: os.truncate(d / "saved_model.pb", 60), "saved_model.pb is truncated or no SavedModel"),
    ("no graph", lambda d: (d / "saved_model.pb").unlink(), "holds no saved_model.pb"),
    ("no variables", lambda d: savedmodel(_again(d), variable=True), "lacks variables/variables.index"),
]


@pytest.mark.parametrize(("breaks", "why"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_directories_that_are_no_savedmodel(here: Path, says: Says, breaks: Callable[[Path], object], why: str
                                            ) -> None:
    breaks(here / "good")
    said = says(4, "publish", "good", "--name", "new")
    assert said.startswith("tfs: ") and why in said and "tfs_deploy.wire" not in said
    assert listing(here / "models") in ([".tfs", "m"], ["m"])
    assert says(4, "inspect", "./good").startswith("tfs: ")


@pytest.mark.parametrize("what", ["", "nope", "m/7", "nope/1", "m@stable", "/nowhere/at/all"])
def test_versions_that_arent_there(here: Path, says: Says, what: str) -> None:
    assert says(2 if what == "" else 4, "inspect", what).startswith("tfs: ")


def test_a_model_that_isnt_there_has_no_list(here: Path, says: Says) -> None:
    assert "no version of 'nope'" in says(4, "repository", "list", "nope")
    assert "no version of 'nope'" in says(4, "repository", "verify", "nope")
    assert "nowhere doesn't exist" in says(4, "repository", "list", "--repository", "nowhere")


# Names and numbers

@pytest.mark.parametrize("name", ["a/b", "..", "../m", "a b", " ", "", ".hidden"])
@pytest.mark.parametrize("verb", ["publish", "export"])
def test_names_that_arent(here: Path, says: Says, verb: str, name: str) -> None:
    assert f"model name {name!r} is not valid" in says(2, verb, "good", "--name", name)
    assert listing(here / "models") == ["m"]


@pytest.mark.parametrize("number", ["0", "-1", "one", "01", "1.5", "9223372036854775808", ""])
@pytest.mark.parametrize("verb", ["publish", "export"])
def test_numbers_that_arent(here: Path, says: Says, verb: str, number: str) -> None:
    assert "is not valid; a version is a whole number from 1" in says(2, verb, "good", "--name", "m",
                                                                     f"--version={number}")
    assert listing(here / "models" / "m") == ["1"]


def test_a_number_that_is_taken(here: Path, says: Says) -> None:
    assert "m/1 exists" in says(4, "publish", "good", "--name", "m", "--version", "1")
    assert listing(here / "models" / "m") == ["1"]


def test_a_number_that_is_taken_is_told_before_the_model_is_built(here: Path, says: Says) -> None:
    Path("code.py").write_text("raise SystemExit('it was built')\n")
    assert "m/1 exists" in says(4, "export", "code.py:build", "--name", "m", "--version", "1")
    assert "models" not in listing(here / "models" / "m") and listing(here / "models" / "m") == ["1"]


def test_options_out_of_range(here: Path, says: Says) -> None:
    assert "tolerance '-1' is not valid" in says(2, "export", "good", "--tolerance", "-1")
    assert "0 is not in the range" in says(2, "logs", "--tail", "0")
    assert "'podman' is not one of" in says(2, "up", "--backend", "podman")
    assert "No such command" in says(2, "serve")


# What to serve

@pytest.mark.parametrize(("text", "why"), [
    ("models: [{name: m, versions: [1], lables: {}}]", "models/0/lables: unknown key; did you mean 'labels'?"),
    ("models: [{name: m, versions: one}]", "models/0/versions: 'one' can't stand here; wanted here: a version, a list"),
    ("models: [{name: m, versions: 1}, {name: m, versions: 1}]", "models/1/name: model 'm' stands here and at"),
    ("models: [{name: m, versions: [1], labels: {stable: 2}}]", "models/0/labels/stable: version 2 is not served"),
    ("models: [{name: a/b, versions: [1]}]", "models/0/name: model name 'a/b' is not valid"),
    ("models: [{name: m, versions: [0]}]", "models/0/versions/0: version 0 is not valid"),
    (MODEL + "\nserver: {rest_port: 8500}", "server/rest_port: gRPC and REST can't share port 8500"),
    (MODEL + "\nserver: {rest_port: web}", "server/rest_port: Expected int, got text"),
    ("models: [", "not valid YAML: line"),
    ("", "expected a mapping with `models`, got nothing"),
])
@pytest.mark.parametrize("verb", ["up", "configure", "smoke"])
def test_specs_that_say_nothing_sensible(here: Path, says: Says, verb: str, text: str, why: str) -> None:
    assert f"tfs: serving.yaml: {why}" in says(2, verb, "--spec", spec(text))
    assert listing(here) == ["good", "models", "serving.yaml"]


def test_specs_that_arent_there(here: Path, says: Says) -> None:
    for verb in ("up", "status", "logs", "smoke", "down", "configure"):
        assert "No such file or directory; name one with --spec" in says(2, verb)
    assert "can't read the config file nowhere: No such file" in says(2, "init", "--from-config", "nowhere")


def test_versions_that_the_repository_lacks(here: Path, says: Says) -> None:
    assert "model 'm': version 2 isn't in" in says(4, "up", "--spec", spec("models: [{name: m, versions: [2]}]"))
    assert "'n'" in says(4, "up", "--spec", spec("models: [{name: n, versions: latest}]"))


# Where to serve

def test_no_engine(here: Path, says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{here}/nothing")
    spec(MODEL)
    said = says(6, "up", "--backend", "container")
    assert f"no Docker engine answers at unix://{here}/nothing (from DOCKER_HOST)" in said and "start it" in said
    assert "no Docker engine answers" in says(6, "image", "build", "--tag", "x:1")


def test_no_program(here: Path, says: Says) -> None:
    spec(f"{MODEL}\nserver: {{backend: process, binary: ./tensorflow_model_serverr, grpc_port: 0, rest_port: 0}}")
    assert "tensorflow_model_serverr" in says(6, "up")


@pytest.mark.docker
def test_an_image_that_nobody_has(here: Path, says: Says) -> None:
    engine_or_skip()
    spec(MODEL)
    said = says(6, "up", "--backend", "container", "--image", "127.0.0.1:1/nobody/nothing:1")
    assert "image 127.0.0.1:1/nobody/nothing:1 isn't here and can't be pulled: its registry can't be reached" in said
    assert "dial tcp" not in said


@pytest.mark.docker
def test_why_it_is_the_embedded_server_is_told_in_a_clause(here: Path, says: Says, capsys: pytest.CaptureFixture[str]
                                                           ) -> None:
    engine_or_skip()
    spec(f"{MODEL}\n{EMBEDDED.replace('embedded', 'auto')}")
    assert run(["up", "--image", "127.0.0.1:1/nobody/nothing:1", "--dry-run", "--json"]) == 0
    assert run(["up", "--image", "127.0.0.1:1/nobody/nothing:1"]) == 0
    try:
        said = capsys.readouterr()
        assert "can't be pulled: its registry can't be reached, or refuses)" in said.out
        assert "dial tcp" not in said.out + said.err
    finally:
        assert run(["down"]) == 0


@pytest.mark.parametrize("kind", ["embedded", "process", pytest.param("container", marks=pytest.mark.docker)])
def test_a_taken_port(here: Path, says: Says, kind: str) -> None:
    image = image_or_skip(engine_or_skip()) if kind == "container" else "x"
    with taken_port() as port:
        spec(f"{MODEL}\nserver: {{backend: {kind}, rest_port: {port}, grpc_port: 0, image: '{image}', "
             f"binary: '{FAKE}', flags: {{tfs_loader: echo}}}}")
        assert f"port {port}" in says(6, "up")
    assert "wasn't running" in said_on_stdout(["down"])


def said_on_stdout(argv: list[str]) -> str:
    done = subprocess.run([sys.executable, "-m", "deploy", *argv], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    return done.stdout


def test_two_specs_on_one_port(here: Path, says: Says, capsys: pytest.CaptureFixture[str]) -> None:
    """The second one fails, and stopping it doesn't stop the first."""
    assert run(["up", "--json", "--spec", spec(f"{MODEL}\n{EMBEDDED}", "one.yaml")]) == 0
    endpoint = json.loads(capsys.readouterr().out)["endpoint"]
    try:
        port = endpoint["rest"].rpartition(":")[2]
        spec(f"{MODEL}\n{EMBEDDED.replace('rest_port: 0', f'rest_port: {port}')}", "two.yaml")
        assert f"port {port}" in says(6, "up", "--spec", "two.yaml")
        assert run(["down", "--spec", "two.yaml"]) == 0
        assert run(["status", "--spec", "one.yaml", "--json"]) == 0
        assert '"ready": true' in capsys.readouterr().out
    finally:
        assert run(["down", "--spec", "one.yaml"]) == 0


def test_a_server_that_dies_while_starting(here: Path, says: Says) -> None:
    program = here / "tensorflow_model_server"
    program.write_text("#!/bin/sh\necho a last word\nexit 3\n")
    program.chmod(0o755)
    spec(f"{MODEL}\nserver: {{backend: process, binary: {program}, grpc_port: 0, rest_port: 0}}")
    said = says(6, "up", all_of_it=True)
    assert "a last word" in said and said.count("a last word") == 1 and "3" in said.rstrip().rpartition("\n")[2]


def test_a_model_that_fails_to_load(here: Path, says: Says) -> None:
    """The engine refuses an op that nobody has."""
    version = here / "models" / "m" / "2"
    shutil.copytree("good", version)
    model = with_an_unknown_op((version / "saved_model.pb").read_bytes())
    (version / "saved_model.pb").write_bytes(model)
    spec(f"models: [{{name: m, versions: [2]}}]\n{EMBEDDED.replace('echo', 'engine')}")
    said = says(6, "up", all_of_it=True)
    assert "NobodysOp" in said.rstrip().rpartition("\n")[2]
    assert processes(here) == []


def with_an_unknown_op(data: bytes) -> bytes:
    model = SavedModel.FromString(data)
    model.meta_graphs[0].graph_def.node.add(name="bad", op="NobodysOp")
    made: bytes = model.SerializeToString()
    return made


# Proving

def test_smoke_without_a_server(here: Path, says: Says) -> None:
    spec(f"{MODEL}\n{EMBEDDED}")
    assert "serving isn't running; start it with `tfs up`" in says(6, "smoke")
    assert "there is no model 'n' in serving.yaml; it has m" in says(2, "smoke", "--model", "n")
    assert "expected http://host:port, got 'foo'" in says(2, "smoke", "--rest-url", "foo", "--model", "m")
    assert "name them with --model" in says(2, "smoke", "--rest-url", "http://127.0.0.1:1")
    assert "the server stopped answering" in says(9, "smoke", "--rest-url", "http://127.0.0.1:1", "--model", "m")


def test_a_failed_smoke_has_exit_code_9_as_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    with testing.serve({"m": {1: lambda inputs: {"y": inputs["x"] * np.float32("nan")}}}) as server:
        argv = ["smoke", "--grpc", server.endpoint.grpc_target, "--rest-url", server.endpoint.rest_url, "--model", "m"]
        assert run([*argv, "--json"]) == 9
        assert json.loads(capsys.readouterr().out)["ok"] is False
        assert run(argv) == 9


def test_why_nothing_could_be_asked_stands_in_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["smoke", "--rest-url", "http://127.0.0.1:1", "--model", "m", "--json"]) == 9
    first = json.loads(capsys.readouterr().out)["checks"][0]
    assert first["name"] == "status" and "Connection refused" in first["seen"]


class Leaving(BaseHTTPRequestHandler):
    """Says that m/1 is available, and never anything again."""

    def do_GET(self) -> None:
        body = b'{"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": {}}]}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.server.server_close()

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


def test_a_server_that_is_gone_in_the_middle_of_a_smoke_run(says: Says) -> None:
    server = HTTPServer(("127.0.0.1", 0), Leaving)
    port = server.server_address[1]
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    said = says(9, "smoke", "--rest-url", f"http://127.0.0.1:{port}", "--model", "m")
    thread.join()
    assert f"http://127.0.0.1:{port} isn't right: the server stopped answering" in said


# Ctrl-C, and a full disk

@pytest.fixture
def interrupted(here: Path) -> Iterator[Callable[..., str]]:
    """Starts a program, sends SIGINT to it as a terminal would once something is seen, gives its stderr."""
    left: list[subprocess.Popen[str]] = []

    def call(argv: list[str], seen: Callable[[], object], **environment: str) -> str:
        child = subprocess.Popen([sys.executable, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                 start_new_session=True, preexec_fn=_listen_to_ctrl_c,  # noqa: PLW1509 (no threads here)
                                 env={**os.environ, "PYTHONPATH": str(ROOT), **environment})
        left.append(child)
        until(lambda: child.poll() is not None or seen(), "it gets there", seconds=180)
        os.killpg(child.pid, signal.SIGINT)
        _, err = child.communicate(timeout=180)
        assert child.returncode == 130, err
        return err

    yield call
    for child in left:
        if child.poll() is None:
            child.kill()
    for container in containers():
        subprocess.run(["docker", "rm", "--force", container], check=True, capture_output=True)


def _listen_to_ctrl_c() -> None:
    """A shell without job control starts background jobs that ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def fake_program(directory: Path) -> Path:
    """A tensorflow_model_server that never serves anything."""
    program = directory / "bin" / "tensorflow_model_server"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@" --started_in={directory}\n')
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("kind", ["process", pytest.param("container", marks=pytest.mark.docker)])
def test_ctrl_c_during_up(here: Path, interrupted: Callable[..., str], kind: str) -> None:
    image = image_or_skip(engine_or_skip()) if kind == "container" else "x"
    spec(f"{MODEL}\nserver: {{backend: {kind}, binary: {fake_program(here)}, image: '{image}', grpc_port: 0, "
         "rest_port: 0}")
    record = here / ".tfs" / "serving"
    started = (lambda: list(record.glob("*.json"))) if kind == "process" else containers
    said = interrupted(["-m", "deploy", "up"], started)
    assert said.endswith("tfs: interrupted\n") and "Traceback" not in said
    assert processes(here) == [] and not containers() and not list(record.glob("*.json"))


def containers() -> list[str]:
    if not shutil.which("docker"):
        return []
    mark = f"label={STATE_LABEL}={Path.cwd()}/.tfs/serving"
    done = subprocess.run(["docker", "ps", "-aq", "--filter", mark], check=False, capture_output=True, text=True)
    return done.stdout.split()


@pytest.fixture
def demo(here: Path) -> Path:
    """The demo as it stands in a clone, with one model."""
    for name in ("demo.py", "ruler.py"):
        target = here / "docs" / "examples" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "docs" / "examples" / name, target)
    (here / "serving_configs").mkdir()
    (here / "serving_configs" / "demo.yaml").write_text(
        "repository: ../made\nmodels: [{name: ruler, versions: latest}]\nserver: {grpc_port: 0, rest_port: 0}\n")
    return here


@pytest.mark.tensorflow
@pytest.mark.parametrize("moment", ["exporting", "starting"])
def test_ctrl_c_during_the_demo(demo: Path, interrupted: Callable[..., str], moment: str) -> None:
    program = fake_program(demo)
    seen = {"exporting": lambda: list(demo.glob("made/ruler/.stage*")),
            "starting": lambda: processes(f"--started_in={demo}")}[moment]
    said = interrupted(["docs/examples/demo.py", "--backend", "process"], seen,
                       PATH=f"{program.parent}:{os.environ['PATH']}")
    assert said.endswith("demo: interrupted; nothing is left running\n") and "Traceback" not in said
    assert processes(demo) == [] and listing(demo / "serving_configs") == ["demo.yaml"]
    assert not list(demo.glob("made/ruler/.stage*"))


@pytest.mark.tensorflow
def test_a_demo_that_fails_leaves_nothing_either(demo: Path) -> None:
    done = subprocess.run([sys.executable, "docs/examples/demo.py", "--backend", "process"], capture_output=True,
                          text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 6
    assert "there is no program 'tensorflow_model_server'" in done.stderr.rstrip().rpartition("\n")[2]
    assert listing(demo / "serving_configs") == ["demo.yaml"]


@pytest.mark.parametrize("verb", ["publish", pytest.param("export", marks=pytest.mark.tensorflow)])
def test_a_full_disk(here: Path, small_disk: Path, says: Says, verb: str) -> None:
    savedmodel(here / "big", weights=8 << 20)
    assert "make room" in says(4, verb, "big", "--name", "new", "--repository", small_disk)
    assert listing(small_disk) == [".tfs"]


# What the machine reads

def test_errors_as_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for code, argv in ((2, ["up"]), (4, ["inspect", "nope"]), (2, ["nosuch"]), (2, ["up", "--nosuch"])):
        assert run([*argv, "--json"]) == code
        told = json.loads(capsys.readouterr().out)
        assert told["exit_code"] == code and told["message"]


def test_verbose_shows_where(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "nope", "--verbose"]) == 4
    said = capsys.readouterr().err
    assert said.startswith("Traceback") and said.rstrip().rpartition("\n")[2].startswith("tfs: ")


def test_completion_completes(here: Path) -> None:
    asked = {**os.environ, "PYTHONPATH": str(ROOT), "_TFS_COMPLETE": "bash_complete"}
    for words, at, expected in (("tfs sm", "1", "smoke"), ("tfs up --backend em", "3", "embedded")):
        done = subprocess.run([sys.executable, "-c", "from deploy.cli import main; main()"], capture_output=True,
                              text=True, check=False, env={**asked, "COMP_WORDS": words, "COMP_CWORD": at})
        assert done.stdout.split() == [f"plain,{expected}"], done.stderr


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(("surroundings", "code"), [
    ({"LC_ALL": "C", "NO_COLOR": "1", "COLUMNS": "40", "TERM": "dumb"}, 0),
    ({"HOME": "/proc/no-home"}, 0),
    (ASCII, 2),
])
def test_surroundings_of_all_kinds(here: Path, surroundings: dict[str, str], code: int) -> None:
    """Below a path with blanks and umlauts, without a terminal."""
    place = here / "Über den Fluß"
    shutil.copytree(here / "models", place / "models")
    (place / "serving.yaml").write_text(f"{MODEL}\n{EMBEDDED}\n")
    for verb in ("", "configure", "repository list", "status --json"):
        done = subprocess.run([sys.executable, "-m", "deploy", *verb.split()], cwd=place, capture_output=True,
                              env={**os.environ, "PYTHONPATH": str(ROOT), **surroundings}, stdin=subprocess.DEVNULL,
                              check=False)
        assert done.returncode in (0, code) and b"Traceback" not in done.stderr and b"internal error" not in done.stderr
        assert b"\x1b" not in done.stdout
        if done.returncode:
            assert b"set LC_ALL=C.UTF-8" in done.stderr


def test_a_locale_without_the_letters_of_a_tested_spec(here: Path) -> None:
    place = here / "Über den Fluß"
    shutil.copytree(here / "models", place / "models")
    (place / "serving.yaml").write_text(f"{MODEL}\n{EMBEDDED}\n")
    (place / "test_own.py").write_text("def test_a(tfs_server): pass\n")
    for args, code in ((("--tfs", "serving.yaml"), 2), (("test_own.py",), 1)):
        done = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:cov", *args],
                              env={**os.environ, "PYTHONPATH": str(ROOT), "TFS_RUNS_DIR": str(here / "runs"), **ASCII},
                              cwd=place, check=False, capture_output=True)
        assert done.returncode == code and b"set LC_ALL=C.UTF-8" in done.stdout, done.stdout
        assert b"Traceback" not in done.stdout and b"UnicodeEncodeError" not in done.stdout + done.stderr

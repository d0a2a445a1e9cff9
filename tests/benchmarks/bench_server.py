"""The embedded server under load, beside the real one and Python's usual servers, on the same requests.

theirs: TF Serving 2.20.0 (C++) as recorded once on a 2-core machine with the clients on the same cores, medians of 8 s;
it is not measured here. As it was then, ours is alone on the machine for that ratio. Measured here, in turns with ours:
the same models behind Flask and TensorFlow (gunicorn, one worker per core with 8 threads) and behind KServe's Python
server. Both are installed into .cache/bench.

Needs wrk and h2load (apt-get install wrk nghttp2-client). gRPC: 16 means 16 connections with one call at a time each.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import load
from tests.support.ports import free_ports

ROOT = Path(__file__).parents[2]
PEERS = Path(__file__).parent / "peers"
ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}

# (protocol, model, batch, concurrency) -> requests/s of TF Serving 2.20.0, recorded; goal as a ratio to that.
RECORDED = {("REST", "half_plus_two", 1, 1): 1946, ("REST", "half_plus_two", 1, 16): 8331,
            ("REST", "mnist", 1, 1): 1838, ("REST", "mnist", 1, 16): 6990,
            ("REST", "mnist", 32, 1): 581, ("REST", "mnist", 32, 16): 1219,
            ("gRPC", "half_plus_two", 1, 1): 2992, ("gRPC", "half_plus_two", 1, 16): 7625,
            ("gRPC", "mnist", 1, 1): 2645, ("gRPC", "mnist", 1, 16): 7373,
            ("gRPC", "mnist", 32, 1): 1771, ("gRPC", "mnist", 32, 16): 4500}
START_RECORDED, START_GOAL, RSS_RECORDED = 0.8, 1.5, 361.0  # seconds, seconds, MiB
METHOD = "/tensorflow.serving.PredictionService/Predict"
Row = dict[str, Any]
Case = tuple[str, str, int, int]


def goal(protocol: str, batch: int) -> float:
    return 1.0 if protocol == "REST" and batch == 32 else 0.5


def run(scale: float = 1.0) -> list[Row]:
    """A row per case with the ratio to the real server, and rows for start and memory.

    scale: 1.0 is three rounds of two seconds per case and server; at least one of one second.
    """
    load.require_tools()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as servers:
        root = Path(folder)
        models = build(root)
        started = start_times(models["mnist"], max(1, round(5 * scale)))
        memory = [resident_with_model(models["mnist"]), resident_of_import()]
        ours = servers.enter_context(embedded(models))
        for case in RECORDED:
            write_requests(root, case[1], case[2])
        rounds, seconds = max(1, round(3 * scale)), max(1, round(2 * scale))
        alone = measure(root, ours, {}, RECORDED, rounds, seconds)
        peers = {name: servers.enter_context(server) for name, server in peer_servers(models, root).items()}
        rest = [case for case in RECORDED if case[0] == "REST"]
        together = measure(root, ours, {k: v for k, v in peers.items() if v}, rest, rounds, seconds)
    return [*(case_row(case, alone[case]["ours"], together.get(case, {})) for case in RECORDED), start_row(started),
            memory_row(*memory)]


# -- rows


def case_row(case: Case, ours: load.Result, together: dict[str, load.Result]) -> Row:
    protocol, model, batch, concurrency = case
    recorded = RECORDED[case]
    peers = [f"{name} {peer.rate:.0f}/s ({together['ours'].rate / peer.rate:.1f}x)" for name, peer in together.items()
             if name != "ours"]
    note = f"p50 {ours.p50 * 1e3:.2f} p99 {ours.p99 * 1e3:.2f} ms; goal {goal(protocol, batch):.1f}x"
    return {"name": f"{protocol} {model}, batch {batch}, c{concurrency}", "ours_s": 1 / ours.rate,
            "theirs_s": 1 / recorded, "ratio": ours.rate / recorded, "ours": f"{ours.rate:.0f}/s",
            "theirs": f"{recorded}/s", "note": "; ".join([note, *peers]), "goal": goal(protocol, batch),
            "measured": {name: vars(result) for name, result in {**together, "ours": ours}.items()}}


def start_row(seconds: float) -> Row:
    return {"name": "start to AVAILABLE, mnist", "ours_s": seconds, "theirs_s": START_RECORDED,
            "ratio": START_RECORDED / seconds, "note": f"new process; goal: below {START_GOAL} s"}


def memory_row(ours: float, tensorflow: float) -> Row:
    return {"name": "RSS, mnist loaded and asked", "ours_s": ours, "theirs_s": RSS_RECORDED,
            "ratio": RSS_RECORDED / ours, "ours": f"{ours:.0f} MiB", "theirs": f"{RSS_RECORDED:.0f} MiB",
            "note": f"`import tensorflow` alone: {tensorflow:.0f} MiB"}


# -- models and requests


def build(root: Path) -> dict[str, Path]:
    """Name -> base path."""
    subprocess.run([sys.executable, "tests/models.py", str(root / "built")], check=True, capture_output=True, cwd=ROOT,
                   env=ENVIRONMENT)
    bases = {}
    for name in ("half_plus_two", "mnist"):
        bases[name] = root / "models" / name
        bases[name].mkdir(parents=True)
        (root / "built" / name).rename(bases[name] / "1")
    return bases


def batch_of(model: str, size: int) -> tuple[str, np.ndarray[Any, Any]]:
    numbers = np.random.default_rng(0).random((size, 784)).round(4).astype(np.float32)
    return ("pixels", numbers) if model == "mnist" else ("x", np.ones(size, np.float32))


def write_requests(root: Path, model: str, size: int) -> None:
    from deploy.wire import predict_codec
    from deploy.wire import serving_pb2 as pb

    name, values = batch_of(model, size)
    body = json.dumps({"instances": np.round(values.astype(float), 4).tolist()})
    (root / f"{model}-{size}.json").write_text(body)
    script = f'wrk.method="POST"\nwrk.headers["Content-Type"]="application/json"\nwrk.body=[=[{body}]=]\n'
    (root / f"{model}-{size}.lua").write_text(script)
    message = predict_codec.write_predict_request(pb.ModelSpec(name=model), {name: values})
    (root / f"{model}-{size}.grpc").write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)


# -- servers


@contextmanager
def process(argv: list[str], ready: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server that runs meanwhile, once the URL `ready` answers."""
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(argv, cwd=ROOT, env={**ENVIRONMENT, **environment}, stdout=log, stderr=log)
        try:
            until = time.monotonic() + 90
            while not answers(ready):
                if server.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    raise RuntimeError(f"{argv} didn't start:\n{log.read().decode(errors='replace')[-2000:]}")
                time.sleep(0.01)
            yield server
        finally:
            server.terminate()
            server.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def our_command(models: dict[str, Path], grpc: int, rest: int, root: Path) -> list[str]:
    config = root / f"models-{grpc}.config"
    listed = "\n".join(f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" }}'
                       for name, base in models.items())
    config.write_text(f"model_config_list {{ {listed} }}")
    return [sys.executable, "-m", "deploy.modelserver", f"--port={grpc}", f"--rest_api_port={rest}",
            f"--model_config_file={config}"]


@contextmanager
def embedded(models: dict[str, Path]) -> Iterator[dict[str, Any]]:
    grpc, rest = free_ports(2)
    argv = our_command(models, grpc, rest, next(iter(models.values())).parents[1])
    with process(argv, f"http://127.0.0.1:{rest}/v1/models/{next(iter(models))}") as server:
        yield {"REST": f"http://127.0.0.1:{rest}", "gRPC": f"http://127.0.0.1:{grpc}", "pid": server.pid}


def peer_servers(models: dict[str, Path], root: Path) -> dict[str, Any]:
    """Name -> context manager of a base URL; None if it can't be had here."""
    given = [f"{name}={base / '1'}" for name, base in models.items()]
    (port, other) = free_ports(2)
    workers = len(os.sched_getaffinity(0))

    def flask(python: Path) -> tuple[list[str], dict[str, str]]:
        return [str(python), "-m", "gunicorn", "--chdir", str(PEERS), "--bind", f"127.0.0.1:{port}", "--workers",
                str(workers), "--threads", "8", "--keep-alive", "60", "flask_app:app"], {"MODELS": ",".join(given)}

    def kserve(python: Path) -> tuple[list[str], dict[str, str]]:
        return [str(python), str(PEERS / "kserve_app.py"), str(other), *given], {"HOME": str(root)}

    return {"Flask": peer("flask", ["flask", "gunicorn"], flask, port),
            "KServe": peer("kserve", ["kserve"], kserve, other)}


@contextmanager
def peer(name: str, packages: list[str], command: Callable[[Path], tuple[list[str], dict[str, str]]],
         port: int) -> Iterator[str | None]:
    try:
        argv, environment = command(environment_with(name, packages))
    except subprocess.CalledProcessError as error:
        print(f"{name} can't be installed here: {error}", file=sys.stderr)
        yield None
        return
    ready = f"http://127.0.0.1:{port}/v1/models/mnist"
    with process(argv, ready, **environment):
        yield f"http://127.0.0.1:{port}"


def environment_with(name: str, packages: list[str]) -> Path:
    """Python of a virtual environment with these packages, and with this project's TensorFlow."""
    venv = ROOT / ".cache" / "bench" / name
    python, done = venv / "bin" / "python", venv / ".done"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        own = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], check=True,
                             capture_output=True, text=True).stdout.strip()
        (Path(own) / "project.pth").write_text(str(Path(np.__file__).parents[1]))
        subprocess.run([python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *packages], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=600)
        done.touch()
    return python


# -- measuring


def measure(root: Path, ours: dict[str, Any], peers: dict[str, str], cases: Iterable[Case], rounds: int,
            seconds: int) -> dict[Case, dict[str, load.Result]]:
    """Medians for each case and server; servers take turns."""
    check(root, ours, peers)
    found: dict[Case, dict[str, list[load.Result]]] = {case: {} for case in cases}
    for _ in range(rounds):
        for case, results in found.items():
            protocol, model, batch, concurrency = case
            file = root / f"{model}-{batch}"
            if protocol == "gRPC":
                result = load.grpc(ours["gRPC"] + METHOD, file.with_suffix(".grpc"), concurrency, seconds)
                results.setdefault("ours", []).append(result)
                continue
            for name, base in {"ours": ours["REST"], **peers}.items():
                url = f"{base}/v1/models/{model}:predict"
                results.setdefault(name, []).append(load.rest(url, file.with_suffix(".lua"), concurrency, seconds))
    return {case: {name: load.median(results) for name, results in of.items()} for case, of in found.items()}


def check(root: Path, ours: dict[str, Any], peers: dict[str, str]) -> None:
    """All give the same answers, and have done some work before they are measured."""
    from deploy import client

    for model, size in {(case[1], case[2]) for case in RECORDED}:
        name, values = batch_of(model, size)
        with client.connect(ours["gRPC"].removeprefix("http://")) as rpc:
            (expected,) = rpc.predict(model, {name: values}).values()
        for base in (ours["REST"], *peers.values()):
            for _ in range(20):
                request = urllib.request.Request(f"{base}/v1/models/{model}:predict",
                                                 (root / f"{model}-{size}.json").read_bytes(),
                                                 {"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=30) as reply:
                    answer = json.load(reply)["predictions"]
            np.testing.assert_allclose(np.array(answer), expected, rtol=1e-4, atol=1e-6)


def start_times(base: Path, rounds: int) -> float:
    """Seconds from the start of the process to AVAILABLE."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        with embedded({"mnist": base}):
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def resident_with_model(base: Path) -> float:
    """MiB of our server with one model, after some requests."""
    with embedded({"mnist": base}) as server:
        body = json.dumps({"instances": batch_of("mnist", 32)[1].tolist()}).encode()
        for _ in range(50):
            with urllib.request.urlopen(f"{server['REST']}/v1/models/mnist:predict", body, timeout=30) as reply:
                reply.read()
        return resident(server["pid"])


def resident(pid: int) -> float:
    return mebibytes(Path(f"/proc/{pid}/status").read_text())


def mebibytes(status: str) -> float:
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def resident_of_import() -> float:
    code = "import tensorflow; print(open('/proc/self/status').read())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=ENVIRONMENT)
    return mebibytes(done.stdout)

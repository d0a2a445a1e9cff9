"""The soak test: a server under load while versions are swapped and configurations reloaded."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from deploy.types import VersionState
from deploy.waiting import Deadline, poll
from deploy.wire import config_pb2, methods
from deploy.wire import serving_pb2 as pb
from tests.soak.load import Load, Tally
from tests.support.modelserver import ROOT, Process, server

MIB = 1 << 20
_SETTLE = 3.0  # seconds before memory is taken as what stays


@dataclass
class Result:
    """memory: (seconds, MiB) over time. start, end: MiB that stay, with one version loaded; size: of that, MiB."""

    size: float
    tally: Tally
    memory: list[tuple[float, float]] = field(default_factory=list)
    swaps: list[float] = field(default_factory=list)
    reloads: int = 0
    start: float = 0.0
    end: float = 0.0
    seconds: float = 0.0
    threads: tuple[int, int] = (0, 0)
    files: tuple[int, int] = (0, 0)

    @property
    def peak(self) -> float:
        return max(value for _, value in self.memory)

    @property
    def problems(self) -> list[str]:
        """What shouldn't be."""
        found = list(self.tally.failed[:20])
        if self.end - self.start > self.size:
            found.append(f"grew from {self.start:.0f} to {self.end:.0f} MiB, more than a model of {self.size:.0f} MiB")
        for name, (before, after), more in (("threads", self.threads, 2), ("open files", self.files, 4)):
            if after > before + more:
                found.append(f"{name}: {before} before, {after} after")
        return found

    def __str__(self) -> str:
        times = sorted(self.tally.seconds)
        rate, late = len(times) / self.seconds, times[int(len(times) * 0.99)] * 1000
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.tally.asked.items()))
        half = times[len(times) // 2] * 1000
        return (f"{self.seconds:.0f} s, {len(times)} requests ({rate:.0f}/s, p50 {half:.1f} ms, p99 {late:.1f} ms), "
                f"{len(self.tally.failed)} failed\n{kinds}\n"
                f"{len(self.swaps)} version swaps of a model of {self.size:.0f} MiB, {self.reloads} config reloads\n"
                f"RSS: start {self.start:.0f} MiB, peak {self.peak:.0f} MiB, end {self.end:.0f} MiB\n"
                f"threads {self.threads[0]} -> {self.threads[1]}, open files {self.files[0]} -> {self.files[1]}")


def build(out: Path, megabytes: int) -> Path:
    """The two models, built once per size. Needs TensorFlow's Python."""
    if not out.exists():
        stage = out.with_name(f".{out.name}-{os.getpid()}")
        subprocess.run([sys.executable, "-m", "tests.soak.models", str(stage), str(megabytes)], cwd=ROOT, check=True,
                       stderr=subprocess.DEVNULL)
        stage.rename(out)
    return out


def publish(source: Path, base: Path, version: int) -> None:
    """Linked beside, then renamed."""
    base.mkdir(exist_ok=True)
    stage = base / f".stage-{version}"
    shutil.copytree(source, stage, copy_function=os.link)
    stage.rename(base / str(version))


def configuration(where: Path, turn: int) -> config_pb2.ModelServerConfig:
    """Odd turns: the label moves, and there is one model more."""
    config = config_pb2.ModelServerConfig()
    config.model_config_list.config.add(name="swapped", base_path=str(where / "swapped"), model_platform="tensorflow")
    labelled = config.model_config_list.config.add(name="labelled", base_path=str(where / "labelled"),
                                                   model_platform="tensorflow")
    labelled.model_version_policy.specific.versions.extend([2, 3])
    if turn:
        labelled.version_labels["stable"] = 2 + turn % 2
    if turn % 2:
        config.model_config_list.config.add(name="extra", base_path=str(where / "labelled"),
                                            model_platform="tensorflow")
    return config


def soak(where: Path, models: Path, small: Path, *, seconds: float, swaps: int, reloads: int, rate: float) -> Result:
    """Run it.

    where: an empty directory for the server's files. models: what `build` made. small: a directory with two more
    models of the same contract, `half_plus_two` and `half_plus_three`.
    """
    for number, name in ((2, "half_plus_two"), (3, "half_plus_three")):
        publish(small / name, where / "labelled", number)
    publish(models / "2", where / "swapped", 2)
    (where / "models.config").write_text(str(configuration(where, 0)))
    with server(where, f"--model_config_file={where / 'models.config'}", "--tfs_drain_seconds=10") as running:
        reload(running, where, 2)
        size = sum(file.stat().st_size for file in (models / "2").rglob("*") if file.is_file()) / MIB
        with Load(running.port, running.rest_port, rate) as tally:
            result = Result(size, tally)
            _drive(running, where, models, result, seconds, swaps, reloads)
        running.process.terminate()
        if running.ended():
            tally.failed.append("the server did not end with 0")
    return result


def _drive(running: Process, where: Path, models: Path, result: Result, seconds: float, swaps: int,
           reloads: int) -> None:
    process, version = psutil.Process(running.process.pid), 2
    for _ in range(2):  # so that both versions' memory has been used once
        version = swap(running, where / "swapped", models, version)
    time.sleep(_SETTLE)
    result.start, before = process.memory_info().rss / MIB, (process.num_threads(), process.num_fds())
    began, ended = time.monotonic(), threading.Event()

    def watch() -> None:
        while not ended.wait(0.2):
            result.memory.append((time.monotonic() - began, process.memory_info().rss / MIB))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        events = sorted([(seconds * (n + 0.5) / swaps, "swap") for n in range(swaps)]
                        + [(seconds * (n + 0.9) / reloads, "reload") for n in range(reloads)])
        for due, what in events:
            time.sleep(max(0.0, due - (time.monotonic() - began)))
            if what == "swap":
                version = swap(running, where / "swapped", models, version)
                result.swaps.append(time.monotonic() - began)
            else:
                result.reloads += 1
                reload(running, where, 2 + result.reloads)
        time.sleep(max(_SETTLE, seconds - (time.monotonic() - began)))
    finally:
        ended.set()
        watcher.join()
    result.seconds, result.end = time.monotonic() - began, process.memory_info().rss / MIB
    result.threads, result.files = zip(before, (process.num_threads(), process.num_fds()), strict=True)


def swap(running: Process, base: Path, models: Path, version: int) -> int:
    """Publish the next version, wait until it alone is served, remove the one before. Returns the new one."""
    publish(models / str(2 + (version + 1) % 2), base, version + 1)
    request = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name="swapped"))

    def there() -> bool | None:
        reply = running.grpc(methods.GET_MODEL_STATUS, request, pb.GetModelStatusResponse)
        states = {s.version: s.state for s in reply.model_version_status}
        return (states.get(version + 1) == VersionState.AVAILABLE and states[version] == VersionState.END) or None

    assert poll(there, Deadline(60)), "the new version is not served"
    shutil.rmtree(base / str(version))
    return version + 1


def reload(running: Process, where: Path, turn: int) -> None:
    apply(running, configuration(where, turn))


def apply(running: Process, config: config_pb2.ModelServerConfig) -> None:
    request = pb.ReloadConfigRequest(config=config)
    reply = running.grpc(methods.HANDLE_RELOAD_CONFIG_REQUEST, request, pb.ReloadConfigResponse)
    assert not reply.status.error_code, reply


def cycles(where: Path, model: Path, small: Path, count: int) -> list[float]:
    """Load and unload `model` `count` times beside a small one; RSS in MiB before the first time and after each."""
    publish(small / "half_plus_two", where / "kept", 1)
    publish(model, where / "big", 1)
    kept, both = config_pb2.ModelServerConfig(), config_pb2.ModelServerConfig()
    for config, names in ((kept, ["kept"]), (both, ["kept", "big"])):
        for name in names:
            config.model_config_list.config.add(name=name, base_path=str(where / name), model_platform="tensorflow")
    (where / "models.config").write_text(str(kept))
    request = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name="big"))
    with server(where, f"--model_config_file={where / 'models.config'}") as running:
        process = psutil.Process(running.process.pid)

        def gone() -> bool | None:
            reply = running.grpc(methods.GET_MODEL_STATUS, request, pb.GetModelStatusResponse)
            return reply.model_version_status[0].state == VersionState.END or None

        memory = [process.memory_info().rss / MIB]
        for _ in range(count):
            apply(running, both)
            assert running.rest("/v1/models/big:predict", {"instances": [2.0]}) == (200, {"predictions": [3.0]})
            apply(running, kept)
            assert poll(gone, Deadline(30))
            memory.append(process.memory_info().rss / MIB)
    return memory

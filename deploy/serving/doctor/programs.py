"""Rules about the program itself: engine, image, exit code, ports."""

from __future__ import annotations

from collections.abc import Iterator

from deploy.serving.doctor.evidence import Cause, Evidence
from deploy.serving.doctor.load_findings import TLS, TLS_PHRASES
from deploy.serving.server_log import crash, last_words
from deploy.wire.status_text import shortened

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# Exit codes above 128 and negative ones are signals
_SIGNALS = {
    4: ("sigill", 90, "it crashed with SIGILL: its program uses instructions that this CPU doesn't have (AVX, say)",
        "use an image built for this CPU (or architecture), or backend: embedded"),
    6: ("sigabrt", 60, "it aborted (SIGABRT)", "see the last lines of its log"),
    9: ("killed", 88, "it was killed (SIGKILL): by the kernel for lack of memory, by docker kill, or by docker stop, "
        "which pid 1 ignores; its exit code doesn't tell which",
        "see dmesg: if it was for memory, raise server/resources/memory, serve fewer versions at once, or free memory; "
        "docker run --init makes a server obey docker stop"),
    11: ("sigsegv", 60, "it crashed (SIGSEGV)",
         "see the last lines of its log; a library of custom ops that was built for another TensorFlow does that"),
    15: ("terminated", 50, "somebody ended it (SIGTERM)", "start it again: tfs up, or docker start"),
}
_ENDINGS = {"Killed": 9, "Segmentation fault": 11, "Illegal instruction": 4}  # a shell's word -> signal
_NO_PROGRAM = ("program-missing", "is it a serving image? its program is /usr/bin/tensorflow_model_server; what stands "
               "after the image has to be flags")
_TAKEN = ("port-taken", "stop the other program, or publish another port: -p 8511:8501")
# What the engine says of a container that it couldn't start -> rule, fix
_NOT_STARTED = {
    "could not select device driver": ("no-gpu", "install the NVIDIA Container Toolkit and restart Docker, or leave "
                                       "--gpus (server/resources/gpus) out"),
    "nvidia-container-cli": ("no-gpu", "see whether nvidia-smi works on the engine's machine, or leave --gpus out"),
    "bind source path does not exist": ("engine-elsewhere", "create it where the engine sees it; if the engine is on "
                                        "another machine, put it there under the same path, or use tfs image build, "
                                        "or backend: embedded"),
    "not shared": ("engine-elsewhere", "share that directory in Docker Desktop's settings (Resources, File sharing)"),
    "not a directory": ("mount-mismatch", "a file is mounted onto a directory, or the other way round: does the source "
                        "exist?"),
    "executable file not found": _NO_PROGRAM,
    "no such file or directory": _NO_PROGRAM,
    "port is already allocated": _TAKEN,
    "address already in use": _TAKEN,
}


def never_started(e: Evidence) -> Iterator[Cause]:
    """A container that was created, and that the engine couldn't start, or wasn't asked to."""
    if e.state == "created" and not e.start_error:
        yield Cause("not-started", 60, "the container was created, and never started", f"docker start {e.name}")
    for message in [e.start_error] if e.start_error else [e.up_error] if e.exit_code is None else []:
        line = message.lower()
        rule, fix = next((v for k, v in _NOT_STARTED.items() if k in line), ("not-started", "correct what it names"))
        if e.start_error or rule in ("no-gpu", "engine-elsewhere", "mount-mismatch"):
            yield Cause(rule, 96, f"the engine couldn't start it: {shortened(message)}", fix)


def engine(e: Evidence) -> Iterator[Cause]:
    """No engine, no image, an image for other machines, no program."""
    if e.engine_error:
        yield Cause("engine-missing", 97, e.engine_error, e.engine_fix or "start Docker, or use backend: embedded")
    if e.program_error:
        yield Cause("program-missing", 96, e.program_error,
                    "pip install 'tfs-deploy[tensorflow]' for the embedded server, or set server/binary or image")
    if e.image_here is False and not e.running:
        yield Cause("image-missing", 60 if not e.up_error else 80, f"the image {e.image} isn't on this machine",
                    f"docker pull {e.image}; for private registries docker login first")
    machine = _ARCHITECTURES.get(e.machine, e.machine)
    other = bool(e.image_platform and machine and e.image_platform != machine)
    line = e.line("exec format error")
    if line or (other and not e.running):
        which = f" ({e.image_platform}, this machine is {machine})" if other else ""
        crashed = (e.exit_code or 0) in (132, 134, 139)  # as emulators do that lack an instruction
        yield Cause("architecture", 96 if line or crashed else 70, f"the image {e.image or 'or program'} is for "
                    f"another architecture{which}", "use an image of this architecture, or backend: embedded, which "
                    "runs on any", line)


def exits(e: Evidence) -> Iterator[Cause]:
    """How it ended."""
    if e.unstopped and not e.exit_code and not e.out_of_memory:  # else the code says more
        last = last_words(e.log)
        yield Cause("not-stopped", 50, "it ended without being stopped: killed, crashed, or with its machine",
                    "see what it said last (tfs logs), then start it again: tfs up", last)
    if e.running or (e.exit_code is None and not e.out_of_memory):
        return
    if e.out_of_memory:
        yield Cause("out-of-memory", 96, "the kernel killed it: it needed more memory than its container may use",
                    "raise server/resources/memory, or serve fewer versions at once", f"exit code {e.exit_code}")
        return
    yield from _ended(e, e.exit_code or 0)


def _ended(e: Evidence, code: int) -> Iterator[Cause]:
    number, last = -code if code < 0 else code - 128, last_words(e.log)
    if number in _SIGNALS:
        rule, weight, cause, fix = _SIGNALS[number]
        if number == 11 and (not e.argv or e.flags.values["enable_grpc_healthcheck_service"]):
            cause += "; tensorflow_model_server does so when its gRPC port is taken and the health service is on"
            fix = "see whether another server has its port"
        evidence = f"exit code {code}" + (f"; {last}" if last and number in (6, 11) else "")
        yield Cause(rule, weight, cause, fix, evidence)
    elif code in (126, 127):
        yield Cause("program-missing", 90, "the container has no program that could be run under that name",
                    "is it a serving image? its program is /usr/bin/tensorflow_model_server", f"exit code {code}")
    elif code:
        yield Cause("ended", 35, f"it ended with exit code {code}" + (f"; it said: {last}" if last else
                                                                       " without a word"),
                    f"see its whole log: {_log_of(e)}", last)
    elif not e.unstopped and not e.drained:
        yield Cause("ended", 35, "it ended by itself, with exit code 0, which tensorflow_model_server never does",
                    f"is {' '.join(e.argv[:4]) or 'its command'} the server? see {_log_of(e)}", last)


def _log_of(e: Evidence) -> str:
    if not e.ours:
        return "its log, where it runs"
    return f"docker logs {e.name}" if e.state else "tfs logs --tail 500"


def taken_ports(e: Evidence) -> Iterator[Cause]:
    """Ports that others have, or share."""
    for p in e.ports:
        if p.ours and len(p.owners) > 1:
            yield Cause("shared-port", 90, f"{len(p.owners)} servers share the {p.name} port {p.number} "
                        f"({', '.join(p.owners)}): connections go to either", "stop one of them; tfs down stops ours")
        elif p.owners and not p.ours:
            yield Cause("port-taken", 93, f"the {p.name} port {p.number} is taken by {', '.join(p.owners)}",
                        f"stop that program, or choose another port (server/{p.name.lower()}_port; 0 takes any)",
                        e.line("address already in use"))
        elif e.running and not p.ours:
            yield Cause("port-closed", 55, f"its {p.name} port {p.number} isn't open: ports open only when all models "
                        "are available",
                        f"if it still loads, wait; see what it waits for: {_log_of(e)}")
        if p.unpublished:
            yield Cause("port-unpublished", 60, f"the container publishes ports where nobody listens, and not its "
                        f"{p.name} port {p.number}: clients outside don't reach it",
                        f"publish it: -p {p.number}:{p.number}")
    line = e.line("address already in use") or e.line("failed to start http server") or \
        e.line("failed to buildandstart grpc server") or e.line("port is already allocated")
    shown = any(map(e.line, TLS_PHRASES))
    tls = (shown or "ssl_config_file" in e.given) and not e.line("address already in use")
    if tls and not shown and e.line("failed to buildandstart grpc server"):
        yield Cause(TLS[0], 88, TLS[1], TLS[2], e.line("failed to buildandstart grpc server"))
    if line and not tls and not any(p.owners for p in e.ports):
        yield Cause("port-taken", 88, "a port was taken when it started; without its REST port a server goes on, "
                    "without REST", "stop the other program, or choose another port", line)


def symptoms(e: Evidence) -> Iterator[Cause]:
    """What `tfs up` and `tfs status` say: the least that is known."""
    if e.up_error:
        yield Cause("start-failed", 45, f"the last start failed: {e.up_error}", e.up_hint or f"see {_log_of(e)}")
    for sentence in e.problems if not e.ours and not e.running else ():
        yield Cause("not-answering", 60, sentence, "check the address and the network; have it started where it runs")
    for sentence in e.problems if e.running else ():  # that it doesn't run isn't news
        yield Cause("not-served", 30, sentence, f"tfs status shows each version; see {_log_of(e)}")


def restarting(e: Evidence) -> Iterator[Cause]:
    """States between running and ended."""
    if e.state == "restarting":
        yield Cause("restarting", 34, "the engine starts it again and again, and it ends each time",
                    f"see why: docker logs {e.name}", last_words(e.log))
    if e.state == "paused":
        yield Cause("paused", 95, "the container is paused: it accepts connections and answers nothing",
                    f"docker unpause {e.name}")


def start_failed(e: Evidence) -> Iterator[Cause]:
    """The server's own sentence, where nobody knows an exit code: a log alone."""
    if e.exit_code is not None or e.running:
        return
    line = e.line("failed to start server. error")
    if line:
        yield Cause("ended", 35, f"it couldn't start: {last_words(e.log)}", "correct what it names", line)
    shown = "" if line else crash(e.log)
    if not shown:
        return
    number = next((n for word, n in _ENDINGS.items() if word in shown), 0)
    if number:
        rule, weight, cause, fix = _SIGNALS[number]
        yield Cause(rule, weight, cause, fix, shown)
    elif shown.startswith(("usage: ", "--", "Flags:")):
        yield Cause("usage-text", 60, "it printed its usage text and ended: a flag's value can't be read, or --help "
                    "was given", "look for =VALUE where a number, or exactly true or false, should be")
    else:
        yield Cause("crashed", 60, f"it ended by itself: {shown}", "correct what it names", shown)


def place(e: Evidence) -> Iterator[Cause]:
    """What the place itself where it runs says is wrong."""
    for fault in e.faults:
        yield Cause(fault.rule, fault.weight, fault.cause, fault.fix, fault.seen)


RULES = (engine, place, never_started, exits, restarting, start_failed, taken_ports, symptoms)

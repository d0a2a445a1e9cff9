"""Rules about the program itself: engine, image, exit code, ports."""

from __future__ import annotations

from collections.abc import Iterator

from deploy.diagnosis.evidence import Cause, Evidence

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# Exit codes above 128 and negative ones are signals
_SIGNALS = {
    4: ("sigill", 90, "it crashed with SIGILL: its program uses instructions that this CPU doesn't have",
        "use an image built for this CPU (or architecture), or backend: embedded"),
    6: ("sigabrt", 60, "it aborted (SIGABRT)", "see the last lines of its log"),
    9: ("killed", 88, "it was killed (SIGKILL), most likely for lack of memory",
        "raise server/resources/memory, serve fewer versions at once, or free memory on the machine"),
    11: ("sigsegv", 60, "it crashed (SIGSEGV); tensorflow_model_server does so when its gRPC port is taken and the "
         "health service is on", "see whether another server has its port"),
    15: ("terminated", 50, "somebody ended it (SIGTERM)", "start it again: tfs up"),
}


def engine(e: Evidence) -> Iterator[Cause]:
    """No engine, no image, an image for other machines, no program."""
    if e.engine_error and e.kind == "container":
        yield Cause("engine-missing", 97, e.engine_error, "start Docker, or use backend: embedded")
    if e.program_error:
        yield Cause("program-missing", 96, e.program_error,
                    "pip install 'tfs-deploy[tensorflow]' for the embedded server, or set server/binary or image")
    if e.image_here is False and not e.running:
        yield Cause("image-missing", 60 if not e.told else 80, f"the image {e.image} isn't on this machine",
                    f"docker pull {e.image}; for private registries docker login first")
    machine = _ARCHITECTURES.get(e.machine, e.machine)
    other = bool(e.image_platform and machine and e.image_platform != machine)
    line = e.line("exec format error")
    if line or (other and not e.running):
        seen = f" ({e.image_platform}, this machine is {machine})" if other else ""
        yield Cause("architecture", 96 if line else 70, f"the image {e.image or 'or program'} is for another "
                    f"architecture{seen}", "use an image of this architecture, or backend: embedded, which runs on any",
                    line)


def exits(e: Evidence) -> Iterator[Cause]:
    """How it ended."""
    if e.unstopped and not e.exit_code and not e.out_of_memory:  # else the code says more
        said = next((s.strip() for s in reversed(e.log) if s.strip()), "")
        yield Cause("not-stopped", 50, "it ended without being stopped: killed, crashed, or with its machine",
                    "see what it said last (tfs logs), then start it again: tfs up", said)
    if e.running or (e.exit_code is None and not e.out_of_memory):
        return
    if e.out_of_memory:
        yield Cause("out-of-memory", 96, "the kernel killed it: it needed more memory than its container may use",
                    "raise server/resources/memory, or serve fewer versions at once", f"exit code {e.exit_code}")
        return
    code = e.exit_code or 0
    number = -code if code < 0 else code - 128
    if number in _SIGNALS:
        rule, weight, cause, fix = _SIGNALS[number]
        yield Cause(rule, weight, cause, fix, f"exit code {code}")
    elif code in (126, 127):
        yield Cause("program-missing", 90, "the container has no program that could be run under that name",
                    "is it a serving image? its program is /usr/bin/tensorflow_model_server", f"exit code {code}")
    elif code:
        last = e.line("failed to start server") or next((s for s in reversed(e.log) if s.strip()), "")
        yield Cause("ended", 35, f"it ended with exit code {code}" + (f"; it said: {last.strip()}" if last else
                                                                       " without a word"),
                    "see its whole log: tfs logs --tail 500", last)


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
                        "are available", "see what it waits for")
    line = e.line("address already in use") or e.line("failed to start http server") or \
        e.line("failed to buildandstart grpc server") or e.line("port is already allocated")
    if line and not any(p.owners for p in e.ports):
        yield Cause("port-taken", 88, "a port was taken when it started; without its REST port a server goes on, "
                    "without REST", "stop the other program, or choose another port", line)


def told(e: Evidence) -> Iterator[Cause]:
    """What `tfs up` and `tfs status` say: the least that is known."""
    if e.told:
        yield Cause("told", 45, f"the last start failed: {e.told}", e.told_hint or "see the other findings")
    for sentence in e.problems if e.running else ():  # that it doesn't run isn't news
        yield Cause("not-served", 30, sentence, "see the other findings, or tfs status")


RULES = (engine, exits, taken_ports, told)

"""What a model server printed: TensorFlow's, the embedded one's, glog's and gRPC's lines, and what they mean.

INFO lines name failures that are none ("No warmup data file found"), and what was true earlier is often over: only
`complaints` say what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from deploy.wire.status_text import sentence, shortened

# What `docker compose logs` and `docker logs --timestamps` put in front
_OUTER = re.compile(r"^(?:[\w.-]+\s*\| )?(?:\d{4}-\d\d-\d\dT\S+Z )?")
_PREFIX = re.compile(r"^(?:\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[.,]?\d*: )?(?P<level>[IWEF])"
                     r"(?:\d{4} \d\d:\d\d:\d+\.\d+\s+\d+)? (?:(?P<source>\S+\.(?:cc|cu|h|py):\d+)\] )?")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_BEGINS = ("failed to start server", "unknown argument", "usage: ", "[evhttp", "[warn]", "terminate called",
           "traceback", "[libprotobuf", "killed", "aborted", "segmentation fault", "illegal instruction", "bus error",
           "/usr/bin/", "/bin/",
           "tensorflow_model_server: ")
# Of machines without a GPU, or with less than was hoped for: healthy servers print these as warnings and errors
_HARDWARE = re.compile(r"stream_executor|/cuda|/gpu|local_xla|local_tsl|computation_placer|cpu_allocator|numa|"
                       r"^(?:cuda|cudnn|gpu)_", re.I)
# Ops that fail say so for every bad request; of a load that failed for it, the load itself says it again
_REQUEST = re.compile(r"OP_REQUIRES failed(?!.*(?:Op type not registered|No OpKernel was registered))", re.S)
# A shell, the loader or env of a program that was ended, or that can't run
_CRASH = re.compile(r"^(?:\S+: line \d+:\s+\d+ )?(?:Killed|Segmentation fault|Aborted|Illegal instruction|"
                    r"Bus error)(?: |$)|error while loading shared libraries|command not found|"
                    r"' not found \(required by |^/usr/bin/env: |bad interpreter", re.M)
# Sentences that name no cause: the complaint before them does
_TAKEN = "Address already in use"
_SAID_BEFORE = ("Failed to BuildAndStart", "Invalid protobuf file")
_CHATTER = ("[warn] getaddrinfo", "[evhttp_server.cc", "WARNING: All log messages before absl")
_USAGE = ("unknown argument", "usage: ", "Flags:", "--")
_SERVABLE = r"\{name: (?P<name>\S+) version: (?P<version>-?\d+)\}"
_LOADED = re.compile(f"Successfully loaded servable version {_SERVABLE}")
_FAILED = re.compile(rf"(?:Loading servable: {_SERVABLE} failed|Servable: \{{name: (?P<name2>\S+) version: "
                     r"(?P<version2>-?\d+)\} load failure): (?P<why>.*)", re.S)
_NO_VERSION = re.compile(r"(?:No versions of servable (?P<name>\S+) found|"
                         r"for servable (?P<other>\S+)(?: with error|$))")
_STARTED = "Running gRPC ModelServer at"  # only when every configured model is available
_STAYS = re.compile(r"unknown argument|Failed to start HTTP|cannot be same as|address already in use", re.I)
_DUE = re.compile(r"\{name: (\S+) version: (-?\d+)\} due to error: (.*?)(?:\}, (?=\{\{name|\}\s*$)|$)", re.S)
_FAILED_START = "Failed to start server. Error:"
_NOT_AVAILABLE = "did not become available"


@dataclass(frozen=True, slots=True)
class Entry:
    """One message with its further lines. level: I, W, E or F; empty if the line doesn't say. source: file and line."""

    level: str
    source: str
    text: str

    @property
    def complains(self) -> bool:
        chatter = self.text.startswith((*_CHATTER, *_USAGE[1:])) or _HARDWARE.search(self.source)
        return self.level == "F" or (self.level != "I" and not chatter)


@dataclass(frozen=True, slots=True)
class LoadFailure:
    """A version that failed, and wasn't loaded since. given_up: it isn't tried again."""

    name: str
    version: int
    why: str
    given_up: bool
    line: str


def entries(lines: Iterable[str]) -> Iterator[Entry]:
    """The messages, oldest first. A line without a prefix belongs to the E, W or F before it if it is indented or
    begins as none of a server's own lines does."""
    pending: Entry | None = None
    for raw in lines:
        line = _OUTER.sub("", _ANSI.sub("", raw)).rstrip()
        prefix = _PREFIX.match(line)
        if prefix is None and pending is not None and _continues(line, pending):
            pending = Entry(pending.level, pending.source, f"{pending.text}\n{line}")
            continue
        if pending is not None:
            yield pending
        text = line[prefix.end():] if prefix else line
        pending = Entry(prefix["level"] if prefix else "", (prefix["source"] if prefix else "") or "", text.strip())
    if pending is not None:
        yield pending


def _continues(line: str, before: Entry) -> bool:
    if not line.strip() or before.text.startswith(_USAGE) or line.lstrip().startswith(_USAGE):
        return False
    if line.lower().startswith(_BEGINS):
        return False
    further = line[:1].isspace() or line.startswith("To enable ")
    return further or before.level in ("W", "E", "F") or before.text.startswith("Failed to start server")


def complaints(lines: Sequence[str]) -> list[Entry]:
    """What was said of failures, and isn't over.

    A server that has started since is past it, and so is a model that was loaded since.
    """
    failures = list[Entry]()
    for entry in entries(lines):
        if _STARTED in entry.text:
            failures = [e for e in failures if _STAYS.search(e.text)]
        elif (loaded := _LOADED.search(entry.text)) is not None:
            failures = [e for e in failures if not _settled(e, loaded["name"], int(loaded["version"]))]
        elif entry.complains and re.search("[A-Za-z]", entry.text) and not _REQUEST.search(entry.text):
            if failed_version(entry.text) is not None:  # its status says again what was said without a name
                failures = [e for e in failures if e.level == "F" or _STAYS.search(e.text) or _FAILED.search(e.text)
                            or _NO_VERSION.search(e.text)]
            failures.append(entry)
    return failures


def failed_version(text: str) -> tuple[str, int] | None:
    """The model and version that a message says failed to load; None if it says nothing of that."""
    match = _FAILED.search(text)
    return (match["name"] or match["name2"], int(match["version"] or match["version2"])) if match else None


def _settled(entry: Entry, name: str, version: int) -> bool:
    failed = failed_version(entry.text)
    if failed is not None:
        return failed[0] == name and failed[1] <= version
    absent = _NO_VERSION.search(entry.text)
    return absent is not None and (absent["name"] or absent["other"]) == name


def load_failures(lines: Sequence[str]) -> list[LoadFailure]:
    """Each version's last failure that isn't over."""
    everything = "\n".join(lines)
    failures = dict[tuple[str, int], LoadFailure]()
    for entry in complaints(lines):
        failed = _FAILED.search(entry.text)
        if failed is None:
            continue
        name, version = failed_version(entry.text) or ("", 0)
        exhausted = f"{{name: {name} version: {version}}} exhausted max_num_retries" in everything
        failures[name, version] = LoadFailure(name, version, sentence(failed["why"]), exhausted, entry.text)
    return list(failures.values())


def interrupted_warmup(lines: Sequence[str]) -> str:
    """The warm-up file that was begun and not finished before the last failure or the end of the log; "" if none."""
    begun = ""
    for entry in entries(lines):
        words = re.search(r"(Starting to read|Finished reading) warmup data for model at (\S+?)\.?(?: |$)", entry.text)
        if words is not None:
            begun = words[2] if words[1].startswith("Starting") else ""
        elif begun and _LOADED.search(entry.text):
            begun = ""
    return begun


def crash(lines: Sequence[str]) -> str:
    """What shows, without an exit code, that a program ended by itself: a failed check, an exception, its shell or
    loader, or its usage text, without a word of an unknown argument, at the end; empty if nothing does."""
    crashes = [e for e in complaints(lines)
               if e.level == "F" or e.text.startswith("terminate called") or (not e.level and _CRASH.search(e.text))]
    if crashes:
        return last_words(lines) if crashes[-1].text.lower().startswith("aborted") else shortened(crashes[-1].text)
    ends = [e.text for e in entries(lines) if e.text][-1:]
    usage = any(e.text.startswith("usage: ") for e in entries(lines)) and ends[0].startswith(_USAGE[1:])
    return ends[0][:80] if usage and not any("unknown argument" in line for line in lines) else ""


def last_words(lines: Sequence[str]) -> str:
    """The sentence that names why a server ended; empty if it said nothing."""
    messages = [e for e in entries(lines) if e.text]
    ended = next((e.text for e in reversed(messages) if e.text.startswith(_FAILED_START)), "")
    if ended:
        return _why_not_started(ended, lines)
    thrown = next((e.text for e in reversed(messages) if "what():" in e.text), "")
    if thrown:
        return shortened(f"uncaught exception: {thrown.rpartition('what():')[2].strip()}")
    fatal = next((e.text for e in reversed(messages) if e.level == "F"), "")
    failures = load_failures(lines)
    if fatal or failures:
        return sentence(fatal) if fatal else f"{failures[-1].name}/{failures[-1].version}: {failures[-1].why}"
    usage = any(e.text.startswith("usage: ") for e in messages)
    messages = [e for e in messages if not e.text.startswith(_USAGE[1:])]
    wrong = [e for e in messages if e.complains and (e.level or not usage)]
    last = (wrong or ([] if usage else messages))[-1:]
    return _end(last[0]) if last else ""


def _end(entry: Entry) -> str:
    """Of a Python traceback the last line says what it is; of everything else the first."""
    if entry.text.startswith("Traceback"):
        return shortened(entry.text.splitlines()[-1])
    return sentence(entry.text)


def _why_not_started(text: str, lines: Sequence[str]) -> str:
    """The status; where servables did not become available, each one's cause."""
    begin = text.partition("Error: ")[2] or text
    if _NOT_AVAILABLE not in begin:
        before = [e for e in complaints(lines) if not e.text.startswith(_FAILED_START)][-1:]
        why = "".join(_TAKEN if _TAKEN in e.text else sentence(e.text) for e in before)
        also = f": {why}" if why and any(s in begin for s in _SAID_BEFORE) else ""
        return shortened(f"{_FAILED_START} {sentence(begin)}{also}")
    causes = [f"{name}/{version}: {sentence(why)}" for name, version, why in _DUE.findall(begin)] or \
        [f"{f.name}/{f.version}: {f.why}" for f in load_failures(lines)]
    return shortened(f"{_FAILED_START} {'; '.join(causes) or sentence(begin)}")

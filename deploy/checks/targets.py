"""What is going to load the model: TensorFlow's version, its ops, and the libraries that its image adds."""

from __future__ import annotations

import functools
import gzip
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from deploy.errors import SpecError
from deploy.spec import DEFAULT_IMAGE, ServerPart
from deploy.wire.dtypes import NUMBERS

LISTS = Path(__file__).parent / "oplists"
TEXT, FORESTS = "tensorflow_text", "tensorflow_decision_forests"
OFFICIAL = frozenset({TEXT, FORESTS})
"""Linked into the official images: SUPPORTED_TENSORFLOW_OPS in tensorflow_serving/model_servers/BUILD."""

MOST_ROWS = 1000
"""Of a batch, where nothing is said."""

_PER_MODEL = "enable_per_model_batching_parameters"
_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.\d+)?")
_FORESTS = ("SimpleMLCreateModelResource", "SimpleMLInferenceLeafIndexOpWithHandle", "SimpleMLInferenceOp",
            "SimpleMLInferenceOpWithHandle", "SimpleMLLoadModelFromPath", "SimpleMLLoadModelFromPathWithHandle")
_PREFIXES = {"TFText>": TEXT, "SimpleML": FORESTS, "IO>": "tensorflow_io", "Addons>": "tensorflow_addons",
             "TFRA>": "tensorflow_recommenders_addons", "Tfq": "tensorflow_quantum", "Scann>": "scann",
             "Horovod": "horovod", "TRTEngineOp": "TensorRT (TF-TRT)", "CreateTRTResource": "TensorRT (TF-TRT)",
             "InitializeTRTResource": "TensorRT (TF-TRT)", "HwRand": "tensorflow_io", "Kafka": "tensorflow_io"}


@dataclass(frozen=True, slots=True)
class OpList:
    """What one TensorFlow release knows.

    tensorflow: its version. graph: its TF_GRAPH_DEF_VERSION. ops: attributes' names by op.
    callers: ops that name functions. tflite: builtin operators, the place is the code.
    xla_module: the newest version of XlaCallModule (JAX's calling convention) that it runs.
    stateful: ops that are. kernels: by device and op, the types that limited attributes may have.
    """

    tensorflow: str
    graph: int
    min_producer: int
    ops: Mapping[str, frozenset[str]]
    callers: frozenset[str]
    tflite: tuple[str, ...]
    stateful: frozenset[str]
    kernels: Mapping[str, Mapping[str, Mapping[str, frozenset[str]]]]
    xla_module: int


@dataclass(frozen=True, slots=True)
class Kernels:
    """What a server's devices can run. by_op: for each device that has kernels of an op, its limits.

    limits: the types that attributes of an op can have on any of them, where every device takes some only.
    """

    by_op: Mapping[str, tuple[Mapping[str, frozenset[str]], ...]]
    limits: Mapping[str, Mapping[str, frozenset[int]]]


@dataclass(frozen=True, slots=True)
class ServerBatching:
    """A server's batching. per_model: of versions only that have parameters of their own. most: rows of a batch.

    pads: inputs of different lengths are filled up.
    """

    per_model: bool = False
    most: int = MOST_ROWS
    pads: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A server. version: `2.20`. libraries: of custom ops. gpu: it has one. tags: of the graph that it loads.

    prefers_tflite: it serves the model.tflite of a version that has one.
    batching: how it batches; None if it doesn't. compiles: it runs what XLA compiles, see spec.ServerPart.
    """

    version: str
    libraries: frozenset[str] = OFFICIAL
    gpu: bool = False
    tags: frozenset[str] = frozenset({"serve"})
    prefers_tflite: bool = False
    batching: ServerBatching | None = None
    compiles: bool = False

    @property
    def oplist(self) -> OpList:
        """Its op list, or that of the nearest version: the newest one that isn't newer, else the oldest."""
        return op_list(nearest(self.version))

    @property
    def library_ops(self) -> frozenset[str]:
        """Ops that its libraries add."""
        added = set(_FORESTS) if FORESTS in self.libraries else set()
        return frozenset(added | text_ops() if TEXT in self.libraries else added)

    def __str__(self) -> str:
        added = f" with {', '.join(sorted(self.libraries))}" if self.libraries else ""
        return f"TensorFlow Serving {self.version}{added}"


@functools.cache
def versions() -> tuple[str, ...]:
    """The versions that there are op lists of, ascending: `2.20`."""
    return tuple(sorted({path.name.partition(".txt")[0] for path in LISTS.glob("[0-9]*.txt*")}, key=version_key))


def of_version(text: str, *, libraries: frozenset[str] = OFFICIAL, gpu: bool = False) -> Target:
    """A server of TensorFlow `2.20` or `2.20.0`. Raises SpecError for anything else."""
    match = _VERSION.match(text)
    if match is None:
        raise SpecError(f"{text!r} is no server version", hint=f"give one like {versions()[-1]}",
                        id="server-version-unknown")
    return Target(f"{int(match[1])}.{int(match[2])}", libraries, gpu)


def of_image(image: str) -> Target:
    """The server in an image, by its name. A tag without a version (latest, dev) stands for the newest op list, and so
    does that of an image which isn't called after a server: it is the version of what is in it."""
    name, _, tag = image.partition("@")[0].rpartition(":")
    serves = "serv" in name.rpartition("/")[2] or "tensorflow" in name
    match = _VERSION.match(tag) if serves and "/" not in tag else None
    gpu = "gpu" in tag
    if match is None:
        official = (name or tag).endswith("tensorflow/serving")
        return Target(installed() or versions()[-1], OFFICIAL if official else frozenset(), gpu)
    return of_version(tag, gpu=gpu)


def of_server(server: ServerPart, *, bundled: bool) -> Target:
    """The server that a spec describes. bundled: it is this package's own, with the TensorFlow that is installed here;
    see backends.Capabilities."""
    target = Target(installed() or versions()[-1], frozenset()) if bundled else \
        of_image(server.image)
    tags = str(server.flags.get("saved_model_tags", "serve"))
    return Target(target.version, target.libraries, target.gpu or bool(server.resources.gpus),
                  frozenset(tag.strip() for tag in tags.split(",")), server.prefers_tflite, _batching(server),
                  server.compiles)


def _batching(server: ServerPart) -> ServerBatching | None:
    part = server.batching
    if part is None:
        return None
    per_model = str(server.flags.get(_PER_MODEL, False)).lower() not in ("false", "0", "no")
    return ServerBatching(per_model, part.max_batch_size or MOST_ROWS, part.pad_variable_length_inputs)


def default() -> Target:
    """The server of a spec that names none."""
    return of_image(DEFAULT_IMAGE)


def installed() -> str | None:
    """The version of TensorFlow's wheel, which the embedded server runs; None without one."""
    for name in ("tensorflow", "tensorflow-cpu"):
        try:
            match = _VERSION.match(metadata.version(name))
        except metadata.PackageNotFoundError:
            continue
        if match:
            return f"{match[1]}.{match[2]}"
    return None


def nearest(version: str) -> str:
    """The newest list that isn't newer than `version`, else the oldest one."""
    not_newer = [v for v in versions() if version_key(v) <= version_key(version)]
    return not_newer[-1] if not_newer else versions()[0]


@functools.cache
def grown(version: str) -> frozenset[str]:
    """The ops of a version that have more attributes in a later one."""
    known = op_list(nearest(version)).ops
    later = [op_list(v).ops for v in versions() if version_key(v) > version_key(version)]
    return frozenset(op for ops in later for op in ops.keys() & known.keys() if ops[op] - known[op])


def library_of(op: str) -> str:
    """The Python package that an op comes from, as far as it's known; empty if it isn't."""
    if op in text_ops():
        return TEXT
    return next((library for prefix, library in _PREFIXES.items() if op.startswith(prefix)), "")


@functools.cache
def kernels(target: Target) -> Kernels:
    """The kernels of a server's devices."""
    there = [target.oplist.kernels[device] for device in ("CPU", "GPU")[:1 + target.gpu]]
    by_op = {op: tuple(device[op] for device in there if op in device)
             for op in {op for device in there for op in device}}
    limits = {op: {name: frozenset(NUMBERS[dtype] for device in devices for dtype in device[name])
                   for name in set[str].intersection(*(set(device) for device in devices))}
              for op, devices in by_op.items()}
    return Kernels(by_op, {op: devices for op, devices in limits.items() if devices})


@functools.cache
def op_list(version: str) -> OpList:
    """The list of one version of `versions()`."""
    head, body, able = read(LISTS / f"{version}.txt")
    facts = dict(line.split(" ", 1) for line in head)
    lines = [line.split() for line in body]
    ops = {name.rstrip("!"): frozenset(attribute.lstrip("&") for attribute in attributes)
           for name, *attributes in lines}
    callers = frozenset(name.rstrip("!") for name, *attributes in lines if any(a.startswith("&") for a in attributes))
    return OpList(facts["tensorflow"], int(facts["graph"]), int(facts["graph_min_producer"]), ops, callers,
                  tuple(facts["tflite"].split()), frozenset(name[:-1] for name, *_ in lines if name.endswith("!")),
                  _kernels(able), int(facts["xla_call_module"]))


def read(path: Path) -> list[list[str]]:
    """The three sections of a list: facts, ops, kernels. One that is `like` another says what it adds and lacks; the
    newest is whole, and packed."""
    packed = path.with_name(f"{path.name}.gz")
    whole = gzip.decompress(packed.read_bytes()).decode() if packed.exists() else path.read_text()
    like, _, text = whole.partition("\n")
    if not like.startswith("like "):
        return [section.splitlines() for section in f"{like}\n{text}".split("\n\n")]
    base = read(path.with_name(f"{like.split()[1]}.txt"))
    changes = [section.splitlines() for section in text.split("\n\n")]
    return [[line for line in lines if f"-{line}" not in {*changed}] + [line[1:] for line in changed if line[:1] == "+"]
            for lines, changed in zip(base, changes, strict=True)]


def _kernels(lines: Iterable[str]) -> Mapping[str, Mapping[str, Mapping[str, frozenset[str]]]]:
    by_device: dict[str, dict[str, Mapping[str, frozenset[str]]]] = {"CPU": {}, "GPU": {}}
    for line in lines:
        op, device, *limits = line.split(" ")
        by_device[device][op] = {name: frozenset(types.split(","))
                             for name, types in (limit.split("=") for limit in limits)} if limits else {}
    return by_device


@functools.cache
def text_ops() -> frozenset[str]:
    """Ops of tensorflow_text."""
    return frozenset(line.split()[0].rstrip("!") for line in (LISTS / f"{TEXT}.txt").read_text().splitlines())


def version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))

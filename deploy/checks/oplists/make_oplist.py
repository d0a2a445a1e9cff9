"""Writes an op list: what a server built from one TensorFlow release can load.

    python -m deploy.checks.oplists.make_oplist                     of the installed wheel
    python -m deploy.checks.oplists.make_oplist DIR/tensorflow      of an unpacked wheel of another release
    python -m deploy.checks.oplists.make_oplist --text DIR/tensorflow_text   the ops of tensorflow_text

Take the wheel `tensorflow`: that of `tensorflow-cpu` lacks most kernels of GPUs.

The file is text: lines `key values`, an empty line, then one line for each op: its name, a `!` behind it if it is
stateful, and its attributes' names; an attribute that names functions has an `&`. After another empty line, one line
for each op and device that has kernels: `Abs CPU T=float32,float64`; attributes that aren't named may be of any type.
Releases are much alike: only the newest list is written out, and packed (`zless 2.21.txt.gz`); an older one begins with
`like 2.21` and has the lines that it lacks (`-`) and has (`+`).
Nothing is imported from the wheel: its shared library answers (TF_GetAllOpList, TF_GetAllRegisteredKernels), its header
tells the graph versions, and TFLite's generated schema the builtin operators.

New ops are added to effects.txt as `unknown`, which the checks refuse: read what they do, and write it there.
"""

from __future__ import annotations

import argparse
import ctypes
import gzip
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from deploy.checks import policy, targets
from deploy.engine.library import Library, find
from deploy.wire.dtypes import dtype_from_number
from deploy.wire.model_pb2 import KernelDef, KernelList, OpDef, OpList

HERE = Path(__file__).parent
_DEVICES = {"CPU": ("CPU",), "GPU": ("GPU",), "DEFAULT": ("CPU", "GPU")}  # a default kernel runs on any device
_VERSIONS = re.compile(r"#define TF_GRAPH_DEF_VERSION(|_MIN_PRODUCER|_MIN_CONSUMER) (\d+)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, nargs="?", help="the directory `tensorflow` of an unpacked wheel")
    parser.add_argument("--text", type=Path, help="the directory `tensorflow_text` of an unpacked wheel")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    installed = find()
    package = args.package or (installed and installed.parent)
    if package is None:
        parser.error("no TensorFlow is installed: name an unpacked wheel's directory")
    library = Library(next(package.glob("libtensorflow_cc.*2*")))
    if args.text:
        added = _extension_ops(library, package, args.text)
        (HERE / "tensorflow_text.txt").write_text("\n".join(_lines(added)) + "\n")
        sys.stdout.write(f"{policy.add(added)} new ops in {policy.FILE}\n")
        return
    version = library.Version().decode()
    ops = OpList.FromString(library.take(library.GetAllOpList())).op
    path = HERE / f"{'.'.join(version.split('.')[:2])}.txt"
    kernels = _kernels(_registered(library, package), {op.name for op in ops})
    path.write_text("\n".join((f"tensorflow {version}", *_graph_versions(package), _xla_module(package),
                               *_tflite(package), "", *_lines(ops), "", *kernels)) + "\n")
    shorten(HERE)
    sys.stdout.write(f"{path}: {len(ops)} ops\n"
                     f"{policy.add(ops)} new ops in {policy.FILE}\n")


def shorten(directory: Path) -> None:
    """Lists of a directory but the newest are written as their differences from it; the newest is packed."""
    names = {path.name.partition(".txt")[0] for path in directory.glob("[0-9]*.txt*")}
    lists = {directory / f"{name}.txt": targets.read(directory / f"{name}.txt")
             for name in sorted(names, key=targets.version_key)}
    newest, base = lists.popitem()
    text = "\n\n".join("\n".join(lines) for lines in base) + "\n"
    newest.with_name(f"{newest.name}.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    newest.unlink(missing_ok=True)
    for path, sections in lists.items():
        changes = ("\n".join((*(f"-{line}" for line in theirs if line not in {*ours}),
                              *(f"+{line}" for line in ours if line not in {*theirs})))
                   for ours, theirs in zip(sections, base, strict=True))
        path.write_text(f"like {newest.stem}\n" + "\n\n".join(changes) + "\n")
        path.with_name(f"{path.name}.gz").unlink(missing_ok=True)


def _lines(ops: Iterable[OpDef]) -> list[str]:
    return sorted(" ".join((op.name + "!" * op.is_stateful,
                            *(f"&{attr.name}" if "func" in attr.type else attr.name for attr in op.attr)))
                  for op in ops if "Mkl" not in op.name)  # those exist in memory only


def _registered(library: Library, package: Path) -> Iterable[KernelDef]:
    ask = ctypes.CDLL(str(next(package.glob("libtensorflow_cc.*2*")))).TF_GetAllRegisteredKernels
    ask.restype, ask.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
    status = library.NewStatus()
    kernels = library.take(ask(status))
    library.check(status)
    return KernelList.FromString(kernels).kernel


def _kernels(kernels: Iterable[KernelDef], ops: set[str]) -> Iterator[str]:
    """One line for each op and device: the types of an attribute that any of its kernels takes, if none takes all."""
    limits: dict[tuple[str, str], list[dict[str, set[str]]]] = defaultdict(list)
    for kernel in kernels:
        if kernel.op in ops and "Mkl" not in kernel.op and not kernel.label:  # one with a label has to be asked for
            for device in _DEVICES.get(kernel.device_type, ()):
                limits[kernel.op, device].append({
                    each.name: {dtype_from_number(number) for number in each.allowed_values.list.type}
                    for each in kernel.constraint if each.allowed_values.list.type})
    for (op, device), each in sorted(limits.items()):
        limited = sorted(set.intersection(*(set(types) for types in each)))
        yield " ".join((op, device, *(f"{name}={','.join(sorted(set().union(*(types[name] for types in each))))}"
                                      for name in limited)))


def _graph_versions(package: Path) -> list[str]:
    text = (package / "include/tensorflow/core/public/version.h").read_text()
    return [f"graph{kind.lower()} {number}" for kind, number in _VERSIONS.findall(text)]


def _xla_module(package: Path) -> str:
    """The newest version of XlaCallModule; the library doesn't tell, but jax2tf's half in the wheel does."""
    text = (package / "compiler/tf2xla/python/xla.py").read_text()
    body = text.partition("def call_module_maximum_supported_version")[2]
    number: str = re.findall(r"^  return (\d+)$", body, re.MULTILINE)[0]
    return f"xla_call_module {number}"


def _tflite(package: Path) -> list[str]:
    text = (package / "lite/python/schema_py_generated.py").read_text()
    body = text.partition("class BuiltinOperator(object):")[2].partition("\nclass ")[0]
    codes = {int(code): name for name, code in re.findall(r"^    (\w+) = (\d+)$", body, re.MULTILINE)}
    return ["tflite " + " ".join(codes[code] for code in sorted(codes))]


def _extension_ops(library: Library, package: Path, text: Path) -> list[OpDef]:
    """The ops of all libraries in a wheel that extends TensorFlow."""
    tensorflow = ctypes.CDLL(str(next(package.glob("libtensorflow_cc.*2*"))))
    tensorflow.TF_LoadLibrary.restype, tensorflow.TF_LoadLibrary.argtypes = ctypes.c_void_p, (
        ctypes.c_char_p, ctypes.c_void_p)
    before = {op.name for op in OpList.FromString(library.take(library.GetAllOpList())).op}
    for path in sorted(text.rglob("_*.so")):
        status = library.NewStatus()
        tensorflow.TF_LoadLibrary(str(path).encode(), status)
        library.check(status)
    after = OpList.FromString(library.take(library.GetAllOpList())).op
    return [op for op in after if op.name not in before]


if __name__ == "__main__":
    main()

"""`tfs check`'s work on big graphs: python -m tests.benchmarks.bench_checks [SCALE]; scale 1.0 is 100 MB.

Theirs is what reading a graph as data costs at least: protobuf parses the file whole. Each run is a process of its own,
so that its peak memory is its own; imports aren't counted.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.wire.model_pb2 import MetaGraphDef, NodeDef
from tests.support import checks as make
from tests.support import savedmodel as support

ROOT = Path(__file__).parents[2]
ROUNDS = 5
BYTES = 100_000_000
KINDS = {"constants": "20 weights", "nodes": "a TF 1 graph: nodes of 284 bytes",
         "functions": "a TF 2 graph: functions of 250 such nodes", "one function": "all such nodes in one function"}

_OURS = "from deploy import checks; f = lambda: checks.check({!r}).raise_if_refused()"
_THEIRS = "from deploy.wire.model_pb2 import SavedModel; " \
    "f = lambda: SavedModel.FromString(open({!r} + '/saved_model.pb', 'rb').read())"
_TIMED = """
import sys, time
from pathlib import Path
import deploy.checks.graph, deploy.checks.keras_archives, deploy.checks.files
{}
start = time.perf_counter(); f(); end = time.perf_counter()
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(end - start, int(peak.split()[1]) // 1024)
"""


def run(scale: float = 1.0) -> list[dict[str, object]]:
    """Medians in seconds for graphs of scale * 100 MB; the goal is 1 s for 100 MB."""
    rows = []
    for kind, what in KINDS.items():
        with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR"), prefix="bench-checks-") as scratch:
            directory = support.save(Path(scratch) / "model", graph(kind, int(scale * BYTES)))
            seconds: dict[str, list[float]] = {_OURS: [], _THEIRS: []}
            memory = {}
            for _ in range(ROUNDS):
                for code, taken in seconds.items():
                    time, memory[code] = _timed(code, str(directory))
                    taken.append(time)
        ours, theirs = (statistics.median(taken) for taken in seconds.values())
        rows.append({"name": f"check {scale * BYTES / 1e6:g} MB of {kind}", "ours_s": ours, "theirs_s": theirs,
                     "ratio": theirs / ours, "note": f"{what}; theirs: protobuf parses it; peak memory "
                     f"{memory[_OURS]} MB, theirs {memory[_THEIRS]} MB; goal: under {scale:g} s"})
    return rows


def graph(kind: str, size: int) -> MetaGraphDef:
    """A graph of about so many bytes."""
    meta = make.serves("Relu")
    nodes, library = meta.graph_def.node, meta.graph_def.library
    count = size // len(node(100_000).SerializeToString())
    if kind == "constants":
        for number in range(20):
            tensor = nodes.add(name=f"weights_{number}", op="Const").attr["value"].tensor
            tensor.dtype, tensor.tensor_content = 1, os.urandom(size // 20)
    elif kind == "nodes":
        nodes.extend(node(number) for number in range(count))
    else:
        each = 250 if kind == "functions" else count
        for number in range(count // each):
            function = library.function.add()
            function.signature.name = f"__inference_layer_{number}"
            function.node_def.extend(node(place) for place in range(each))
            library.function[0].node_def.add(name=f"call_{number}", op="PartitionedCall").attr["f"].func.name = \
                function.signature.name
    return meta


def node(number: int) -> NodeDef:
    """A node with names and attributes as long as Keras makes them."""
    layer = f"model/block_{number // 10}/layer_{number % 10}/dense"
    made = NodeDef(name=f"{layer}/MatMul_{number}", op=("MatMul", "AddV2", "Relu", "Identity", "Reshape")[number % 5],
                   input=[f"{layer}/MatMul_{number - 1}", f"model/block_{number // 10}/layer/weights_{number}/read"])
    made.attr["T"].type = 1
    made.attr["transpose_a"].b = made.attr["transpose_b"].b = False
    shape = made.attr["_output_shapes"].list.shape.add()
    shape.dim.add(size=-1)
    shape.dim.add(size=128)
    made.experimental_debug_info.original_node_names.append(made.name)
    return made


def _timed(code: str, directory: str) -> tuple[float, int]:
    said = subprocess.run([sys.executable, "-c", _TIMED.format(code.format(directory))], check=True, text=True,
                          capture_output=True, cwd=ROOT).stdout
    seconds, megabytes = said.split()
    return float(seconds), int(megabytes)


if __name__ == "__main__":
    for row in run(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0):
        print(f"{row['name']}: {row['ours_s']:.3f} s, {row['theirs_s']:.3f} s, {row['ratio']:.2f}x ({row['note']})")

"""The models that bench_export exports, and the programs that it measures:

    python -m tests.benchmarks.exported MODEL DIRECTORY ours|theirs

`theirs` is Keras's model.export() and one load, `ours` deploy.export_model(); each prints the seconds that this took,
without imports and building.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

SCALE = "BENCH_EXPORT_SCALE"
WIDTH = 8192  # of a layer of 268 MB


def mobilenet() -> Any:
    import keras

    return keras.applications.MobileNetV3Small(weights=None)


def dense() -> Any:
    """Dense layers, at full scale 1.07 GB of them."""
    import keras

    size = max(64, int(WIDTH * float(os.environ.get(SCALE, "1")) ** 0.5))
    layers = [keras.layers.Dense(size, kernel_initializer="ones") for _ in range(4)]
    return keras.Sequential([keras.Input((size,)), *layers])


def _theirs(model: Any, directory: Path) -> None:
    import tensorflow as tf

    model.export(directory / "saved", verbose=False)
    tf.saved_model.load(str(directory / "saved"))


def _ours(model: Any, directory: Path) -> None:
    from deploy import export_model

    export_model(model, directory, "model")


if __name__ == "__main__":
    built = {"mobilenet": mobilenet, "dense": dense}[sys.argv[1]]()
    started = time.monotonic()
    {"ours": _ours, "theirs": _theirs}[sys.argv[3]](built, Path(sys.argv[2]))
    print(time.monotonic() - started)

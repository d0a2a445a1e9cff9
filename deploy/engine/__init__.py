"""Run SavedModels through TensorFlow's C API, from the shared library in the `tensorflow` wheel, without its Python.

    with engine.load("models/mnist/1") as session:
        outputs = session.call(session.contract["serving_default"], {"pixels": pixels})

`available()` says why not, if the engine can't be used. `quiet()`, at a process's start, silences TensorFlow's log.
`confined` does it in a process of its own, for models that somebody else made; `python -m deploy.engine.replay` answers
a file of requests.

    session   one loaded SavedModel; loading: from a directory to it, unknown ops or not; tensors: numpy <-> TF_Tensor
    library   TensorFlow's C API, bound with ctypes; settings: what a process and its threads have to set before
    latency   how long a run will take, as far as those before it tell
    child     a model in a process of its own; confined_process: that process, and what it gives up
    replay    recorded requests answered in a process
    tflite    TensorFlow Lite, run by LiteRT

The library is opened by the first call that needs it (0.2 s), with local symbol visibility.
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)

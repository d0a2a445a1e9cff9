"""Models that are files: which kinds there are, how each is recognised and loaded, and what is said of others.

    source        one kind, as a value
    table         all kinds, in the order in which a path is held against them
    saved_models  SavedModel directories, and modules of TensorFlow Hub
    frozen_graphs  a GraphDef in a file, with the tensors that requests feed and fetch
    keras_files   .keras and .h5, of Keras 3 and 2
    sessions      what a SavedModel lacks, added by TensorFlow; callables: signatures of an object's traced calls
    tflite_files  a lone .tflite file, or a version that consists of one
    foreign       what other tools write: a sentence that says how it becomes one of the above

A new kind is a module with a `SOURCE`, a line in `table`, and a row in docs/exporting.md, which a test runs.
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)

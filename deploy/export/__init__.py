"""Models as Python objects or files -> published versions, proven to answer as the object does.

`export_model` is the way in; `load_target` finds what a command line names. TensorFlow is imported when they run, not
before. On the way:

    options       what can be asked for: Exportable, Recording, TFLite; Predict, Classify, Regress
    recipes       what serving needs around a model: image bytes, text, tf.Examples in; labels, keys out
    exporting     the steps, from the model to the version; staging: the first, whatever it is that is saved
    targets       `pkg.module:attribute`, files and directories -> models; sources: the kinds of those
    registries    models that a registry names, downloaded
    signatures    whatever was given -> signatures with their functions; functions: of tf.functions and modules
    keras_models  of Keras: keras_inputs (3) and keras2 say what a model takes, keras_calls how it is called
    jax_models    of JAX and Flax; jax_modules: what jax.export makes of a function, its parameters as variables
    specs         what is written to describe inputs; names that last
    examples      inputs in all forms, in files, too -> requests
    saving        signatures -> a SavedModel; graph_size: whether protobuf can hold its graph
    judging       what the gate in front of the repository says of it
    parity        does it answer as the live object did?
    processes     those that are asked: engine.replay, tflite_process
    tflite        a TFLite model beside it
    failures      exceptions of the user's code in one sentence; quiet: TensorFlow without its chatter
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)

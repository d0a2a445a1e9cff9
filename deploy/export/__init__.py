"""Models as Python objects or files -> published versions, proven to answer as the object does.

`export_model` is the way in; `load_target` finds what a command line names. TensorFlow is imported when they run, not
before. On the way:

    options       what can be asked for: Exportable, Recording, TFLite; Predict, Classify, Regress
    exporting     the steps, from the model to the version
    targets       `pkg.module:attribute`, files and directories -> models
    signatures    whatever was given -> signatures with their functions; functions: of tf.functions and modules
    keras_models  of Keras: keras_inputs (3) and keras2 say what a model takes, keras_calls how it is called
    specs         what is written to describe inputs; names that last
    examples      inputs in all forms, in files, too -> requests
    saving        signatures -> a SavedModel
    judging       what the gate in front of the repository says of it
    parity        does it answer as the live object did?
    processes     those that are asked: engine.replay, tflite_process
    tflite        a TFLite model beside it
    failures      exceptions of the user's code in one sentence; quiet: TensorFlow without its chatter
"""

from __future__ import annotations

from deploy.export.exporting import Exported, export_model
from deploy.export.options import Classify, Exportable, Predict, Recording, Regress, TFLite
from deploy.export.parity import Parity
from deploy.export.targets import default_name, load_target

Servable = Exportable
"""The name that Exportable had."""

__all__ = ["Classify", "Exportable", "Exported", "Parity", "Predict", "Recording", "Regress", "Servable", "TFLite",
           "default_name", "export_model", "load_target"]

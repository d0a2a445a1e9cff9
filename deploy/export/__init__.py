"""Models as Python objects or files -> published versions, proven to answer as the object does.

`export_model` is the way in; `load_target` finds what a command line names. TensorFlow is imported when
they run, not before.
"""

from __future__ import annotations

from deploy.export.exporting import Exported, export_model
from deploy.export.parity import Parity
from deploy.export.plans import Classify, Predict, Regress, Servable
from deploy.export.targets import default_name, load_target

__all__ = ["Classify", "Exported", "Parity", "Predict", "Regress", "Servable", "default_name", "export_model",
           "load_target"]

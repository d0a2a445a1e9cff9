"""A SavedModel read as data, without TensorFlow.

`read` says what a version directory holds and whether it is whole. The modules beside it:

    diff       may one version replace another?       signatures        its rules
    bundle     the variables' index                   tflite            a TFLite file's signatures and operators
    scanning   graphs of any size, piece by piece     flow, ops         where tensors come from; ops by what they do
"""

from __future__ import annotations

from deploy.savedmodel.contract import contract_differences
from deploy.savedmodel.reader import Producer, SavedModelInfo, check_complete, read

__all__ = ["Producer", "SavedModelInfo", "check_complete", "contract_differences", "read"]

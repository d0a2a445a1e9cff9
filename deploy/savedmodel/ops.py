"""Names of TensorFlow's ops that several rooms look for.

Source: tensorflow/core/ops/*.cc of TensorFlow 2.21.
"""

from __future__ import annotations

CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
"""They call the function that their attribute `f` names; their inputs are its arguments."""

PYTHON = frozenset({"EagerPyFunc", "PyFunc", "PyFuncStateless"})
"""They call back into the Python that saved the model."""

VARIABLE = "VarHandleOp"
VARIABLES = frozenset({VARIABLE, "AutoReloadVariable", "Variable", "VariableV2"})

TABLE_FILES = frozenset({"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"})

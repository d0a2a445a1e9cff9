"""How long a run will take, as far as those before it tell: whether a thread that others wait for may make it.

That is said only of graphs in which time depends on the shapes of what is fed, and of shapes that have been fed before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from deploy.wire.tensors import dims

_BRIEF = 1e-3  # seconds; longer runs gain more from parallel ops than they lose by changing threads
_SHORT = 2.5e-4  # seconds; about what it costs to hand a call over to another thread and to get the result back
_BELIEVED = 1.25
_MOST_IN, _MOST_OUT = 1 << 15, 1 << 12  # elements; more take long to be read or to be written
_MOST_SHAPES = 64

# Ops that never wait, don't loop, and make as much as the shapes of what they get say, as far as models go.
_FORESEEABLE = """
    Assign AssignVariableOp Const DisableCopyOnRead EnsureShape Identity IdentityN MergeV2Checkpoints NoOp
    PartitionedCall Placeholder PlaceholderWithDefault PreventGradient ReadVariableOp RestoreV2 SaveV2 ShardedFilename
    Snapshot StatefulPartitionedCall StaticRegexFullMatch StopGradient StringJoin VarHandleOp VarIsInitializedOp
    Variable VariableV2
    Cast Concat ConcatV2 ExpandDims Gather GatherNd GatherV2 Pack Pad PadV2 Rank Reshape ResourceGather Shape ShapeN
    Size Slice Split SplitV Squeeze StridedSlice Transpose Unpack
    Abs Add AddN AddV2 BiasAdd BiasAddV1 Ceil ClipByValue Cos Div DivNoNan Elu Equal Erf Erfc Exp Expm1 Floor FloorDiv
    FloorMod Greater GreaterEqual Inv IsFinite IsInf IsNan LeakyRelu Less LessEqual Log Log1p LogicalAnd LogicalNot
    LogicalOr Maximum Minimum Mod Mul MulNoNan Neg NotEqual OnesLike Pow RealDiv Reciprocal Relu Relu6 Rint Round Rsqrt
    Select SelectV2 Selu Sigmoid Sign Sin Softplus Softsign Sqrt Square SquaredDifference Sub Tan Tanh Xdivy Xlogy
    ZerosLike
    All Any ArgMax ArgMin Cumsum EuclideanNorm L2Loss LogSoftmax Max Mean Min Prod Softmax Sum TopK TopKV2
    BatchMatMul BatchMatMulV2 BatchMatMulV3 Einsum MatMul
    AvgPool AvgPool3D BatchToSpaceND Conv2D Conv2DBackpropInput Conv3D DepthToSpace DepthwiseConv2dNative FusedBatchNorm
    FusedBatchNormV2 FusedBatchNormV3 MaxPool MaxPool3D SpaceToBatchND SpaceToDepth
"""

Shapes = tuple[tuple[int, ...], ...]


def foreseeable(ops: Iterable[str]) -> bool:
    """Whether a graph of these ops takes as long for other values of the same shapes. Not if none is known."""
    names = set(ops)
    return bool(names) and names.issubset(_FORESEEABLE.split())


def shapes(arrays: Iterable[np.ndarray[Any, Any]]) -> Shapes:
    """What paces are kept by."""
    return tuple([dims(array) for array in arrays])


def elements(arrays: Iterable[np.ndarray[Any, Any]]) -> float:
    """How many; infinitely many for strings, which may be of any length."""
    return sum([math.inf if array.dtype.hasobject else array.size for array in arrays])


class Pace:
    """What runs take that are fed the same shapes. Before the first, they are taken to be brief, but not short."""

    __slots__ = ("_made", "_own", "_whole")

    def __init__(self) -> None:
        self._own, self._whole, self._made = math.inf, math.inf, math.inf

    @property
    def brief(self) -> bool:
        """Whether they take less than a millisecond."""
        return self._whole < _BRIEF or self._whole == math.inf

    @property
    def known(self) -> bool:
        """Whether there was a run."""
        return self._whole < math.inf

    @property
    def short(self) -> bool:
        """Whether they take a quarter of a millisecond of their thread's time, and don't make much."""
        return self._own < _SHORT and self._whole < _BRIEF and self._made <= _MOST_OUT

    def ran(self, whole: float, own: float, made: float) -> None:
        """Learn from a run: seconds from beginning to end, of the thread's own work, and elements it made.

        A run may have waited for Python's lock or for a core, so the shortest counts; of its own work, one that takes
        longer isn't believed at once, but if others follow it.
        """
        self._whole, self._own, self._made = min(self._whole, whole), min(own, self._own * _BELIEVED), made


class Paces:
    """Those of one plan, by the shapes that it was fed. foreseeable: whether anything can be said of its graph."""

    __slots__ = ("_by_shapes", "_foreseeable")

    def __init__(self, foreseeable: bool) -> None:
        self._foreseeable = foreseeable
        self._by_shapes: dict[Shapes, Pace] = {}

    def of(self, arrays: Iterable[np.ndarray[Any, Any]]) -> Pace:
        """The pace of runs that are fed so."""
        fed = shapes(arrays)
        pace = self._by_shapes.get(fed)
        if pace is None:
            if len(self._by_shapes) >= _MOST_SHAPES:  # clients choose them, so they must not pile up
                self._by_shapes.clear()
            pace = self._by_shapes[fed] = Pace()
        return pace

    def is_short(self, arrays: Iterable[np.ndarray[Any, Any]]) -> bool:
        """Whether a run that is fed so will be short."""
        given = list(arrays)
        pace = self._by_shapes.get(shapes(given)) if self._foreseeable and elements(given) <= _MOST_IN else None
        return pace is not None and pace.short

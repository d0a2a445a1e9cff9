"""How long a run will take, as far as those before it tell: whether a thread that others wait for may make it.

That is said only of graphs in which time depends on the shapes of what is fed, and of shapes that have been fed before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from deploy.wire.tensors import dims

_MILLISECOND = 1e-3  # seconds; longer runs gain more from parallel ops than they lose by changing threads
_SHORT = 2.5e-4  # seconds; about what it costs to hand a call over to another thread and to get the result back
_BELIEVED = 1.25
_MOST_IN, _MOST_OUT = 1 << 15, 1 << 12  # elements; more take long to be read or to be written
_MOST_SHAPES = 64
_UNTIMED = 15  # runs known to be short after which the thread's clock is read again, which takes a microsecond

# Ops that don't wait, don't loop, and make as much as the shapes of what they get say, as far as models go. (Those of
# checkpoints are in every graph, but no request reaches them.) Measured times alone don't do: a graph with a While loop
# over an input takes microseconds for one value and for ever for the next of the same shape, and so do dynamic shapes
# (Range, Fill) and strings. So a graph with any other op is never run by an event loop, however short its runs were.
_NAMES = """
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
STATIC_COST_OPS = frozenset(_NAMES.split())

Shapes = tuple[tuple[int, ...], ...]


def is_static_cost(ops: Iterable[str]) -> bool:
    """Whether a graph of these ops takes as long for other values of the same shapes. Not if none is known."""
    names = set(ops)
    return bool(names) and names <= STATIC_COST_OPS


def shapes_of(arrays: Iterable[np.ndarray[Any, Any]]) -> Shapes:
    """What estimates are kept by."""
    return tuple([dims(array) for array in arrays])


def elements(arrays: Iterable[np.ndarray[Any, Any]]) -> float:
    """How many; infinitely many for strings, which may be of any length."""
    return sum([math.inf if array.dtype.hasobject else array.size for array in arrays])


class LatencyEstimate:
    """What runs take that are fed the same shapes. Before the first, they are taken for sub-millisecond, but not short.

    static_cost: whether other values of these shapes take as long.
    """

    __slots__ = ("_elements_in", "_elements_out", "_seconds", "_static_cost", "_thread_seconds", "_untimed")

    def __init__(self, static_cost: bool = True) -> None:
        self._static_cost, self._untimed = static_cost, 0
        self._thread_seconds = self._seconds = self._elements_in = self._elements_out = math.inf

    @property
    def known(self) -> bool:
        """Whether there was a run."""
        return self._seconds < math.inf

    @property
    def sub_millisecond(self) -> bool:
        return self._seconds < _MILLISECOND or self._seconds == math.inf

    @property
    def cheap(self) -> bool:
        """Whether runs took a quarter of a millisecond of their thread's time, and made little."""
        return (self._thread_seconds < _SHORT and self._seconds < _MILLISECOND and self._elements_out <= _MOST_OUT)

    @property
    def short(self) -> bool:
        """Whether the next run will be cheap, too, whatever the values are, and what it is fed is read in a moment."""
        return self._static_cost and self._elements_in <= _MOST_IN and self.cheap

    @property
    def wants_thread_time(self) -> bool:
        """Whether the next run is to be timed by its thread's clock, too."""
        return self._untimed >= _UNTIMED or not self.cheap

    def observe(self, seconds: float, thread_seconds: float | None, elements_in: float, elements_out: float) -> None:
        """Learn from a run: seconds from beginning to end, those of its thread's work (None: not measured), elements.

        A run may have waited for Python's lock or for a core, so the shortest counts; of its thread's work, one that
        takes longer isn't believed at once, but if others follow it.
        """
        self._seconds = min(self._seconds, seconds)
        self._elements_in, self._elements_out = elements_in, elements_out
        if thread_seconds is None:
            self._untimed += 1
        else:
            self._thread_seconds, self._untimed = min(thread_seconds, self._thread_seconds * _BELIEVED), 0


class LatencyEstimates:
    """Those of one plan, by the shapes that it was fed. static_cost: whether anything can be said of its graph."""

    __slots__ = ("_by_shapes", "_static_cost")

    def __init__(self, static_cost: bool) -> None:
        self._static_cost = static_cost
        self._by_shapes: dict[Shapes, LatencyEstimate] = {}

    def of(self, arrays: Iterable[np.ndarray[Any, Any]]) -> LatencyEstimate:
        """The estimate for runs that are fed so; kept for the next ones."""
        shapes = shapes_of(arrays)
        estimate = self._by_shapes.get(shapes)
        if estimate is None:
            if len(self._by_shapes) >= _MOST_SHAPES:  # clients choose them, so they must not pile up
                self._by_shapes.clear()
            estimate = self._by_shapes[shapes] = LatencyEstimate(self._static_cost)
        return estimate

    def get(self, shapes: Shapes) -> LatencyEstimate | None:
        """The estimate, if there was a run that was fed these shapes."""
        return self._by_shapes.get(shapes)

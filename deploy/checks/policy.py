"""Which ops are of interest to which rule, and what they do.

Source: tensorflow/core/ops/*.cc of TensorFlow 2.21, read op by op.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from deploy.checks.targets import op_list
from deploy.savedmodel import ops

SAVER = frozenset({"MergeV2Checkpoints", "Restore", "RestoreSlice", "RestoreV2", "Save", "SaveSlices", "SaveV2"})
"""Ops of checkpoints: every SavedModel has them, for saving (never called) and for restoring (called at load)."""

ENCODERS = frozenset({"EncodeJpeg", "EncodeJpegVariableQuality", "EncodePng", "EncodeProto",
                      "EncodeWav", "SerializeIterator", "SerializeManySparse", "SerializeSparse",
                      "SerializeTensor"})
"""Their outputs are bytes, seldom text."""

BATCH_NORMS = frozenset({"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"})
PRINTS = frozenset({"Print", "PrintV2"})
XLA_MODULE = "XlaCallModule"

_EXACT: dict[str, dict[str, str]] = {
    "python-function": dict.fromkeys(ops.PYTHON, "calls a Python function"),
    "file-write": {
        **dict.fromkeys(("WriteFile", "DatasetToTFRecord", "ExperimentalDatasetToTFRecord", "SaveDataset",
                         "SaveDatasetV2", "DistributedSave", "DumpTensor", "CalibrationStatisticsSaver",
                         "Save", "SaveSlices", "SaveV2", "SnapshotDataset", "SnapshotDatasetV2"), "writes files"),
        "MergeV2Checkpoints": "moves and deletes files",
        **dict.fromkeys(("CreateSummaryFileWriter", "CreateSummaryDbWriter", "WriteSummary", "WriteAudioSummary",
                         "WriteGraphSummary", "WriteHistogramSummary", "WriteImageSummary", "WriteRawProtoSummary",
                         "WriteScalarSummary", "ImportEvent"), "writes summaries to files"),
    },
    "file-read": {
        **dict.fromkeys(("ReadFile", "Restore", "RestoreSlice", "RestoreV2", "DTensorRestoreV2", "LoadAndRemapMatrix",
                         "GenerateVocabRemapping", "ImmutableConst", "RecordInput", "LoadDataset",
                         "TextLineDataset", "TFRecordDataset", "TFRecordDatasetV2", "FixedLengthRecordDataset",
                         "FixedLengthRecordDatasetV2", "CSVDataset", "CSVDatasetV2", "ExperimentalCSVDataset",
                         "SqlDataset", "ExperimentalSqlDataset", "LMDBDataset", "ExperimentalLMDBDataset",
                         "SnapshotDatasetReader", "SnapshotNestedDatasetReader", "SnapshotChunkDataset",
                         "ListSnapshotChunksDataset", "WholeFileReader", "WholeFileReaderV2", "TextLineReader",
                         "TextLineReaderV2", "TFRecordReader", "TFRecordReaderV2", "FixedLengthRecordReader",
                         "FixedLengthRecordReaderV2", "LMDBReader"), "reads files"),
        **dict.fromkeys(("MatchingFiles", "MatchingFilesDataset", "ExperimentalMatchingFilesDataset"),
                        "lists directories"),
    },
    "network": {
        **dict.fromkeys(("RpcClient", "RpcCall", "RpcCheckStatus", "RpcGetValue"), "calls another server"),
        **dict.fromkeys(("RpcServer", "RpcServerRegister", "RpcServerStart"), "starts a server"),
        **dict.fromkeys(("DataServiceDataset", "DataServiceDatasetV2", "DataServiceDatasetV3", "DataServiceDatasetV4",
                         "RegisterDataset", "RegisterDatasetV2"), "talks to a tf.data service"),
        **dict.fromkeys(("Send", "Recv", "_Send", "_Recv", "_HostSend", "_HostRecv", "WorkerHeartbeat"),
                        "exchanges tensors with another process"),
        "FileSystemSetConfiguration": "configures remote file systems",
    },
    "remote-call": {"RemoteCall": "runs a function on a device named by a tensor"},
    "debug-op": dict.fromkeys(("DebugIdentity", "DebugIdentityV2", "DebugIdentityV3", "DebugNanCount",
                               "DebugNumericSummary", "DebugNumericSummaryV2"),
                              "sends tensors to a debugger or a file"),
    "log-op": dict.fromkeys(PRINTS, "prints what it is given"),
    "training-op": {
        **dict.fromkeys(("SdcaOptimizer", "SdcaOptimizerV2", "SdcaShrinkL1", "NegTrain", "BoostedTreesUpdateEnsemble",
                         "BoostedTreesUpdateEnsembleV2", "BoostedTreesTrainingPredict"), "is a training step"),
        **dict.fromkeys(("AccumulatorApplyGradient", "ResourceAccumulatorApplyGradient",
                         "SparseAccumulatorApplyGradient"), "collects gradients"),
    },
    "changes-state": {
        **dict.fromkeys(("Assign", "AssignAdd", "AssignSub", "AssignVariableOp", "AssignAddVariableOp",
                         "AssignSubVariableOp", "ScatterUpdate", "ScatterAdd", "ScatterSub", "ScatterNdUpdate",
                         "ScatterNdAdd", "ResourceScatterAdd", "ResourceScatterSub", "ResourceScatterMul",
                         "ResourceScatterDiv", "ResourceScatterMin", "ResourceScatterMax", "ResourceScatterUpdate",
                         "ResourceScatterNdAdd", "ResourceScatterNdSub", "ResourceScatterNdUpdate",
                         "ResourceStridedSliceAssign", "CountUpTo", "ResourceCountUpTo"), "changes a variable"),
        **dict.fromkeys(("LookupTableInsert", "LookupTableInsertV2", "LookupTableRemoveV2", "LookupTableImport",
                         "LookupTableImportV2"), "changes a table"),
    },
    "host-only-op": dict.fromkeys(
        ("QueueDequeue", "QueueDequeueV2", "QueueDequeueMany", "QueueDequeueManyV2", "QueueDequeueUpTo",
         "QueueDequeueUpToV2", "ReaderRead", "ReaderReadV2", "ReaderReadUpTo", "ReaderReadUpToV2", "Unstage",
         "MapUnstage", "MapUnstageNoKey", "OrderedMapUnstage", "OrderedMapUnstageNoKey", "BarrierTakeMany"),
        "waits for an input pipeline that nobody runs on a server"),
}
_STARTS = {  # rule: {beginning of the op's name: what it does}
    "training-op": dict.fromkeys(("ResourceApply", "ResourceSparseApply", "Apply", "SparseApply"),
                                 "is an optimizer's step"),
    "host-only-op": {
        **dict.fromkeys(("TPU", "_TPU", "ConfigureTPU", "ConfigureDistributedTPU", "ConfigureAndInitializeGlobalTPU",
                         "EnqueueTPU", "DynamicEnqueueTPU", "RecvTPU", "SendTPU", "LoadTPU", "RetrieveTPU", "Infeed",
                         "Outfeed", "XlaSendToHost", "XlaRecvFromHost", "XlaHostCompute"), "needs a TPU"),
        **dict.fromkeys(("Nccl", "_Nccl", "Collective"), "needs other devices that take part"),
        "CudnnRNN": "has a kernel for GPUs only",
    },
}
GPU_ONLY = "CudnnRNN"


@functools.cache
def interesting(version: str) -> Mapping[str, tuple[str, str]]:
    """op -> (rule, what it does), of all ops that a rule looks for, by the op list of a version."""
    found = {op: (rule, does) for rule, named in _EXACT.items() for op, does in named.items()}
    for rule, starts in _STARTS.items():
        for start, does in starts.items():
            found.update((op, (rule, does)) for op in op_list(version).ops if op.startswith(start) and op not in found)
    return found

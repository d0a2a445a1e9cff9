from google.protobuf import any_pb2 as _any_pb2
from google.protobuf import wrappers_pb2 as _wrappers_pb2
from deploy.wire import tensor_pb2 as _tensor_pb2
from deploy.wire import example_pb2 as _example_pb2
from deploy.wire import model_pb2 as _model_pb2
from deploy.wire import session_pb2 as _session_pb2
from deploy.wire import config_pb2 as _config_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union
from deploy.wire.tensor_pb2 import TensorShapeProto as TensorShapeProto
from deploy.wire.tensor_pb2 import ResourceHandleProto as ResourceHandleProto
from deploy.wire.tensor_pb2 import TensorProto as TensorProto
from deploy.wire.tensor_pb2 import VariantTensorDataProto as VariantTensorDataProto
from deploy.wire.tensor_pb2 import NamedTensorProto as NamedTensorProto
from deploy.wire.tensor_pb2 import DataType as DataType
from deploy.wire.example_pb2 import BytesList as BytesList
from deploy.wire.example_pb2 import FloatList as FloatList
from deploy.wire.example_pb2 import Int64List as Int64List
from deploy.wire.example_pb2 import Feature as Feature
from deploy.wire.example_pb2 import Features as Features
from deploy.wire.example_pb2 import FeatureList as FeatureList
from deploy.wire.example_pb2 import FeatureLists as FeatureLists
from deploy.wire.example_pb2 import Example as Example
from deploy.wire.example_pb2 import SequenceExample as SequenceExample
from deploy.wire.model_pb2 import FullTypeDef as FullTypeDef
from deploy.wire.model_pb2 import AttrValue as AttrValue
from deploy.wire.model_pb2 import NameAttrList as NameAttrList
from deploy.wire.model_pb2 import NodeDef as NodeDef
from deploy.wire.model_pb2 import OpDef as OpDef
from deploy.wire.model_pb2 import OpDeprecation as OpDeprecation
from deploy.wire.model_pb2 import OpList as OpList
from deploy.wire.model_pb2 import KernelDef as KernelDef
from deploy.wire.model_pb2 import KernelList as KernelList
from deploy.wire.model_pb2 import VersionDef as VersionDef
from deploy.wire.model_pb2 import FunctionDef as FunctionDef
from deploy.wire.model_pb2 import GradientDef as GradientDef
from deploy.wire.model_pb2 import RegisteredGradient as RegisteredGradient
from deploy.wire.model_pb2 import FunctionDefLibrary as FunctionDefLibrary
from deploy.wire.model_pb2 import GraphDef as GraphDef
from deploy.wire.model_pb2 import SaverDef as SaverDef
from deploy.wire.model_pb2 import CollectionDef as CollectionDef
from deploy.wire.model_pb2 import TypeSpecProto as TypeSpecProto
from deploy.wire.model_pb2 import StructuredValue as StructuredValue
from deploy.wire.model_pb2 import NoneValue as NoneValue
from deploy.wire.model_pb2 import ListValue as ListValue
from deploy.wire.model_pb2 import TupleValue as TupleValue
from deploy.wire.model_pb2 import DictValue as DictValue
from deploy.wire.model_pb2 import PairValue as PairValue
from deploy.wire.model_pb2 import NamedTupleValue as NamedTupleValue
from deploy.wire.model_pb2 import TensorSpecProto as TensorSpecProto
from deploy.wire.model_pb2 import BoundedTensorSpecProto as BoundedTensorSpecProto
from deploy.wire.model_pb2 import TensorInfo as TensorInfo
from deploy.wire.model_pb2 import SignatureDef as SignatureDef
from deploy.wire.model_pb2 import AssetFileDef as AssetFileDef
from deploy.wire.model_pb2 import MetaGraphDef as MetaGraphDef
from deploy.wire.model_pb2 import SavedModel as SavedModel
from deploy.wire.model_pb2 import FingerprintDef as FingerprintDef
from deploy.wire.model_pb2 import TensorSliceProto as TensorSliceProto
from deploy.wire.model_pb2 import BundleHeaderProto as BundleHeaderProto
from deploy.wire.model_pb2 import BundleEntryProto as BundleEntryProto
from deploy.wire.model_pb2 import FullTypeId as FullTypeId
from deploy.wire.session_pb2 import GPUOptions as GPUOptions
from deploy.wire.session_pb2 import OptimizerOptions as OptimizerOptions
from deploy.wire.session_pb2 import VerifierConfig as VerifierConfig
from deploy.wire.session_pb2 import AutoParallelOptions as AutoParallelOptions
from deploy.wire.session_pb2 import ScopedAllocatorOptions as ScopedAllocatorOptions
from deploy.wire.session_pb2 import RewriterConfig as RewriterConfig
from deploy.wire.session_pb2 import GraphOptions as GraphOptions
from deploy.wire.session_pb2 import ThreadPoolOptionProto as ThreadPoolOptionProto
from deploy.wire.session_pb2 import RPCOptions as RPCOptions
from deploy.wire.session_pb2 import SessionMetadata as SessionMetadata
from deploy.wire.session_pb2 import JobDef as JobDef
from deploy.wire.session_pb2 import ClusterDef as ClusterDef
from deploy.wire.session_pb2 import CoordinatedJob as CoordinatedJob
from deploy.wire.session_pb2 import CoordinationServiceConfig as CoordinationServiceConfig
from deploy.wire.session_pb2 import ConfigProto as ConfigProto
from deploy.wire.config_pb2 import LogCollectorConfig as LogCollectorConfig
from deploy.wire.config_pb2 import PerTaskSamplingConfig as PerTaskSamplingConfig
from deploy.wire.config_pb2 import SamplingConfig as SamplingConfig
from deploy.wire.config_pb2 import LoggingConfig as LoggingConfig
from deploy.wire.config_pb2 import FileSystemStoragePathSourceConfig as FileSystemStoragePathSourceConfig
from deploy.wire.config_pb2 import ModelConfig as ModelConfig
from deploy.wire.config_pb2 import ModelConfigList as ModelConfigList
from deploy.wire.config_pb2 import ModelServerConfig as ModelServerConfig
from deploy.wire.config_pb2 import PlatformConfig as PlatformConfig
from deploy.wire.config_pb2 import PlatformConfigMap as PlatformConfigMap
from deploy.wire.config_pb2 import BatchingParameters as BatchingParameters
from deploy.wire.config_pb2 import ModelWarmupOptions as ModelWarmupOptions
from deploy.wire.config_pb2 import SessionBundleConfig as SessionBundleConfig
from deploy.wire.config_pb2 import SavedModelBundleSourceAdapterConfig as SavedModelBundleSourceAdapterConfig
from deploy.wire.config_pb2 import PrometheusConfig as PrometheusConfig
from deploy.wire.config_pb2 import MonitoringConfig as MonitoringConfig
from deploy.wire.config_pb2 import SSLConfig as SSLConfig
from deploy.wire.config_pb2 import ModelType as ModelType

DESCRIPTOR: _descriptor.FileDescriptor
DT_INVALID: _tensor_pb2.DataType
DT_FLOAT: _tensor_pb2.DataType
DT_DOUBLE: _tensor_pb2.DataType
DT_INT32: _tensor_pb2.DataType
DT_UINT8: _tensor_pb2.DataType
DT_INT16: _tensor_pb2.DataType
DT_INT8: _tensor_pb2.DataType
DT_STRING: _tensor_pb2.DataType
DT_COMPLEX64: _tensor_pb2.DataType
DT_INT64: _tensor_pb2.DataType
DT_BOOL: _tensor_pb2.DataType
DT_QINT8: _tensor_pb2.DataType
DT_QUINT8: _tensor_pb2.DataType
DT_QINT32: _tensor_pb2.DataType
DT_BFLOAT16: _tensor_pb2.DataType
DT_QINT16: _tensor_pb2.DataType
DT_QUINT16: _tensor_pb2.DataType
DT_UINT16: _tensor_pb2.DataType
DT_COMPLEX128: _tensor_pb2.DataType
DT_HALF: _tensor_pb2.DataType
DT_RESOURCE: _tensor_pb2.DataType
DT_VARIANT: _tensor_pb2.DataType
DT_UINT32: _tensor_pb2.DataType
DT_UINT64: _tensor_pb2.DataType
DT_FLOAT8_E5M2: _tensor_pb2.DataType
DT_FLOAT8_E4M3FN: _tensor_pb2.DataType
DT_FLOAT8_E4M3FNUZ: _tensor_pb2.DataType
DT_FLOAT8_E4M3B11FNUZ: _tensor_pb2.DataType
DT_FLOAT8_E5M2FNUZ: _tensor_pb2.DataType
DT_INT4: _tensor_pb2.DataType
DT_UINT4: _tensor_pb2.DataType
DT_INT2: _tensor_pb2.DataType
DT_UINT2: _tensor_pb2.DataType
DT_FLOAT4_E2M1FN: _tensor_pb2.DataType
DT_FLOAT_REF: _tensor_pb2.DataType
DT_DOUBLE_REF: _tensor_pb2.DataType
DT_INT32_REF: _tensor_pb2.DataType
DT_UINT8_REF: _tensor_pb2.DataType
DT_INT16_REF: _tensor_pb2.DataType
DT_INT8_REF: _tensor_pb2.DataType
DT_STRING_REF: _tensor_pb2.DataType
DT_COMPLEX64_REF: _tensor_pb2.DataType
DT_INT64_REF: _tensor_pb2.DataType
DT_BOOL_REF: _tensor_pb2.DataType
DT_QINT8_REF: _tensor_pb2.DataType
DT_QUINT8_REF: _tensor_pb2.DataType
DT_QINT32_REF: _tensor_pb2.DataType
DT_BFLOAT16_REF: _tensor_pb2.DataType
DT_QINT16_REF: _tensor_pb2.DataType
DT_QUINT16_REF: _tensor_pb2.DataType
DT_UINT16_REF: _tensor_pb2.DataType
DT_COMPLEX128_REF: _tensor_pb2.DataType
DT_HALF_REF: _tensor_pb2.DataType
DT_RESOURCE_REF: _tensor_pb2.DataType
DT_VARIANT_REF: _tensor_pb2.DataType
DT_UINT32_REF: _tensor_pb2.DataType
DT_UINT64_REF: _tensor_pb2.DataType
DT_FLOAT8_E5M2_REF: _tensor_pb2.DataType
DT_FLOAT8_E4M3FN_REF: _tensor_pb2.DataType
DT_FLOAT8_E4M3FNUZ_REF: _tensor_pb2.DataType
DT_FLOAT8_E4M3B11FNUZ_REF: _tensor_pb2.DataType
DT_FLOAT8_E5M2FNUZ_REF: _tensor_pb2.DataType
DT_INT4_REF: _tensor_pb2.DataType
DT_UINT4_REF: _tensor_pb2.DataType
DT_INT2_REF: _tensor_pb2.DataType
DT_UINT2_REF: _tensor_pb2.DataType
DT_FLOAT4_E2M1FN_REF: _tensor_pb2.DataType
TFT_UNSET: _model_pb2.FullTypeId
TFT_VAR: _model_pb2.FullTypeId
TFT_ANY: _model_pb2.FullTypeId
TFT_PRODUCT: _model_pb2.FullTypeId
TFT_NAMED: _model_pb2.FullTypeId
TFT_FOR_EACH: _model_pb2.FullTypeId
TFT_CALLABLE: _model_pb2.FullTypeId
TFT_TENSOR: _model_pb2.FullTypeId
TFT_ARRAY: _model_pb2.FullTypeId
TFT_OPTIONAL: _model_pb2.FullTypeId
TFT_LITERAL: _model_pb2.FullTypeId
TFT_ENCODED: _model_pb2.FullTypeId
TFT_SHAPE_TENSOR: _model_pb2.FullTypeId
TFT_BOOL: _model_pb2.FullTypeId
TFT_UINT8: _model_pb2.FullTypeId
TFT_UINT16: _model_pb2.FullTypeId
TFT_UINT32: _model_pb2.FullTypeId
TFT_UINT64: _model_pb2.FullTypeId
TFT_INT8: _model_pb2.FullTypeId
TFT_INT16: _model_pb2.FullTypeId
TFT_INT32: _model_pb2.FullTypeId
TFT_INT64: _model_pb2.FullTypeId
TFT_HALF: _model_pb2.FullTypeId
TFT_FLOAT: _model_pb2.FullTypeId
TFT_DOUBLE: _model_pb2.FullTypeId
TFT_BFLOAT16: _model_pb2.FullTypeId
TFT_COMPLEX64: _model_pb2.FullTypeId
TFT_COMPLEX128: _model_pb2.FullTypeId
TFT_STRING: _model_pb2.FullTypeId
TFT_DATASET: _model_pb2.FullTypeId
TFT_RAGGED: _model_pb2.FullTypeId
TFT_ITERATOR: _model_pb2.FullTypeId
TFT_MUTEX_LOCK: _model_pb2.FullTypeId
TFT_LEGACY_VARIANT: _model_pb2.FullTypeId
MODEL_TYPE_UNSPECIFIED: _config_pb2.ModelType
TENSORFLOW: _config_pb2.ModelType
OTHER: _config_pb2.ModelType

class Code(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OK: _ClassVar[Code]
    CANCELLED: _ClassVar[Code]
    UNKNOWN: _ClassVar[Code]
    INVALID_ARGUMENT: _ClassVar[Code]
    DEADLINE_EXCEEDED: _ClassVar[Code]
    NOT_FOUND: _ClassVar[Code]
    ALREADY_EXISTS: _ClassVar[Code]
    PERMISSION_DENIED: _ClassVar[Code]
    UNAUTHENTICATED: _ClassVar[Code]
    RESOURCE_EXHAUSTED: _ClassVar[Code]
    FAILED_PRECONDITION: _ClassVar[Code]
    ABORTED: _ClassVar[Code]
    OUT_OF_RANGE: _ClassVar[Code]
    UNIMPLEMENTED: _ClassVar[Code]
    INTERNAL: _ClassVar[Code]
    UNAVAILABLE: _ClassVar[Code]
    DATA_LOSS: _ClassVar[Code]
    DO_NOT_USE_RESERVED_FOR_FUTURE_EXPANSION_USE_DEFAULT_IN_SWITCH_INSTEAD_: _ClassVar[Code]
OK: Code
CANCELLED: Code
UNKNOWN: Code
INVALID_ARGUMENT: Code
DEADLINE_EXCEEDED: Code
NOT_FOUND: Code
ALREADY_EXISTS: Code
PERMISSION_DENIED: Code
UNAUTHENTICATED: Code
RESOURCE_EXHAUSTED: Code
FAILED_PRECONDITION: Code
ABORTED: Code
OUT_OF_RANGE: Code
UNIMPLEMENTED: Code
INTERNAL: Code
UNAVAILABLE: Code
DATA_LOSS: Code
DO_NOT_USE_RESERVED_FOR_FUTURE_EXPANSION_USE_DEFAULT_IN_SWITCH_INSTEAD_: Code

class StatusProto(_message.Message):
    __slots__ = ("error_code", "error_message")
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    error_code: Code
    error_message: str
    def __init__(self, error_code: _Optional[_Union[Code, str]] = ..., error_message: _Optional[str] = ...) -> None: ...

class ModelSpec(_message.Message):
    __slots__ = ("name", "version", "version_label", "signature_name")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    VERSION_LABEL_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: _wrappers_pb2.Int64Value
    version_label: str
    signature_name: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[_Union[_wrappers_pb2.Int64Value, _Mapping]] = ..., version_label: _Optional[str] = ..., signature_name: _Optional[str] = ...) -> None: ...

class ExampleList(_message.Message):
    __slots__ = ("examples",)
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    examples: _containers.RepeatedCompositeFieldContainer[_example_pb2.Example]
    def __init__(self, examples: _Optional[_Iterable[_Union[_example_pb2.Example, _Mapping]]] = ...) -> None: ...

class ExampleListWithContext(_message.Message):
    __slots__ = ("examples", "context")
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    examples: _containers.RepeatedCompositeFieldContainer[_example_pb2.Example]
    context: _example_pb2.Example
    def __init__(self, examples: _Optional[_Iterable[_Union[_example_pb2.Example, _Mapping]]] = ..., context: _Optional[_Union[_example_pb2.Example, _Mapping]] = ...) -> None: ...

class Input(_message.Message):
    __slots__ = ("example_list", "example_list_with_context")
    EXAMPLE_LIST_FIELD_NUMBER: _ClassVar[int]
    EXAMPLE_LIST_WITH_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    example_list: ExampleList
    example_list_with_context: ExampleListWithContext
    def __init__(self, example_list: _Optional[_Union[ExampleList, _Mapping]] = ..., example_list_with_context: _Optional[_Union[ExampleListWithContext, _Mapping]] = ...) -> None: ...

class PredictStreamedOptions(_message.Message):
    __slots__ = ("request_state", "split_dimensions", "return_single_response")
    class RequestState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        NONE: _ClassVar[PredictStreamedOptions.RequestState]
        SPLIT: _ClassVar[PredictStreamedOptions.RequestState]
        END_SPLIT: _ClassVar[PredictStreamedOptions.RequestState]
        CANCEL: _ClassVar[PredictStreamedOptions.RequestState]
    NONE: PredictStreamedOptions.RequestState
    SPLIT: PredictStreamedOptions.RequestState
    END_SPLIT: PredictStreamedOptions.RequestState
    CANCEL: PredictStreamedOptions.RequestState
    class SplitDimensionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    REQUEST_STATE_FIELD_NUMBER: _ClassVar[int]
    SPLIT_DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    RETURN_SINGLE_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    request_state: PredictStreamedOptions.RequestState
    split_dimensions: _containers.ScalarMap[str, int]
    return_single_response: bool
    def __init__(self, request_state: _Optional[_Union[PredictStreamedOptions.RequestState, str]] = ..., split_dimensions: _Optional[_Mapping[str, int]] = ..., return_single_response: bool = ...) -> None: ...

class PredictRequest(_message.Message):
    __slots__ = ("model_spec", "inputs", "output_filter", "predict_streamed_options", "client_id", "request_options")
    class RequestOptions(_message.Message):
        __slots__ = ("client_id", "deterministic_mode", "return_additional_arrays_from_prefill", "return_stoptokens", "return_all_stoptokens", "max_cache_length", "handshake")
        class DeterministicMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
            __slots__ = ()
            DETERMINISTIC_MODE_UNSPECIFIED: _ClassVar[PredictRequest.RequestOptions.DeterministicMode]
            FIXED_DECODER_SLOT: _ClassVar[PredictRequest.RequestOptions.DeterministicMode]
        DETERMINISTIC_MODE_UNSPECIFIED: PredictRequest.RequestOptions.DeterministicMode
        FIXED_DECODER_SLOT: PredictRequest.RequestOptions.DeterministicMode
        class Handshake(_message.Message):
            __slots__ = ("estimated_payload_bytes",)
            ESTIMATED_PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
            estimated_payload_bytes: int
            def __init__(self, estimated_payload_bytes: _Optional[int] = ...) -> None: ...
        CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
        DETERMINISTIC_MODE_FIELD_NUMBER: _ClassVar[int]
        RETURN_ADDITIONAL_ARRAYS_FROM_PREFILL_FIELD_NUMBER: _ClassVar[int]
        RETURN_STOPTOKENS_FIELD_NUMBER: _ClassVar[int]
        RETURN_ALL_STOPTOKENS_FIELD_NUMBER: _ClassVar[int]
        MAX_CACHE_LENGTH_FIELD_NUMBER: _ClassVar[int]
        HANDSHAKE_FIELD_NUMBER: _ClassVar[int]
        client_id: bytes
        deterministic_mode: PredictRequest.RequestOptions.DeterministicMode
        return_additional_arrays_from_prefill: bool
        return_stoptokens: _containers.RepeatedScalarFieldContainer[int]
        return_all_stoptokens: bool
        max_cache_length: int
        handshake: PredictRequest.RequestOptions.Handshake
        def __init__(self, client_id: _Optional[bytes] = ..., deterministic_mode: _Optional[_Union[PredictRequest.RequestOptions.DeterministicMode, str]] = ..., return_additional_arrays_from_prefill: bool = ..., return_stoptokens: _Optional[_Iterable[int]] = ..., return_all_stoptokens: bool = ..., max_cache_length: _Optional[int] = ..., handshake: _Optional[_Union[PredictRequest.RequestOptions.Handshake, _Mapping]] = ...) -> None: ...
    class InputsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _tensor_pb2.TensorProto
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_tensor_pb2.TensorProto, _Mapping]] = ...) -> None: ...
    MODEL_SPEC_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FILTER_FIELD_NUMBER: _ClassVar[int]
    PREDICT_STREAMED_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    model_spec: ModelSpec
    inputs: _containers.MessageMap[str, _tensor_pb2.TensorProto]
    output_filter: _containers.RepeatedScalarFieldContainer[str]
    predict_streamed_options: PredictStreamedOptions
    client_id: bytes
    request_options: PredictRequest.RequestOptions
    def __init__(self, model_spec: _Optional[_Union[ModelSpec, _Mapping]] = ..., inputs: _Optional[_Mapping[str, _tensor_pb2.TensorProto]] = ..., output_filter: _Optional[_Iterable[str]] = ..., predict_streamed_options: _Optional[_Union[PredictStreamedOptions, _Mapping]] = ..., client_id: _Optional[bytes] = ..., request_options: _Optional[_Union[PredictRequest.RequestOptions, _Mapping]] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("model_spec", "outputs")
    class OutputsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _tensor_pb2.TensorProto
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_tensor_pb2.TensorProto, _Mapping]] = ...) -> None: ...
    MODEL_SPEC_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    model_spec: ModelSpec
    outputs: _containers.MessageMap[str, _tensor_pb2.TensorProto]
    def __init__(self, model_spec: _Optional[_Union[ModelSpec, _Mapping]] = ..., outputs: _Optional[_Mapping[str, _tensor_pb2.TensorProto]] = ...) -> None: ...

class Class(_message.Message):
    __slots__ = ("label", "score")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    label: str
    score: float
    def __init__(self, label: _Optional[str] = ..., score: _Optional[float] = ...) -> None: ...

class Classifications(_message.Message):
    __slots__ = ("classes",)
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    classes: _containers.RepeatedCompositeFieldContainer[Class]
    def __init__(self, classes: _Optional[_Iterable[_Union[Class, _Mapping]]] = ...) -> None: ...

class ClassificationResult(_message.Message):
    __slots__ = ("classifications",)
    CLASSIFICATIONS_FIELD_NUMBER: _ClassVar[int]
    classifications: _containers.RepeatedCompositeFieldContainer[Classifications]
    def __init__(self, classifications: _Optional[_Iterable[_Union[Classifications, _Mapping]]] = ...) -> None: ...

class ClassificationRequest(_message.Message):
    __slots__ = ("model_spec", "input")
    MODEL_SPEC_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    model_spec: ModelSpec
    input: Input
    def __init__(self, model_spec: _Optional[_Union[ModelSpec, _Mapping]] = ..., input: _Optional[_Union[Input, _Mapping]] = ...) -> None: ...

class ClassificationResponse(_message.Message):
    __slots__ = ("model_spec", "result")
    MODEL_SPEC_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    model_spec: ModelSpec
    result: ClassificationResult
    def __init__(self, model_spec: _Optional[_Union[ModelSpec, _Mapping]] = ..., result: _Optional[_Union[ClassificationResult, _Mapping]] = ...) -> None: ...

class Regression(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: float
    def __init__(self, value: _Optional[float] = ...) -> None: ...

class RegressionResult(_message.Message):
    __slots__ = ("regressions",)
    REGRESSIONS_FIELD_NUMBER: _ClassVar[int]
    regressions: _containers.RepeatedCompositeFieldContainer[Regression]
    def __init__(self, regressions: _Optional[_Iterable[_Union[Regression, _Mapping]]] = ...) -> None: ...

class RegressionRequest(_message.Message):
    __slots__ = ("model_spec", "input")
    MODEL_SPEC_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    model_spec: ModelSpec
    input: Input
    def __init__(self, model_spec: _Optional[_Union[ModelSpec, _Mapping]] = ..., input: _Optional[_Union[Input, _Mapping]] = ...) -> None: ...

class RegressionResponse(_message.Message):
    __slots__ = ("model_spec", "result")
    MODEL_SPEC_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    model_spec: ModelSpec
    result: RegressionResult
    def __init__(self, model_spec: _Optional[_Union[ModelSpec, _Mapping]] = ..., result: _Optional[_Union[RegressionResult, _Mapping]] = ...) -> None: ...

class InferenceTask(_message.Message):
    __slots__ = ("model_spec", "method_name")
    MODEL_SPEC_FIELD_NUMBER: _ClassVar[int]
    METHOD_NAME_FIELD_NUMBER: _ClassVar[int]
    model_spec: ModelSpec
    method_name: str
    def __init__(self, model_spec: _Optional[_Union[ModelSpec, _Mapping]] = ..., method_name: _Optional[str] = ...) -> None: ...

class InferenceResult(_message.Message):
    __slots__ = ("model_spec", "classification_result", "regression_result")
    MODEL_SPEC_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATION_RESULT_FIELD_NUMBER: _ClassVar[int]
    REGRESSION_RESULT_FIELD_NUMBER: _ClassVar[int]
    model_spec: ModelSpec
    classification_result: ClassificationResult
    regression_result: RegressionResult
    def __init__(self, model_spec: _Optional[_Union[ModelSpec, _Mapping]] = ..., classification_result: _Optional[_Union[ClassificationResult, _Mapping]] = ..., regression_result: _Optional[_Union[RegressionResult, _Mapping]] = ...) -> None: ...

class MultiInferenceRequest(_message.Message):
    __slots__ = ("tasks", "input")
    TASKS_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    tasks: _containers.RepeatedCompositeFieldContainer[InferenceTask]
    input: Input
    def __init__(self, tasks: _Optional[_Iterable[_Union[InferenceTask, _Mapping]]] = ..., input: _Optional[_Union[Input, _Mapping]] = ...) -> None: ...

class MultiInferenceResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[InferenceResult]
    def __init__(self, results: _Optional[_Iterable[_Union[InferenceResult, _Mapping]]] = ...) -> None: ...

class SignatureDefMap(_message.Message):
    __slots__ = ("signature_def",)
    class SignatureDefEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _model_pb2.SignatureDef
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_model_pb2.SignatureDef, _Mapping]] = ...) -> None: ...
    SIGNATURE_DEF_FIELD_NUMBER: _ClassVar[int]
    signature_def: _containers.MessageMap[str, _model_pb2.SignatureDef]
    def __init__(self, signature_def: _Optional[_Mapping[str, _model_pb2.SignatureDef]] = ...) -> None: ...

class GetModelMetadataRequest(_message.Message):
    __slots__ = ("model_spec", "metadata_field")
    MODEL_SPEC_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_FIELD_NUMBER: _ClassVar[int]
    model_spec: ModelSpec
    metadata_field: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model_spec: _Optional[_Union[ModelSpec, _Mapping]] = ..., metadata_field: _Optional[_Iterable[str]] = ...) -> None: ...

class GetModelMetadataResponse(_message.Message):
    __slots__ = ("model_spec", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _any_pb2.Any
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_any_pb2.Any, _Mapping]] = ...) -> None: ...
    MODEL_SPEC_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    model_spec: ModelSpec
    metadata: _containers.MessageMap[str, _any_pb2.Any]
    def __init__(self, model_spec: _Optional[_Union[ModelSpec, _Mapping]] = ..., metadata: _Optional[_Mapping[str, _any_pb2.Any]] = ...) -> None: ...

class GetModelStatusRequest(_message.Message):
    __slots__ = ("model_spec",)
    MODEL_SPEC_FIELD_NUMBER: _ClassVar[int]
    model_spec: ModelSpec
    def __init__(self, model_spec: _Optional[_Union[ModelSpec, _Mapping]] = ...) -> None: ...

class ModelVersionStatus(_message.Message):
    __slots__ = ("version", "state", "status")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNKNOWN: _ClassVar[ModelVersionStatus.State]
        START: _ClassVar[ModelVersionStatus.State]
        LOADING: _ClassVar[ModelVersionStatus.State]
        AVAILABLE: _ClassVar[ModelVersionStatus.State]
        UNLOADING: _ClassVar[ModelVersionStatus.State]
        END: _ClassVar[ModelVersionStatus.State]
    UNKNOWN: ModelVersionStatus.State
    START: ModelVersionStatus.State
    LOADING: ModelVersionStatus.State
    AVAILABLE: ModelVersionStatus.State
    UNLOADING: ModelVersionStatus.State
    END: ModelVersionStatus.State
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    version: int
    state: ModelVersionStatus.State
    status: StatusProto
    def __init__(self, version: _Optional[int] = ..., state: _Optional[_Union[ModelVersionStatus.State, str]] = ..., status: _Optional[_Union[StatusProto, _Mapping]] = ...) -> None: ...

class GetModelStatusResponse(_message.Message):
    __slots__ = ("model_version_status",)
    MODEL_VERSION_STATUS_FIELD_NUMBER: _ClassVar[int]
    model_version_status: _containers.RepeatedCompositeFieldContainer[ModelVersionStatus]
    def __init__(self, model_version_status: _Optional[_Iterable[_Union[ModelVersionStatus, _Mapping]]] = ...) -> None: ...

class ReloadConfigRequest(_message.Message):
    __slots__ = ("config", "metric_names")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    METRIC_NAMES_FIELD_NUMBER: _ClassVar[int]
    config: _config_pb2.ModelServerConfig
    metric_names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, config: _Optional[_Union[_config_pb2.ModelServerConfig, _Mapping]] = ..., metric_names: _Optional[_Iterable[str]] = ...) -> None: ...

class Metric(_message.Message):
    __slots__ = ("name", "int64_value_increase")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INT64_VALUE_INCREASE_FIELD_NUMBER: _ClassVar[int]
    name: str
    int64_value_increase: int
    def __init__(self, name: _Optional[str] = ..., int64_value_increase: _Optional[int] = ...) -> None: ...

class ReloadConfigResponse(_message.Message):
    __slots__ = ("status", "metric")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    status: StatusProto
    metric: _containers.RepeatedCompositeFieldContainer[Metric]
    def __init__(self, status: _Optional[_Union[StatusProto, _Mapping]] = ..., metric: _Optional[_Iterable[_Union[Metric, _Mapping]]] = ...) -> None: ...

class SessionRunRequest(_message.Message):
    __slots__ = ("model_spec", "feed", "fetch", "target", "tensor_name_is_alias")
    MODEL_SPEC_FIELD_NUMBER: _ClassVar[int]
    FEED_FIELD_NUMBER: _ClassVar[int]
    FETCH_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TENSOR_NAME_IS_ALIAS_FIELD_NUMBER: _ClassVar[int]
    model_spec: ModelSpec
    feed: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensorProto]
    fetch: _containers.RepeatedScalarFieldContainer[str]
    target: _containers.RepeatedScalarFieldContainer[str]
    tensor_name_is_alias: bool
    def __init__(self, model_spec: _Optional[_Union[ModelSpec, _Mapping]] = ..., feed: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensorProto, _Mapping]]] = ..., fetch: _Optional[_Iterable[str]] = ..., target: _Optional[_Iterable[str]] = ..., tensor_name_is_alias: bool = ...) -> None: ...

class SessionRunResponse(_message.Message):
    __slots__ = ("model_spec", "tensor")
    MODEL_SPEC_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    model_spec: ModelSpec
    tensor: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensorProto]
    def __init__(self, model_spec: _Optional[_Union[ModelSpec, _Mapping]] = ..., tensor: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensorProto, _Mapping]]] = ...) -> None: ...

class LogMetadata(_message.Message):
    __slots__ = ("model_spec", "sampling_config", "saved_model_tags", "timestamp_secs", "dc", "request_origin", "request_criticality", "safe_aggregation_privacy_key")
    MODEL_SPEC_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_CONFIG_FIELD_NUMBER: _ClassVar[int]
    SAVED_MODEL_TAGS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_SECS_FIELD_NUMBER: _ClassVar[int]
    DC_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ORIGIN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_CRITICALITY_FIELD_NUMBER: _ClassVar[int]
    SAFE_AGGREGATION_PRIVACY_KEY_FIELD_NUMBER: _ClassVar[int]
    model_spec: ModelSpec
    sampling_config: _config_pb2.SamplingConfig
    saved_model_tags: _containers.RepeatedScalarFieldContainer[str]
    timestamp_secs: int
    dc: str
    request_origin: str
    request_criticality: str
    safe_aggregation_privacy_key: int
    def __init__(self, model_spec: _Optional[_Union[ModelSpec, _Mapping]] = ..., sampling_config: _Optional[_Union[_config_pb2.SamplingConfig, _Mapping]] = ..., saved_model_tags: _Optional[_Iterable[str]] = ..., timestamp_secs: _Optional[int] = ..., dc: _Optional[str] = ..., request_origin: _Optional[str] = ..., request_criticality: _Optional[str] = ..., safe_aggregation_privacy_key: _Optional[int] = ...) -> None: ...

class ClassifyLog(_message.Message):
    __slots__ = ("request", "response")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    request: ClassificationRequest
    response: ClassificationResponse
    def __init__(self, request: _Optional[_Union[ClassificationRequest, _Mapping]] = ..., response: _Optional[_Union[ClassificationResponse, _Mapping]] = ...) -> None: ...

class RegressLog(_message.Message):
    __slots__ = ("request", "response")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    request: RegressionRequest
    response: RegressionResponse
    def __init__(self, request: _Optional[_Union[RegressionRequest, _Mapping]] = ..., response: _Optional[_Union[RegressionResponse, _Mapping]] = ...) -> None: ...

class PredictLog(_message.Message):
    __slots__ = ("request", "response")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    request: PredictRequest
    response: PredictResponse
    def __init__(self, request: _Optional[_Union[PredictRequest, _Mapping]] = ..., response: _Optional[_Union[PredictResponse, _Mapping]] = ...) -> None: ...

class PredictStreamedLog(_message.Message):
    __slots__ = ("request", "response")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    request: _containers.RepeatedCompositeFieldContainer[PredictRequest]
    response: _containers.RepeatedCompositeFieldContainer[PredictResponse]
    def __init__(self, request: _Optional[_Iterable[_Union[PredictRequest, _Mapping]]] = ..., response: _Optional[_Iterable[_Union[PredictResponse, _Mapping]]] = ...) -> None: ...

class MultiInferenceLog(_message.Message):
    __slots__ = ("request", "response")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    request: MultiInferenceRequest
    response: MultiInferenceResponse
    def __init__(self, request: _Optional[_Union[MultiInferenceRequest, _Mapping]] = ..., response: _Optional[_Union[MultiInferenceResponse, _Mapping]] = ...) -> None: ...

class SessionRunLog(_message.Message):
    __slots__ = ("request", "response")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    request: SessionRunRequest
    response: SessionRunResponse
    def __init__(self, request: _Optional[_Union[SessionRunRequest, _Mapping]] = ..., response: _Optional[_Union[SessionRunResponse, _Mapping]] = ...) -> None: ...

class PredictionLog(_message.Message):
    __slots__ = ("log_metadata", "classify_log", "regress_log", "predict_log", "predict_streamed_log", "multi_inference_log", "session_run_log")
    LOG_METADATA_FIELD_NUMBER: _ClassVar[int]
    CLASSIFY_LOG_FIELD_NUMBER: _ClassVar[int]
    REGRESS_LOG_FIELD_NUMBER: _ClassVar[int]
    PREDICT_LOG_FIELD_NUMBER: _ClassVar[int]
    PREDICT_STREAMED_LOG_FIELD_NUMBER: _ClassVar[int]
    MULTI_INFERENCE_LOG_FIELD_NUMBER: _ClassVar[int]
    SESSION_RUN_LOG_FIELD_NUMBER: _ClassVar[int]
    log_metadata: LogMetadata
    classify_log: ClassifyLog
    regress_log: RegressLog
    predict_log: PredictLog
    predict_streamed_log: PredictStreamedLog
    multi_inference_log: MultiInferenceLog
    session_run_log: SessionRunLog
    def __init__(self, log_metadata: _Optional[_Union[LogMetadata, _Mapping]] = ..., classify_log: _Optional[_Union[ClassifyLog, _Mapping]] = ..., regress_log: _Optional[_Union[RegressLog, _Mapping]] = ..., predict_log: _Optional[_Union[PredictLog, _Mapping]] = ..., predict_streamed_log: _Optional[_Union[PredictStreamedLog, _Mapping]] = ..., multi_inference_log: _Optional[_Union[MultiInferenceLog, _Mapping]] = ..., session_run_log: _Optional[_Union[SessionRunLog, _Mapping]] = ...) -> None: ...

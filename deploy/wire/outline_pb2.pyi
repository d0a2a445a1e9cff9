from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NodeOutline(_message.Message):
    __slots__ = ("name", "op")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OP_FIELD_NUMBER: _ClassVar[int]
    name: str
    op: str
    def __init__(self, name: _Optional[str] = ..., op: _Optional[str] = ...) -> None: ...

class FunctionOutline(_message.Message):
    __slots__ = ("signature", "node_def", "attr", "arg_attr")
    class Signature(_message.Message):
        __slots__ = ("name",)
        NAME_FIELD_NUMBER: _ClassVar[int]
        name: str
        def __init__(self, name: _Optional[str] = ...) -> None: ...
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    NODE_DEF_FIELD_NUMBER: _ClassVar[int]
    ATTR_FIELD_NUMBER: _ClassVar[int]
    ARG_ATTR_FIELD_NUMBER: _ClassVar[int]
    signature: FunctionOutline.Signature
    node_def: _containers.RepeatedCompositeFieldContainer[NodeOutline]
    attr: _containers.RepeatedScalarFieldContainer[bytes]
    arg_attr: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, signature: _Optional[_Union[FunctionOutline.Signature, _Mapping]] = ..., node_def: _Optional[_Iterable[_Union[NodeOutline, _Mapping]]] = ..., attr: _Optional[_Iterable[bytes]] = ..., arg_attr: _Optional[_Iterable[bytes]] = ...) -> None: ...

class NodesOutline(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: _containers.RepeatedCompositeFieldContainer[NodeOutline]
    def __init__(self, node: _Optional[_Iterable[_Union[NodeOutline, _Mapping]]] = ...) -> None: ...

class FunctionsOutline(_message.Message):
    __slots__ = ("function",)
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    function: _containers.RepeatedCompositeFieldContainer[FunctionOutline]
    def __init__(self, function: _Optional[_Iterable[_Union[FunctionOutline, _Mapping]]] = ...) -> None: ...

class NodeInputs(_message.Message):
    __slots__ = ("name", "input")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    name: str
    input: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., input: _Optional[_Iterable[str]] = ...) -> None: ...

class NodesInputs(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: _containers.RepeatedCompositeFieldContainer[NodeInputs]
    def __init__(self, node: _Optional[_Iterable[_Union[NodeInputs, _Mapping]]] = ...) -> None: ...

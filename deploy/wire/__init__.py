"""The serving protocol without TensorFlow.

    serving_pb2    every message: `from deploy.wire import serving_pb2 as pb`
    tensors        numpy arrays <-> TensorProto
    values         what a user passes -> an array that an input takes
    dtypes         TensorFlow's dtype names and numbers, and numpy's types for them
    predict_codec  Predict's messages as bytes, without copying big tensors twice
    contracts      SignatureDef <-> Signature, and the map inside GetModelMetadata
    methods        gRPC method paths
    flags          tensorflow_model_server's command line: every flag, and how it is parsed
    model_config   version directories' names, policies and config entries: what they mean
    status_text    what a status of TensorFlow says, in one line
    text           protobuf text format, and google.protobuf.Any, with TF Serving's names
    records        TFRecord files
    field_scan     where the fields of a message lie, without parsing it whole

Our messages stand in a proto package of their own and have the numbers and types of TensorFlow's, so both can be
loaded in one process. Nothing here imports TensorFlow, gRPC or a network library.
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)

"""Talk to any TensorFlow Serving, without TensorFlow: `connect`, then `predict`, `status`, `metadata`, `reload`.

    with deploy.connect("127.0.0.1:8500") as client:
        client.predict("mnist@stable", {"pixels": images})["probs"]

    connecting   `connect`: from an address to a client; what an address may look like
    interfaces   Predictor and Control (Protocols), Prediction, Metadata
    rest, rpc    the two protocols; both offer both planes (reload: gRPC only)
    base         what both share: refs, deadlines, headers, signatures asked as rarely as is right
    encoding     numpy -> JSON, and which tensors and signatures have no form there; decoding: REST's replies as values
    preparing    a request before it is sent: held against its signature; feature values -> tf.Example
    probing      can a version that says AVAILABLE answer at all?
    failures     foreign errors -> ours: the only place that knows grpc.RpcError and requests' exceptions
    monitoring   what a server says of itself in Prometheus' format
    snippets     calls that can be pasted: a line for a shell, lines of Python
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)

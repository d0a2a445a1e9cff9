"""Model servers in tests: for pytest (`plugin`), or by hand.

    echo         `serve`: a server in this process, in milliseconds, without TensorFlow
    servers      `start_server`: the server of a spec, a repository, a SavedModel or a model object
    sources      what such a server is started from, as a spec
    runs         a test session: its servers share one directory and end with it; watcher: if it is killed, too
    assertions   `assert_predicts`, `assert_contract`, `assert_no_breaking_change`
    plugin, session, items   fixtures and options of pytest; what a session started; smoke checks as its test items

    with serve({"half": {1: lambda inputs: {"y": inputs["x"] / 2}}}) as server:
        client = deploy.connect(server.endpoint)
        ...
        server.publish("half", 2, lambda inputs: {"y": inputs["x"] / 2 + 1})   # loaded when this returns
        server.break_version("half", 3, "out of memory")                       # this one ends with an error

Names are resolved on first use: pytest loads the plugin in every session, and most of them need nothing of this.
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)

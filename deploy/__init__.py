"""Deployment toolkit for TensorFlow Serving: export, publish, configure, start, verify, change.

All public names are attributes of this package: verbs, values, errors, `Client`. They are listed in one table, the
stub `__init__.pyi` beside this file, and resolved on first use: `import deploy` is instant and pulls in no TensorFlow,
Docker, gRPC or requests. Modules keep their names: `deploy.export` is a room, `deploy.export_model` the verb.
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)

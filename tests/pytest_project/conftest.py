"""A project that tests its model with the pytest plugin; run by tests/integration/test_pytest_plugin.py."""

import os

import pytest

from deploy.testing import server_fixture

own = server_fixture(lambda: os.environ["RANKING"], scope="module", name="ranking", labels={"ranking": {"stable": 1}})


@pytest.fixture(scope="session")
def tfs_source():
    return os.environ["RANKING"]


@pytest.fixture(scope="session")
def third():
    import tensorflow as tf

    class Third(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def __call__(self, x):
            return {"y": x / 3}

    return Third()


@pytest.fixture(scope="session")
def other_model(tmp_path_factory):
    """A version whose `x` is of another type."""
    import tensorflow as tf

    from deploy import export_model

    class Other(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="x")])
        def __call__(self, x):
            return {"y": x}

    return export_model(Other(), tmp_path_factory.mktemp("models"), "other").path

"""A project that tests its model with the pytest plugin; run by tests/integration/test_pytest_plugin.py."""

import os

import pytest

from deploy.testing import server_fixture

own = server_fixture(lambda: os.environ["RANKING"], scope="module", name="ranking", labels={"ranking": {"stable": 1}})


@pytest.fixture(scope="session")
def tfs_source():
    return os.environ["RANKING"]

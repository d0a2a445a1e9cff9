"""What is no version yet: it is published first, each time by the same exporter."""

import os

import numpy as np
import pytest

from deploy.testing import assert_predicts

ONE, THIRD = {"x": np.float32([1.0])}, {"y": np.float32([1 / 3])}


def test_a_saved_model(tfs_start):
    server = tfs_start(os.environ["RANKING"] + "/1", name="ranking")
    assert server.models == {"ranking": [1]}
    assert_predicts(server, "ranking", {"x": [4.0]}, {"y": [4.0]})


def test_an_object(tfs_start, third):
    assert_predicts(tfs_start(third), "model", ONE, THIRD)


def test_a_mapping(tfs_start, third):
    server = tfs_start({"third": [third, third], "ranking": os.environ["RANKING"]},
                       labels={"third": {"canary": 2}})
    assert server.models == {"third": [1, 2], "ranking": [1]}
    assert_predicts(server, "third@canary", ONE, THIRD)


def test_a_repository_of_its_own(tfs_repository, tfs_export, third):
    assert list(tfs_repository.models()) == []
    assert tfs_export(third, "third").path.name == "1"
    assert list(tfs_repository.models()) == ["third"]


class TestOfModels:
    @pytest.fixture
    def tfs_models(self, third):
        return {"third": [third, third]}

    def test_a_repository_of_given_models(self, tfs_repository):
        assert list(tfs_repository.versions("third")) == [1, 2]

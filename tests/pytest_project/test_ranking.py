import numpy as np
import pytest

from deploy.testing import assert_contract, assert_no_breaking_change, assert_predicts


def test_the_model_answers(tfs_client, tfs_source):
    x = np.float32([1.0, 2.0])
    assert_predicts(tfs_client, tfs_source.split("/")[-1], {"x": x}, {"y": x / 2 + 2})


def test_by_label_on_a_server_of_this_module(own):
    assert own.models == {"ranking": [1]}
    assert_predicts(own, "ranking@stable", {"x": [4.0]}, {"y": [4.0]})
    assert_contract(own, "ranking", own.spec.models[0].base_path + "/1")


def test_a_wrong_expectation_is_shown(tfs_client, tfs_source):
    with pytest.raises(AssertionError, match=r"over gRPC.*\n.*1 of 2 values differ.*\n  y\[1\]  expected 7.0 +got 3.0"):
        assert_predicts(tfs_client, tfs_source.split("/")[-1], {"x": [1.0, 2.0]}, {"y": [2.5, 7.0]})


def test_another_contract_is_shown(own, other_model):
    with pytest.raises(AssertionError, match="x"):
        assert_contract(own, "ranking", other_model)


def test_a_version_may_take_the_place_of_itself(tfs_source):
    assert_no_breaking_change(tfs_source + "/1", tfs_source + "/1")


def test_a_version_with_another_input_may_not_take_its_place(tfs_source, other_model):
    with pytest.raises(AssertionError, match="x"):
        assert_no_breaking_change(tfs_source + "/1", other_model)


def test_without_tensorflow(tfs_echo):
    server = tfs_echo({"half": {1: lambda inputs: {"y": inputs["x"] / 2}}})
    server.publish("half", 2, lambda inputs: {"y": inputs["x"] / 4})
    assert [s.version for s in server.statuses("half")] == [2, 1]
    assert_predicts(server, "half/1", {"x": [2.0]}, {"y": [1.0]})
    assert server.client.predict("half/2", {"x": [2.0]})["y"].tolist() == [0.5]


@pytest.mark.tfs_backend("container")
def test_in_a_container(tfs_start):
    raise AssertionError("there is no engine")

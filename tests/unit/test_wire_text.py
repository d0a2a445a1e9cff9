"""protobuf text format of the config files."""

from __future__ import annotations

import pytest

from deploy.errors import SpecError
from deploy.wire import serving_pb2 as pb
from deploy.wire.text import from_text, pack, to_text, unpack

MODELS = """\
model_config_list {
  config {
    name: "mnist"
    base_path: "/models/mnist"
    model_platform: "tensorflow"
    model_version_policy {
      specific {
        versions: 1
        versions: 2
      }
    }
    version_labels {
      key: "canary"
      value: 2
    }
    version_labels {
      key: "stable"
      value: 1
    }
  }
}
"""

PLATFORMS = """\
platform_configs {
  key: "tensorflow"
  value {
    source_adapter_config {
      [type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig] {
        legacy_config {
          session_config {
            gpu_options {
              allow_growth: true
            }
          }
          batching_parameters {
            max_batch_size {
              value: 8
            }
          }
        }
      }
    }
  }
}
"""


@pytest.mark.parametrize(("text", "message_type"), [(MODELS, pb.ModelServerConfig), (PLATFORMS, pb.PlatformConfigMap)])
def test_text_comes_back_the_same(text: str, message_type: type[pb.ModelServerConfig]) -> None:
    assert to_text(from_text(text, message_type, "a file")) == text


def test_any_is_filled_with_our_message() -> None:
    config = from_text(PLATFORMS, pb.PlatformConfigMap, "platform.config").platform_configs["tensorflow"]
    adapter = unpack(config.source_adapter_config, pb.SavedModelBundleSourceAdapterConfig)
    assert adapter.legacy_config.session_config.gpu_options.allow_growth
    assert config.source_adapter_config == pack(adapter)


def test_any_with_an_unknown_type_is_printed_raw() -> None:
    config = pb.ModelServerConfig()
    config.custom_model_config.type_url, config.custom_model_config.value = "type.googleapis.com/a.B", b"\x01"
    assert from_text(to_text(config), pb.ModelServerConfig, "") == config


def test_other_spellings_are_understood() -> None:
    text = 'max_batch_size < value: 0x10 >  # comment\nthread_pool_name: { value: \'a\' "b" };'
    text += "allowed_batch_sizes: [1, 16]"
    parameters = from_text(text, pb.BatchingParameters, "batching.config")
    assert parameters.max_batch_size.value == 16
    assert parameters.thread_pool_name.value == "ab"
    assert list(parameters.allowed_batch_sizes) == [1, 16]


@pytest.mark.parametrize(("text", "sentence"), [
    ('model_config_list {\n  config { nmae: "x" }\n}', 'line 2, column 12: .*"ModelConfig" has no field named "nmae"'),
    ("model_config_list {", "line 1, column 19: "),
    ('model_config_list { config { model_version_policy { latest { num_versions: "a" } } } }',
     "line 1, column 76: Couldn't parse integer: \"a\""),
    ("model_config_list {} custom_model_config {}", "another member of oneof"),
    ("custom_model_config { [type.googleapis.com/a.B] {} }", "Type a.B not found"),
    ("?", "line 1, column 1: "),
])
def test_what_is_wrong_is_named_with_its_place(text: str, sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence) as caught:
        from_text(text, pb.ModelServerConfig, "models.config")
    assert caught.value.path == "models.config"
    assert str(caught.value).startswith("models.config: ")
    assert "tfs_deploy" not in str(caught.value)

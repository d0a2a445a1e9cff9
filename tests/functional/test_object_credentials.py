"""Who asks S3: keys of the environment are taken without botocore, as botocore would; files and profiles by it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.addresses import Address
from deploy.errors import RepositoryError, SpecError
from deploy.repository.stores import object_options
from deploy.repository.stores.refusals import StoreRequest, refused

ADDRESS = Address("s3", "bucket", "models")
KEYS = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_REGION",
                 "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_CREDENTIAL_EXPIRATION"):
        monkeypatch.delenv(name, raising=False)
    for name, text in {**KEYS, "HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, text)


def test_keys_of_the_environment_need_no_botocore() -> None:
    code = ("import sys; from deploy.addresses import Address; from deploy.repository.stores import object_options; "
            "s = object_options.service(Address('s3', 'bucket', 'models')); print(s.caller(), s.endpoint, "
            "s.store.credential_provider(), 'botocore' in sys.modules)")
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said == ("access key me https://s3.us-east-1.amazonaws.com {'access_key_id': 'me', 'secret_access_key': 's',"
                    " 'token': 't', 'expires_at': None} False\n")


@pytest.mark.parametrize("name", ["config", "credentials"])
def test_a_file_may_say_where(tmp_path: Path, name: str) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / name).write_text("[default]\nregion = eu-west-1\nendpoint_url = http://127.0.0.1:1\n")
    service = object_options.service(ADDRESS)
    assert (service.caller(), service.endpoint) == ("access key me", "http://127.0.0.1:1")


def test_a_profile_has_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "gone")
    with pytest.raises(RepositoryError, match="profile"):
        object_options.service(ADDRESS)


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9000", "stores", "ftp://127.0.0.1", "http://", "http://a b", "http://[::1"])
def test_an_endpoint_is_a_url(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "me")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", endpoint)
    for address in (ADDRESS, Address("az", "bucket", "models")):
        with pytest.raises(SpecError, match="expected a URL with a host") as caught:
            object_options.service(address)
        assert caught.value.id == "bad-address" and endpoint in caught.value.message


def test_an_account_key_is_base64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "me")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "no!key")
    with pytest.raises(RepositoryError, match="of az://bucket/models can't be used: Invalid Access Key") as caught:
        object_options.service(Address("az", "bucket", "models"))
    assert caught.value.id == "credentials-refused" and "no!key" not in str(caught.value)


def test_nobody_asks_azure() -> None:
    asked = StoreRequest("list it", "az://b", "container b", "the Azure identity", "https://me.blob", "Reader")
    error = refused(Exception("The operation lacked valid authentication credentials for path External: "
                              "ClientAuthenticationError: DefaultAzureCredential failed to retrieve a token"), asked)
    assert error.id == "no-credentials" and "AZURE_STORAGE_ACCOUNT_KEY" in error.hint

"""How S3 and Azure are reached: endpoint, region, credentials, retries, as the services' own tools take them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obstore.exceptions import BaseError
from obstore.store import AzureStore, S3Store

from deploy.addresses import Address
from deploy.errors import RepositoryError
from deploy.extras import install
from deploy.repository.stores.refusals import checked_endpoint, deadline

if TYPE_CHECKING:
    from obstore.store import AzureConfig, ClientConfig, RetryConfig, S3Config, S3Credential


@dataclass(frozen=True, slots=True)
class ObjectService:
    """A bucket that can be asked. missing: what the service says of one that isn't there.

    caller: who asks, for messages; never a secret. permissions: verb -> what it is called there.
    """

    store: S3Store | AzureStore
    container: str
    endpoint: str
    missing: str
    caller: Callable[[], str]
    permissions: Mapping[str, str]


def service(address: Address) -> ObjectService:
    """The service at an address. Raises RepositoryError where nobody says who asks."""
    return _s3(address) if address.scheme == "s3" else _azure(address)


def _retries() -> RetryConfig:
    return {"max_retries": 10, "retry_timeout": timedelta(seconds=deadline()),
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2}}


def _client(endpoint: str) -> ClientConfig:
    # timeout is of one request, a part of 8 MB; read_timeout of a silence in it
    return {"allow_http": endpoint.startswith("http://"), "connect_timeout": timedelta(seconds=min(10, deadline())),
            "timeout": timedelta(seconds=300), "read_timeout": timedelta(seconds=min(30, deadline())),
            "user_agent": "tfs-deploy"}


_S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_S3_PERMISSIONS = {"list": "s3:ListBucket", "get": "s3:GetObject", "put": "s3:PutObject", "delete": "s3:DeleteObject"}


def _s3(address: Address) -> ObjectService:
    unsigned = os.environ.get("AWS_SKIP_SIGNATURE", "").lower() == "true"
    profile = None if unsigned else _EnvironmentKeys.find() or _AwsProfile()
    region = _first("AWS_REGION", "AWS_DEFAULT_REGION") or (profile and profile.region) or "us-east-1"
    endpoint = checked_endpoint(_first(*_S3_ENDPOINTS) or (profile and profile.endpoint) or "",
                                *_S3_ENDPOINTS, "endpoint_url of the AWS profile")
    if profile is not None and not profile.found:
        raise RepositoryError(f"{address}: there are no credentials for it",
                              hint="set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws sso "
                                   "login`; for a public bucket set AWS_SKIP_SIGNATURE=true", id="no-credentials")
    config: S3Config = {"region": region, "checksum_algorithm": "sha256", "skip_signature": unsigned}
    if endpoint:
        config["endpoint"] = endpoint
    store = S3Store(address.host, prefix=address.path or None, config=config, client_options=_client(endpoint),
                    retry_config=_retries(), credential_provider=profile)
    return ObjectService(store, "bucket", endpoint or f"https://s3.{region}.amazonaws.com", "NoSuchBucket",
                   profile.caller if profile is not None else lambda: "nobody (AWS_SKIP_SIGNATURE)", _S3_PERMISSIONS)


class _EnvironmentKeys:
    """Keys from the environment, where no file may say more: botocore takes these first, and takes a second to load."""

    found, region, endpoint = True, "", ""

    def __init__(self, key: str, secret: str) -> None:
        self._key, self._secret = key, secret

    @classmethod
    def find(cls) -> _EnvironmentKeys | None:
        """None where it takes botocore to say: a profile, a file of settings, keys that expire."""
        key, secret = _first("AWS_ACCESS_KEY_ID"), _first("AWS_SECRET_ACCESS_KEY")
        more = _first("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CREDENTIAL_EXPIRATION")
        settings = (_first("AWS_CONFIG_FILE") or "~/.aws/config",
                    _first("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials")
        if not (key and secret) or more or any(Path(path).expanduser().is_file() for path in settings):
            return None
        return cls(key, secret)

    def caller(self) -> str:
        return f"access key {self._key}"

    def __call__(self) -> S3Credential:
        return {"access_key_id": self._key, "secret_access_key": self._secret,
                "token": _first("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN") or None, "expires_at": None}


class _AwsProfile:
    """Credentials as AWS's own tools find them: environment, profiles, SSO, web identity, containers, instances."""

    def __init__(self) -> None:
        import botocore.session  # noqa: PLC0415 -- for S3 only, and slow to load

        session = botocore.session.Session()
        try:
            self._credentials = session.get_credentials()
            self.region = session.get_config_variable("region")
            self.endpoint = session.get_scoped_config().get("endpoint_url")
        except Exception as error:  # botocore's own tree: a profile that isn't there, a file that can't be read
            raise RepositoryError(f"the AWS configuration can't be used: {error}",
                                  hint="check AWS_PROFILE and ~/.aws/config", id="no-credentials") from error

    @property
    def found(self) -> bool:
        return self._credentials is not None

    def caller(self) -> str:
        try:
            return f"access key {self._credentials.get_frozen_credentials().access_key}"
        except Exception:  # they can't be renewed any more
            return "the AWS profile"

    def __call__(self) -> S3Credential:
        frozen = self._credentials.get_frozen_credentials()
        expires = getattr(self._credentials, "_expiry_time", None)  # no public name for it
        return {"access_key_id": frozen.access_key, "secret_access_key": frozen.secret_key, "token": frozen.token,
                "expires_at": expires}


_AZURE_PERMISSIONS = {"list": "Storage Blob Data Reader", "get": "Storage Blob Data Reader",
                      "put": "Storage Blob Data Contributor", "delete": "Storage Blob Data Contributor"}
_FROM_CONNECTION = {"accountname": "account_name", "accountkey": "account_key", "sharedaccesssignature": "sas_key",
                    "blobendpoint": "endpoint"}


def _azure(address: Address) -> ObjectService:
    config = _connection_string(os.environ.get("AZURE_STORAGE_CONNECTION_STRING", ""))
    account = config.get("account_name") or _first("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")
    if not account:
        raise RepositoryError(f"{address}: nobody says which storage account it is in",
                              hint="set AZURE_STORAGE_ACCOUNT_NAME, or AZURE_STORAGE_CONNECTION_STRING",
                              id="no-credentials")
    endpoint = checked_endpoint(config.get("endpoint") or _first("AZURE_STORAGE_ENDPOINT"),
                                "AZURE_STORAGE_ENDPOINT", "BlobEndpoint in AZURE_STORAGE_CONNECTION_STRING")
    key = config.get("account_key") or _first("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY")
    sas = config.get("sas_key") or _first("AZURE_STORAGE_SAS_TOKEN")
    known: AzureConfig = {"account_name": account}
    if endpoint:
        known["endpoint"] = endpoint
    if key:
        known["account_key"] = key
    elif sas:
        known["sas_key"] = sas
    identity = None if key or sas else _azure_identity(address)
    try:
        store = AzureStore(address.host, prefix=address.path or None, config=known, client_options=_client(endpoint),
                           retry_config=_retries(), credential_provider=identity)
    except BaseError as error:  # before anything is asked: a key that is no base64, an account's name that is none
        reason = str(error).partition("Debug source")[0].rpartition("error: ")[2].strip()
        raise RepositoryError(f"the settings of {address} can't be used: {reason}",
                              hint="check the account's name, and its key or SAS token, in the environment",
                              id="credentials-refused") from error
    who = f"account {account}" if key else f"the SAS token for {account}" if sas else "the Azure identity"
    return ObjectService(store, "container", endpoint or f"https://{account}.blob.core.windows.net",
                         "ContainerNotFound", lambda: who, _AZURE_PERMISSIONS)


def _first(*names: str) -> str:
    """The first of these environment variables that says something."""
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def _connection_string(text: str) -> dict[str, str]:
    """What obstore takes of `AccountName=...;AccountKey=...`."""
    pairs = (part.partition("=") for part in text.split(";") if "=" in part)
    return {_FROM_CONNECTION[key.strip().lower()]: value.strip() for key, _, value in pairs
            if key.strip().lower() in _FROM_CONNECTION}


def _azure_identity(address: Address) -> Any:
    try:
        from obstore.auth.azure import AzureCredentialProvider  # noqa: PLC0415 -- may not be installed
    except ImportError as error:
        raise RepositoryError(f"{address}: there is neither an account key nor a SAS token, and azure-identity isn't "
                              "installed", hint=f"set AZURE_STORAGE_ACCOUNT_KEY, or {install('azure')}",
                              id="no-credentials") from error
    logging.getLogger("azure").addHandler(logging.NullHandler())  # what it tried went to stderr, a page of it
    return AzureCredentialProvider()

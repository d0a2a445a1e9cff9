"""What services refuse, in one sentence: from their codes and texts to what was wanted, by whom, and what to do."""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from deploy.errors import SpecError
from deploy.repository.failures import Refused

DEADLINE = "TFS_STORE_DEADLINE"  # seconds after which a request isn't tried again
_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """What was asked of a service: `put models/3/saved_model.pb` at s3://bucket, as whom, and where it is reached."""

    what: str
    store: str
    container: str  # "bucket b"
    caller: str
    endpoint: str
    permission: str  # "s3:PutObject"


class _Kind(NamedTuple):
    id: str
    codes: re.Pattern[str]
    sentence: Callable[[StoreRequest, str], str]
    hint: Callable[[StoreRequest, str], str]


def _kind(id: str, codes: str, sentence: Callable[[StoreRequest, str], str], hint: Callable[[StoreRequest, str], str]
          ) -> _Kind:
    return _Kind(id, re.compile(codes), sentence, hint)


def _retries(text: str) -> str:
    number = re.search(r"after (\d+) retries|retries: (\d+)", text)
    seconds = re.search(r"in ([\d.]+)(ms|s)\b|elapsed: ([\d.]+)(ms|s)\b", text)
    parts = []
    if number and int(number[1] or number[2]):
        parts.append(f"tried {int(number[1] or number[2]) + 1} times")
    if seconds:
        amount = float(seconds[1] or seconds[3]) / (1000 if (seconds[2] or seconds[4]) == "ms" else 1)
        parts.append(f"in {amount:.1f} s")
    return f" ({' '.join(parts)})" if len(parts) == 2 else ""


def _region(text: str) -> str:
    region = re.search(r"<Region>([\w-]+)</Region>|expecting '([\w-]+)'", text)
    return f"; it is in {region[1] or region[2]}" if region else ""


# The first that fits says it. Codes of S3, Azure and GCS; what the HTTP clients say of connections
_KINDS = (
    _kind("no-credentials",
          r"DefaultAzureCredential failed|CredentialUnavailableError",
          lambda *_: "there are no credentials for it",
          lambda *_: "set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or run `az login`"),
    _kind("no-bucket",
          r"NoSuchBucket|ContainerNotFound|bucket does not exist",
          lambda a, _: f"there is no {a.container}",
          lambda a, _: f"create it, or check its name and where it is looked for ({a.endpoint})"),
    _kind("bucket-name",
          r"InvalidBucketName|InvalidResourceName",
          lambda a, _: f"{a.container} can't be one's name",
          lambda *_: "3 to 63 lower-case letters, digits and '-'"),
    _kind("credentials-expired",
          r"ExpiredToken|TokenRefreshRequired|token.{0,20}expired|Request has expired|credentials? (has|have) expired",
          lambda a, _: f"the credentials of {a.caller} have expired",
          lambda *_: "log in again, or renew the token, then repeat the command: what was uploaded is kept"),
    _kind("clock-skew",
          r"RequestTimeTooSkewed|RequestExpired|Date header|Make sure the value of Authorization header.*time",
          lambda a, _: f"{a.endpoint} refuses because this machine's clock and its own differ",
          lambda *_: "set the clock (NTP), then repeat the command"),
    _kind("credentials-refused",
          r"InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|AuthenticationFailed|invalid_grant|"
          r"NoAuthenticationInformation|status code: 401|^401 ",
          lambda a, _: f"{a.endpoint} doesn't accept the credentials of {a.caller}",
          lambda *_: "check the key, the secret or the profile in the environment"),
    _kind("wrong-region",
          r"PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint|IncorrectEndpoint|"
          r"redirect without LOCATION|status code: 30[17]",
          lambda a, text: f"{a.container} isn't in the region that was asked{_region(text)}",
          lambda *_: "set AWS_REGION to the bucket's region"),
    _kind("store-forbidden",
          r"AccessDenied|AuthorizationPermissionMismatch|AuthorizationFailure|InsufficientAccountPermissions|"
          r"AllAccessDisabled|status code: 403|^403 |does not have .* access",
          lambda a, _: f"{a.caller} may not {a.what}",
          lambda a, _: f"give it {a.permission}, or use other credentials"),
    _kind("checksum-refused",
          r"BadDigest|XAmzContentSHA256Mismatch|InvalidDigest|Md5Mismatch|checksum",
          lambda a, _: f"{a.endpoint} got other bytes than were sent, by their checksum",
          lambda *_: "repeat the command: what arrived whole is kept"),
    _kind("store-busy",
          r"SlowDown|ServerBusy|TooManyRequests|status code'?[:,] (429|503)|^(429|503) ",
          lambda a, text: f"{a.endpoint} asks to slow down and did not recover{_retries(text)}",
          lambda *_: "repeat the command later: what was uploaded is kept"),
    _kind("store-failing",
          r"status code'?[:,] 5\d\d|^5\d\d |InternalError",
          lambda a, text: f"{a.endpoint} fails to {a.what}{_retries(text)}",
          lambda *_: "repeat the command: what was uploaded is kept"),
    _kind("name-unresolved",
          r"dns error|failed to lookup|Name or service not known|NameResolution",
          lambda a, text: f"the name in {a.endpoint} can't be resolved{_retries(text)}",
          lambda *_: "check the endpoint and the name server"),
    _kind("certificate-untrusted",
          r"certificate|tls handshake|SSLError|InvalidCertificate",
          lambda a, _: f"{a.endpoint} can't prove who it is: its certificate isn't trusted here",
          lambda *_: "add its authority to the system's, or name it in SSL_CERT_FILE"),
    _kind("store-unreachable",
          r"tcp connect|onnection refused|onnect error|error sending request|onnection (reset|closed|aborted)|"
          r"ConnectionError|Max retries exceeded|timed? ?out|operation timed out|incomplete message|"
          r"IncompleteRead|broken pipe",
          lambda a, text: f"{a.endpoint} can't be reached, or went away, to {a.what}{_retries(text)}",
          lambda *_: "check the endpoint and the network, then repeat the command"),
)


def refused(error: BaseException, asked: StoreRequest) -> Refused:
    """The sentence for what a client library raised."""
    text = str(error)
    for kind in _KINDS:
        if kind.codes.search(text):
            return Refused(f"{asked.store}: {kind.sentence(asked, text)}", kind.hint(asked, text), kind.id)
    line = re.sub(r"\s+", " ", text.partition("Debug source")[0]).strip()
    return Refused(f"{asked.store}: can't {asked.what}: {line[:300]}", "", "store-refused")


def deadline() -> float:
    """Seconds. Raises SpecError."""
    text = os.environ.get(DEADLINE, "")
    try:
        seconds = float(text) if text else _SECONDS
    except ValueError:
        seconds = -1
    if not 0 < seconds <= 3600:
        raise SpecError(f"{DEADLINE}: expected seconds, more than 0 and at most 3600, got {text!r}")
    return seconds


def checked_endpoint(endpoint: str, *variables: str) -> str:
    """As it is, "" too. variables: where it may come from, the last one if no other has it.

    Raises SpecError for what no client takes for a URL.
    """
    try:
        parts = urllib.parse.urlsplit(endpoint)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"\s", endpoint)
        good = good and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if endpoint and not good:
        name = next((name for name in variables if os.environ.get(name) == endpoint), variables[-1])
        raise SpecError(f"{name}: expected a URL with a host, such as http://127.0.0.1:9000, got {endpoint!r}",
                        hint="begin it with http:// or https://", id="bad-address")
    return endpoint

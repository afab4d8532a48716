"""What an S3 endpoint's refusals mean for a backup, in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore import exceptions as boto
from urllib3.exceptions import HTTPError

from engine.errors import (
    BackupError,
    Cold,
    CredentialsRefused,
    NotFound,
    Retained,
    StoreError,
    StoreRefused,
    Unreachable,
)

_KEY_ID = {"InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClientException"}
_SECRET = {"SignatureDoesNotMatch"}
_TOKEN = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
_DENIED = {"AccessDenied", "403", "Forbidden", "AllAccessDisabled", "AccountProblem", "Unauthorized", "401"}
_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}
_MISSING = {"NoSuchKey", "404", "NoSuchVersion"}
_PASSING = {"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling", "OperationAborted"}
_KEPT = {"replica": "copies that are there already, and the local one."}
_NETWORK = (boto.ConnectionError, boto.HTTPClientError, boto.IncompleteReadError, HTTPError, OSError)


@dataclass(frozen=True)
class Place:
    """Names of a bucket, for messages: the replica's name, the bucket, the endpoint without secrets.

    Attributes:
        role: What ``replica`` is the name of: a ``replica`` of the vault, or a ``source`` that is backed up.
    """

    replica: str
    bucket: str
    endpoint: str
    role: str = "replica"

    def __str__(self) -> str:
        return f"s3://{self.bucket}/ at {self.endpoint}"


@contextmanager
def speaking_of(action: str, place: Place) -> Iterator[None]:
    """Turn boto's errors of the block into ``engine.errors`` that say what failed, where, and what to do."""
    try:
        yield
    except (boto.BotoCoreError, boto.ClientError, HTTPError, OSError) as error:
        # "from None": a request's own text can hold signed headers.
        raise in_words(error, action, place) from None


def code_of(error: BaseException) -> str:
    """S3's error code, such as ``NoSuchKey``; the HTTP status where there was no body; else empty."""
    if isinstance(error, boto.ClientError):
        return str(error.response.get("Error", {}).get("Code", ""))
    return ""


def status_of(error: BaseException) -> int:
    """The HTTP status of a refusal, 0 when there was no answer."""
    if isinstance(error, boto.ClientError):
        return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return 0


def in_words(error: BaseException, action: str, place: Place) -> BackupError:
    """The error to raise instead of ``error``; ``action`` completes "Could not ..."."""
    what = f"Could not {action} in {place}"
    if isinstance(error, boto.ClientError):
        return _refused(error, what, place)
    if isinstance(error, (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError)):
        return CredentialsRefused(
            f"{what}: no access key and secret key are configured.",
            remedy=f"set access_key and secret_key of {place.role} {place.replica}.",
        )
    if isinstance(error, boto.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return StoreRefused(
            f"{what}: the endpoint's certificate is not trusted.",
            remedy="install its CA on this machine (update-ca-certificates) and set AWS_CA_BUNDLE, "
            f"or, for a private network only, verify_tls: false for {place.role} {place.replica}.",
        )
    if isinstance(error, _NETWORK):
        return Unreachable(
            f"{what}: no answer or cut off ({type(error).__name__}).",
            kept=_KEPT.get(place.role, "nothing was changed"),
            remedy=f"check the network and endpoint_url of {place.role} {place.replica}; the next run catches up.",
        )
    if isinstance(error, boto.ParamValidationError):
        return StoreRefused(f"{what}: {error}")
    return StoreError(f"{what}: {type(error).__name__}: {error}")


def _refused(error: boto.ClientError, what: str, place: Place) -> BackupError:
    code, status = code_of(error), status_of(error)
    detail: dict[str, Any] = dict(error.response.get("Error", {}))
    said = f"{code}: {detail.get('Message', '')}".rstrip(": ")
    if code in _KEY_ID | _SECRET | _TOKEN:
        return _credentials(code, what, place)
    if code == "InvalidObjectState":
        return Cold(
            f"{what}: the object is in cold storage ({detail.get('StorageClass', 'GLACIER')}); thaw it first.",
            remedy="backups thaw FILE; or: "
            f"aws s3api restore-object --bucket {place.bucket} --key KEY --restore-request Days=3, "
            'wait until head-object shows ongoing-request="false", then run this again.',
        )
    if _is_locked(said):
        return Retained(
            f"{what}: the object is retained by object lock ({said}).",
            kept="the object.",
            remedy="nothing, unless it must go sooner: it can be deleted when its retention ends.",
        )
    if code in _DENIED or (status in {401, 403} and code != "RequestTimeTooSkewed"):
        return CredentialsRefused(
            f"{what}: the key is known but may not do this ({said}).",
            remedy=_permissions(place),
        )
    return _other(code, status, said, what, place)


def _permissions(place: Place) -> str:
    objects, bucket = "s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload", "s3:ListBucket"
    if place.role == "replica":
        bucket += ", s3:ListBucketMultipartUploads"
    else:
        objects = "s3:GetObject, s3:GetObjectTagging (and to restore s3:PutObject, s3:PutObjectTagging)"
    return (
        f"let access_key of {place.role} {place.replica} do {objects} on arn:aws:s3:::{place.bucket}/* and {bucket} "
        f"on arn:aws:s3:::{place.bucket}."
    )


def _credentials(code: str, what: str, place: Place) -> BackupError:
    if code in _KEY_ID:
        reason, setting = "the endpoint does not know this access key id", "access_key"
    elif code in _SECRET:
        reason, setting = "the secret key does not belong to the access key id", "secret_key"
    else:
        reason, setting = "the session token has expired or is not valid", "access_key and secret_key"
    return CredentialsRefused(
        f"{what}: {reason} ({code}).",
        kept=_KEPT.get(place.role, "nothing was changed"),
        remedy=f"correct {setting} of {place.role} {place.replica}; is it the pair made for {place.endpoint}?",
    )


def _other(code: str, status: int, said: str, what: str, place: Place) -> BackupError:
    if code == "NoSuchBucket":
        return StoreRefused(
            f"{what}: there is no such bucket.",
            remedy=f"correct bucket of {place.role} {place.replica}, or make it: aws s3 mb s3://{place.bucket}",
        )
    if code in _REGION:
        return StoreRefused(
            f"{what}: the bucket lives in another region ({said}).",
            remedy=f"correct region (and endpoint_url) of {place.role} {place.replica}.",
        )
    if code == "RequestTimeTooSkewed":
        return StoreRefused(
            f"{what}: this machine's clock is more than 15 minutes off.",
            remedy="set it: timedatectl set-ntp true",
        )
    if code in _MISSING:
        return NotFound(f"{what}: it is not there.")
    if code == "InvalidStorageClass":
        return StoreRefused(
            f"{what}: the endpoint does not have this storage class.",
            remedy=f"correct storage_class of {place.role} {place.replica}; most endpoints but AWS need it empty.",
        )
    if code in {"BadDigest", "XAmzContentSHA256Mismatch", "InvalidDigest"}:
        return StoreError(f"{what}: bytes were damaged on the way to it ({said}).", remedy="run it again.")
    if code in _PASSING or status >= 500 or status == 429:
        return StoreError(f"{what}: the endpoint is in trouble or busy ({said}).", remedy="try again later.")
    return StoreRefused(
        f"{what}: {said or f'HTTP {status}'}.", remedy="see docs/stores.md for what this endpoint needs."
    )


def _is_locked(said: str) -> bool:
    text = said.lower()
    return ("object lock" in text and "missing" not in text) or "worm protected" in text

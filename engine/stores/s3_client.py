"""A boto3 client for one configured endpoint, with what that endpoint needs set and nothing left to chance."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.loaders import Loader, create_loader
from pydantic import SecretStr

from engine.config import ObjectStoreConfig
from engine.stores.s3_errors import Place

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

STATE = ".backup-flows"
ATTEMPTS = 4
CONNECT_SECONDS = 15
READ_SECONDS = 60


def make_client(
    config: ObjectStoreConfig, connections: int = 0, *, read_seconds: int = READ_SECONDS, attempts: int = ATTEMPTS
) -> S3Client:
    """A client of its own session; safe to use from several threads, ``connections`` of them at a time (0: as many as
    ``threads`` of the configuration needs).

    boto's standard mode retries timeouts, cut connections, throttling and 5xx, never a refusal.
    Responses are checked against our own digests, so that boto's checksums of them (which break
    ranged reads on some endpoints) stay off; whether requests carry one is decided by ``sends_sha256``.
    """
    core = botocore.session.Session()
    core.register_component("data_loader", _descriptions())
    session = boto3.session.Session(
        botocore_session=core,
        aws_access_key_id=_secret(config.access_key),
        aws_secret_access_key=_secret(config.secret_key),
        region_name=config.region,
    )
    return session.client(
        "s3",
        endpoint_url=config.endpoint_url or None,
        verify=None if config.verify_tls else False,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": _addressing(config)},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=CONNECT_SECONDS,
            read_timeout=read_seconds,
            max_pool_connections=connections or config.threads + 4,
            user_agent_extra="backup-flows",
        ),
    )


@cache
def _descriptions() -> Loader:
    """What boto knows of the service: read once in a process, for that costs more than all else of a client."""
    return create_loader()


def sends_sha256(config: ObjectStoreConfig) -> bool:
    """Whether uploads carry a SHA-256 that the server is to check."""
    if config.checksums == "auto":
        return not config.endpoint_url
    return config.checksums == "sha256"


def place_of(config: ObjectStoreConfig) -> Place:
    """The bucket's names for messages; a password written into the endpoint's URL is left out."""
    endpoint = f"AWS {config.region}"
    if config.endpoint_url:
        parts = urlsplit(config.endpoint_url)
        endpoint = f"{parts.scheme}://{parts.netloc.rsplit('@', 1)[-1]}{parts.path}".rstrip("/")
    return Place(config.name, config.bucket, endpoint)


def fixed_prefix(config: ObjectStoreConfig) -> str:
    """The part of the configured key template that is the same for every backup."""
    return re.split(r"[{]", config.path or "", maxsplit=1)[0].lstrip("/")


def state_prefix(config: ObjectStoreConfig) -> str:
    """Where probes go: below the configured path, should the key be allowed no other place."""
    folder = fixed_prefix(config).rpartition("/")[0]
    return f"{folder}/{STATE}" if folder else STATE


def _addressing(config: ObjectStoreConfig) -> Literal["auto", "path", "virtual"]:
    """``auto`` is the host name on AWS and the path elsewhere: few private endpoints have wildcard DNS."""
    if config.addressing == "auto":
        return "path" if config.endpoint_url else "auto"
    return config.addressing


def _secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value else None

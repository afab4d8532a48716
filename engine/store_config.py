"""An S3 replica as plain validated data."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from engine.addresses import require_http
from engine.cold.classes import COLD_CLASSES
from engine.durations import seconds_of
from engine.pacing import rate_of
from engine.retention.policy import readable

_OF_AWS = ("STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR")


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)  # an input may be a secret


class ObjectStoreConfig(Model):
    """An S3 endpoint and a bucket in it: AWS, Spaces, MinIO and others. Or another disk of this machine."""

    name: str = Field(description="What this copy is called: spaces, aws, offsite...")
    bucket: str = Field("", description="Bucket name.")
    directory: str | None = Field(
        None, description="Instead of a bucket: a directory on another disk of the worker's machine, absolute."
    )
    bandwidth: str = Field(
        "", description="Send no faster than this: 500kB, 10MB, 1GB a second. Empty: as fast as it goes."
    )
    concurrency: int = Field(
        2,
        ge=1,
        le=16,
        description="Backups copied there side by side; each takes some 25 MB of memory, and more of very large ones. "
        "They share the bandwidth.",
    )
    retention: dict[str, str] = Field(
        default_factory=dict,
        description="What is kept otherwise there than by the vault's retention: rules of the same form, which come "
        "before it.",
    )
    endpoint_url: str | None = Field(None, description="Empty for AWS itself.")
    region: str = Field("us-east-1", description="Region name; Spaces and MinIO accept any.")
    access_key: SecretStr | None = Field(None, description="Access key id.")
    secret_key: SecretStr | None = Field(None, description="Secret access key.")
    path: str | None = Field(None, description="Key template; empty means the vault's own template.")
    storage_class: str | None = Field(None, description="For data, such as STANDARD_IA. Manifests stay STANDARD.")
    archive_class: str | None = Field(
        None,
        description="For the data of weekly and monthly archives, such as GLACIER_IR; empty: as any other.",
    )
    cold_class: str | None = Field(
        None,
        description="Old monthly archives move there: GLACIER or DEEP_ARCHIVE. Empty: they stay where they are.",
    )
    cold_after: str = Field("90d", description="How old a monthly archive is when it moves (90d); not the newest one.")
    lock: Literal["governance", "compliance"] | None = Field(
        None,
        description="Object lock of data and manifests; the bucket must have been made with it. governance: a key with "
        "a right of its own can lift it. compliance: nobody can. Empty: none but the bucket's own.",
    )
    lock_days: int = Field(
        0, ge=0, le=3660, description="For how many days; what is kept for less is locked for as long as it is kept."
    )
    deletes: bool = Field(
        True, description="May this key delete? false: retention leaves this place to a run with another key."
    )
    addressing: Literal["auto", "path", "virtual"] = Field(
        "auto", description="Bucket in the path or in the host name."
    )
    checksums: Literal["auto", "sha256", "when_required"] = Field(
        "auto",
        description="sha256: the server checks every part. when_required: for endpoints that reject "
        "checksum headers. auto: sha256 on AWS itself, when_required elsewhere.",
    )
    server_side_encryption: str | None = Field(None, description="AES256 or aws:kms; empty for none.")
    threads: int = Field(2, ge=1, le=16, description="Parts uploaded side by side.")
    verify_tls: bool = Field(True, description="Check the endpoint's certificate.")

    @field_validator("endpoint_url")
    @classmethod
    def _endpoint_is_http(cls, url: str | None) -> str | None:
        return require_http(url, "endpoint_url") if url else None

    @field_validator("bucket")
    @classmethod
    def _bucket_is_a_name(cls, bucket: str) -> str:
        if "/" in bucket or ":" in bucket:
            raise ValueError("bucket is the bucket's name alone, with no address and no folder (see path)")
        return bucket

    @field_validator("bandwidth")
    @classmethod
    def _is_a_rate(cls, value: str) -> str:
        try:
            if value:
                rate_of(value)
        except ValueError as error:
            raise ValueError(f"bandwidth {value!r} {error}") from None
        return value

    @field_validator("retention")
    @classmethod
    def _rules_can_be_read(cls, value: dict[str, str]) -> dict[str, str]:
        return readable(value, "its retention")

    @model_validator(mode="after")
    def _is_one_place(self) -> ObjectStoreConfig:
        if bool(self.bucket) == bool(self.directory):
            raise ValueError(f"replica {self.name} needs a bucket, or the directory of another disk, and not both")
        if self.directory is None:
            return self
        if not self.directory.startswith("/"):
            raise ValueError(f"replica {self.name}: the directory {self.directory!r} is not absolute")
        own = {"name", "directory", "bucket", "path", "bandwidth", "concurrency", "retention", "deletes"}
        fields = type(self).model_fields
        idle = sorted(name for name in fields if name not in own and getattr(self, name) != fields[name].default)
        if idle:
            raise ValueError(f"replica {self.name} is a directory: {', '.join(idle)} say nothing there")
        return self

    @field_validator("archive_class")
    @classmethod
    def _archives_can_be_read(cls, value: str | None) -> str | None:
        if value in COLD_CLASSES:
            raise ValueError(
                f"archive_class {value} has to be thawed before it can be read or verified; "
                "use GLACIER_IR, which costs little more and is read at once, or have old ones move later: cold_class"
            )
        if value and not re.fullmatch(r"[A-Z][A-Z0-9_-]*", value):
            raise ValueError(f"archive_class {value!r} is no storage class; one looks like STANDARD_IA or GLACIER_IR")
        return value or None

    @field_validator("cold_class")
    @classmethod
    def _is_cold(cls, value: str | None) -> str | None:
        if value and value not in COLD_CLASSES:
            raise ValueError(f"cold_class {value!r} is no cold storage; there are {' and '.join(COLD_CLASSES)}")
        return value or None

    @field_validator("cold_after")
    @classmethod
    def _is_at_least_a_day(cls, value: str) -> str:
        try:
            short = seconds_of(value) < 86_400
        except ValueError as error:
            raise ValueError(f"cold_after {error}") from None
        if short:
            raise ValueError(f"cold_after {value} is less than a day")
        return value

    @model_validator(mode="after")
    def _lock_has_days(self) -> ObjectStoreConfig:
        if bool(self.lock) != bool(self.lock_days):
            raise ValueError(f"replica {self.name}: lock (governance or compliance) and lock_days go together")
        return self

    @model_validator(mode="after")
    def _class_is_one_of_its_endpoint(self) -> ObjectStoreConfig:
        for name in ("storage_class", "archive_class"):
            value = getattr(self, name)
            known = (*_OF_AWS, *(COLD_CLASSES if name == "storage_class" else ()))
            if value and not self.endpoint_url and value not in known:
                raise ValueError(f"{name} {value} is none of AWS; it has {', '.join(known)}")
        return self

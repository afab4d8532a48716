"""An S3 endpoint whose buckets are backed up."""

from __future__ import annotations

from typing import ClassVar

from prefect.blocks.core import Block
from pydantic import ConfigDict

from blocks.base import LENIENT, plain
from engine.config import BucketsConfig


class BucketEndpoint(Block, BucketsConfig):
    """Buckets of MinIO, AWS S3, Spaces or another S3 service that are backed up, object by object."""

    model_config: ClassVar[ConfigDict] = LENIENT
    _block_type_name = "Backup buckets"
    _block_type_slug = "bucket-endpoint"
    _description = "An S3 endpoint whose buckets are backed up: MinIO, AWS, DigitalOcean Spaces and others."

    def to_config(self) -> BucketsConfig:
        """The buckets as the engine takes them."""
        return BucketsConfig.model_validate(plain(self))

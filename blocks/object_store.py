"""An S3 bucket that holds copies of backups."""

from __future__ import annotations

from typing import ClassVar

from prefect.blocks.core import Block
from pydantic import ConfigDict

from blocks.base import LENIENT, plain
from engine.config import ObjectStoreConfig


class ObjectStore(Block, ObjectStoreConfig):
    """A bucket at AWS S3, DigitalOcean Spaces, MinIO or another S3 service, as a replica of a vault."""

    model_config: ClassVar[ConfigDict] = LENIENT
    _block_type_name = "Backup object store"
    _block_type_slug = "object-store"
    _description = "An S3 bucket that holds copies of backups: AWS, DigitalOcean Spaces, MinIO and others."

    def to_config(self) -> ObjectStoreConfig:
        """The store as the engine takes it."""
        return ObjectStoreConfig.model_validate(plain(self))

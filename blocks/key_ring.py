"""The encryption keys of a site."""

from __future__ import annotations

from typing import ClassVar

from prefect.blocks.core import Block
from prefect.types import SecretDict
from pydantic import ConfigDict, Field, SecretStr

from blocks.base import LENIENT
from engine.config import KeyRingConfig


class KeyRing(Block):
    """The active encryption key, and every key that an existing backup still needs.

    A key leaves this ring only when the last backup written with it is gone.
    """

    model_config: ClassVar[ConfigDict] = LENIENT
    _block_type_name = "Backup key ring"
    _block_type_slug = "key-ring"
    _description = "Encryption keys of a site's backups: the active one and all that are still needed."

    current: str = Field("main", title="Current key", description="Id of the key that new backups are written with.")
    keys: SecretDict = Field(
        default_factory=lambda: SecretDict({}),
        title="Keys",
        description='All keys still needed to read a backup, by id: {"main": "..."}. '
        "Make one with: openssl rand -base64 48",
    )

    def to_config(self) -> KeyRingConfig:
        """The ring as the engine takes it."""
        keys = {name: SecretStr(str(value)) for name, value in self.keys.get_secret_value().items()}
        return KeyRingConfig(current=self.current, keys=keys)

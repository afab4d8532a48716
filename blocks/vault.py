"""Where a site's backups stand."""

from __future__ import annotations

from typing import ClassVar, Literal

from prefect.blocks.core import Block
from pydantic import ConfigDict, Field

from blocks.base import LENIENT, plain
from blocks.key_ring import KeyRing
from engine.config import ObjectStoreConfig, VaultConfig

_OF = VaultConfig.model_fields


class Vault(Block):
    """A local directory, the names of its copies elsewhere, the key ring and how files are called.

    Copies are named, not nested: a block inside a list is stored by value, and a rotated secret would
    not show. The key ring is nested, which Prefect keeps as a reference.
    """

    model_config: ClassVar[ConfigDict] = LENIENT
    _block_type_name = "Backup vault"
    _block_type_slug = "vault"
    _description = "Where a site's backups stand: local directory, copies elsewhere, keys, retention, naming."

    root: str = Field(title="Local directory", description=_OF["root"].description)
    keys: KeyRing = Field(default_factory=KeyRing, title="Key ring", description="Keys that encrypt these backups.")
    path: str = Field(_OF["path"].default, title="Folder template", description=_OF["path"].description)
    directories: dict[str, str] = Field(
        default_factory=dict, title="Folder names", description=_OF["directories"].description
    )
    retention: dict[str, str] = Field(default_factory=dict, title="Retention", description=_OF["retention"].description)
    verify_within: str = Field("30d", title="Read back within", description=_OF["verify_within"].description)
    replicas: list[str] = Field(
        default_factory=list,
        title="Copies",
        description="Object store blocks that each hold a full copy, such as object-store/workset-spaces.",
    )
    compression: Literal["gzip", "zstd"] = Field(
        "gzip", title="Compression", description=_OF["compression"].description
    )
    compression_level: int = Field(-1, title="Compression level", description=_OF["compression_level"].description)
    iterations: int = Field(10_000, ge=10_000, title="Key rounds", description=_OF["iterations"].description)

    def to_config(self, replicas: list[ObjectStoreConfig]) -> VaultConfig:
        """The vault as the engine takes it; ``replicas`` are the loaded stores that ``self.replicas`` names."""
        values = plain(self, "keys", "replicas")
        return VaultConfig.model_validate({**values, "keys": self.keys.to_config(), "replicas": replicas})

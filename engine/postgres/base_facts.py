"""What the manifest of a base backup says beyond that of any backup: ``contents["base_backup"]``."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.errors import IntegrityError
from engine.manifest import Manifest

DUMP_FORMAT = "base"
CONTENTS = "base_backup"
MANIFEST_ROLE = "backup-manifest"


def tablespace_role(oid: int) -> str:
    """The companion that holds a tablespace's tar."""
    return f"tablespace-{oid}"


class BaseTablespace(BaseModel):
    """A directory outside the main one. ``bytes`` as the server estimated them."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    oid: int
    path: str
    bytes: int = 0


class BaseFacts(BaseModel):
    """The facts of one base backup. Positions are LSNs as numbers; times are UTC by the server's clock.

    The WAL between ``start`` and ``stop`` is in the backup itself.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    system_id: str
    timeline: int
    start: int = Field(description="LSN at which the replay begins.")
    stop: int = Field(description="LSN at which the copy is consistent: the earliest target.")
    segment_size: int
    started_at: datetime
    consistent_at: datetime = Field(description="Read after the end: the earliest moment it can serve.")
    version_num: int = Field(description="150017 for 15.17.")
    tablespaces: list[BaseTablespace] = Field(default_factory=list)
    databases: dict[str, int] = Field(default_factory=dict, description="Bytes by name.")
    slot: str = Field(default="", description="The slot that keeps the WAL after it.")


def base_facts(manifest: Manifest) -> BaseFacts:
    """The facts of a base backup from its manifest.

    Raises:
        IntegrityError: It is not the manifest of one.
    """
    try:
        return BaseFacts.model_validate(manifest.contents.get(CONTENTS))
    except ValidationError:
        raise IntegrityError(f"The manifest of {manifest.file} holds no facts of a base backup.") from None

"""An n8n."""

from __future__ import annotations

from typing import ClassVar

from prefect.blocks.core import Block
from pydantic import ConfigDict

from blocks.base import LENIENT, plain
from engine.config import N8nConfig


class N8nInstance(Block, N8nConfig):
    """An n8n whose workflows, credentials and tags are backed up; on this host or in a container."""

    model_config: ClassVar[ConfigDict] = LENIENT
    _block_type_name = "Backup n8n"
    _block_type_slug = "n8n-instance"
    _description = "An n8n whose workflows, credentials and tags are backed up; on this host or in a container."

    def to_config(self) -> N8nConfig:
        """The n8n as the engine takes it."""
        return N8nConfig.model_validate(plain(self))

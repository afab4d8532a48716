"""A Docker engine and its volumes."""

from __future__ import annotations

from typing import ClassVar

from prefect.blocks.core import Block
from pydantic import ConfigDict

from blocks.base import LENIENT, plain
from engine.config import VolumesConfig


class DockerEngine(Block, VolumesConfig):
    """Named volumes of a Docker engine, and the containers that are stopped or paused while they are read."""

    model_config: ClassVar[ConfigDict] = LENIENT
    _block_type_name = "Backup Docker engine"
    _block_type_slug = "docker-engine"
    _description = "A Docker engine: which of its volumes are backed up, and whom to stop or pause meanwhile."

    def to_config(self) -> VolumesConfig:
        """The volumes as the engine takes them."""
        return VolumesConfig.model_validate(plain(self))

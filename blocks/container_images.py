"""The containers of a compose project and their images."""

from __future__ import annotations

from typing import ClassVar

from prefect.blocks.core import Block
from pydantic import ConfigDict

from blocks.base import LENIENT, plain
from engine.config import ImagesConfig


class ContainerImages(Block, ImagesConfig):
    """How the containers of a compose project are set up, and the images that no registry has."""

    model_config: ClassVar[ConfigDict] = LENIENT
    _block_type_name = "Backup container images"
    _block_type_slug = "container-images"
    _description = "Containers of a compose project, recorded with every backup, and the images they run on."

    def to_config(self) -> ImagesConfig:
        """The containers as the engine takes them."""
        return ImagesConfig.model_validate(plain(self))

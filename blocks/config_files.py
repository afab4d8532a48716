"""Config files of a host."""

from __future__ import annotations

from typing import ClassVar

from prefect.blocks.core import Block
from pydantic import ConfigDict

from blocks.base import LENIENT, plain
from engine.config import ConfigFilesConfig


class ConfigFiles(Block, ConfigFilesConfig):
    """Files and directories of the worker's host: .env, compose files, nginx, letsencrypt."""

    model_config: ClassVar[ConfigDict] = LENIENT
    _block_type_name = "Backup config files"
    _block_type_slug = "config-files"
    _description = "Files and directories of the worker's host that are backed up: .env, compose files, nginx..."

    def to_config(self) -> ConfigFilesConfig:
        """The files as the engine takes them."""
        return ConfigFilesConfig.model_validate(plain(self))

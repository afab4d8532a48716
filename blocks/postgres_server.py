"""A PostgreSQL server."""

from __future__ import annotations

from typing import ClassVar

from prefect.blocks.core import Block
from pydantic import ConfigDict

from blocks.base import LENIENT, plain
from engine.config import PostgresConfig


class PostgresServer(Block, PostgresConfig):
    """A PostgreSQL server whose databases are backed up; on this host or in a container."""

    model_config: ClassVar[ConfigDict] = LENIENT
    _block_type_name = "PostgreSQL server"
    _block_type_slug = "postgres-server"
    _description = "A PostgreSQL server whose databases are backed up; on this host or in a container."

    def to_config(self) -> PostgresConfig:
        """The server as the engine takes it."""
        return PostgresConfig.model_validate(plain(self))

"""A MySQL or MariaDB server."""

from __future__ import annotations

from typing import ClassVar

from prefect.blocks.core import Block
from pydantic import ConfigDict

from blocks.base import LENIENT, plain
from engine.config import MySQLConfig


class MySQLServer(Block, MySQLConfig):
    """A MySQL or MariaDB server whose databases are backed up; on this host or in a container."""

    model_config: ClassVar[ConfigDict] = LENIENT
    _block_type_name = "MySQL or MariaDB server"
    _block_type_slug = "mysql-server"
    _description = "A MySQL or MariaDB server whose databases are backed up; on this host or in a container."

    def to_config(self) -> MySQLConfig:
        """The server as the engine takes it."""
        return MySQLConfig.model_validate(plain(self))

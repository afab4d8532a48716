"""Which class drills which kind of source. A new kind is one line here and one class."""

from __future__ import annotations

from typing import Any

from engine.config import (
    BucketsConfig,
    ConfigFilesConfig,
    ImagesConfig,
    MySQLConfig,
    N8nConfig,
    PostgresConfig,
    SourceConfig,
    VolumesConfig,
)
from engine.drill.base import SourceDrill


def drill_class(config: SourceConfig) -> type[SourceDrill[Any]]:
    """The class for a source's kind."""
    from engine.drill.buckets import BucketsDrill
    from engine.drill.config_files import ConfigFilesDrill
    from engine.drill.images import ImagesDrill
    from engine.drill.mysql import MySQLDrill
    from engine.drill.n8n import N8nDrill
    from engine.drill.postgres import PostgresDrill
    from engine.drill.volumes import VolumesDrill

    known: dict[type, type[SourceDrill[Any]]] = {
        MySQLConfig: MySQLDrill,
        PostgresConfig: PostgresDrill,
        VolumesConfig: VolumesDrill,
        ConfigFilesConfig: ConfigFilesDrill,
        BucketsConfig: BucketsDrill,
        N8nConfig: N8nDrill,
        ImagesConfig: ImagesDrill,
    }
    return known[type(config)]

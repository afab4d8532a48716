"""Config files of a machine: ``.env``, compose files, nginx, letsencrypt; as a tar of their trees."""

from engine.config_files.source import ConfigFilesSource

__all__ = ["ConfigFilesSource"]

"""Docker volumes: captured as archives, brought back into new volumes or in place of those that are there."""

from engine.volumes.source import VolumesSource

__all__ = ["VolumesSource"]

"""Objects that a restore could not bring back: counted, named, and known again when what stands there is compared."""

from __future__ import annotations

from engine.buckets.disk_map import DiskMap
from engine.config_files.source import shown
from engine.errors import Lacking

NAMED = 1000
"""So many are named, each with its reason."""


class Lost:
    """The objects of one restore that no place has unharmed."""

    def __init__(self) -> None:
        self._keys = DiskMap()
        self._named: list[str] = []
        self.count = 0

    def add(self, key: str, why: str) -> str:
        """Note one; it in words."""
        line = f"{shown(key)} ({why})"
        if self._keys.add(key):
            self.count += 1
            if len(self._named) < NAMED:
                self._named.append(line)
        return line

    def __contains__(self, key: str) -> bool:
        return self.count > 0 and key in self._keys

    def told(self, where: str, found: int, kept: str) -> Lacking:
        """What to raise once everything else is there.

        Args:
            found: How many objects stand there as they should.
            kept: What else is safe; may be empty.
        """
        more = f"; and {self.count - len(self._named):,} more" if self.count > len(self._named) else ""
        return Lacking(
            f"{self.count:,} object{'s' if self.count > 1 else ''} could not be restored into {where}: "
            f"{'; '.join(self._named)}{more}.",
            kept=f"the {found:,} other objects are there, each looked at" + (f"; {kept}" if kept else ""),
            remedy="look for these in an older snapshot (--backup 'before TIME' --object KEY), or put the vault's "
            "damaged files or the key back and run it again: it goes on where it stopped",
        )

    def close(self) -> None:
        """Forget the keys."""
        self._keys.close()

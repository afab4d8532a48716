"""What every part of a verification works with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from engine import stopping
from engine.catalog import Entry
from engine.errors import BackupError
from engine.journal import living
from engine.layout import Layout
from engine.progress import Progress, silent
from engine.site import Site
from engine.stores.base import Store
from engine.vault import LOCAL, Vault
from engine.vault_check.census import entry_at
from engine.vault_check.findings import Finding, Kind, PlaceReport, Severity
from engine.vault_check.share import Share

YOUNG = timedelta(days=1)
"""What nothing speaks of and is younger may be on its way in."""
SETTLE = 3.0
"""Seconds before what looks wrong is looked at again: a backup may be published, or pruned, right now."""


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        share: How much is read back; None: by the site's ``vault.verify_within``.
        heal: Put right what is damaged and stands whole elsewhere.
        set_aside: Move away what belongs to nothing.
        dry_run: Only say what would be read, from listings.
        settle: See ``SETTLE``.
    """

    share: Share | None = None
    heal: bool = True
    set_aside: bool = False
    dry_run: bool = False
    settle: float = SETTLE


@dataclass
class Work:
    """The verification of one place, as it happens."""

    site: Site
    report: PlaceReport
    request: Request
    share: Share
    progress: Progress = silent
    _noted: set[tuple[str, str]] = field(default_factory=set)

    @property
    def vault(self) -> Vault:
        return self.site.vault

    @property
    def location(self) -> str:
        return self.report.location

    @property
    def now(self) -> datetime:
        return self.report.now

    @property
    def store(self) -> Store:
        return self.vault.store(self.location)

    @property
    def layout(self) -> Layout:
        return self.vault.layout(self.location)

    @property
    def others(self) -> list[str]:
        """Every other place."""
        return [name for name in self.vault.locations() if name != self.location]

    def entry(self, key: str, size: int = 0) -> Entry | None:
        """A backup of this place by its data's key."""
        return entry_at(self.location, self.layout, key, size)

    def find(
        self, kind: Kind, what: str, words: str, severity: Severity = "damage", *, left: str = "", healed: str = ""
    ) -> Finding:
        """Note what is wrong, once of a kind for one thing."""
        found = Finding(self.location, kind, what, words.rstrip("."), severity, healed, left.rstrip("."))
        if (kind, what) not in self._noted:
            self._noted.add((kind, what))
            self.report.findings.append(found)
        return found

    def told_of(self, what: str) -> bool:
        """Is a finding about it noted already?"""
        return any(each == what for _, each in self._noted)

    def paced(self, source: Store, key: str) -> Iterator[bytes]:
        """Bytes of another place, no faster than may be sent to this one."""
        chunks = source.read(key)
        return chunks if self.location == LOCAL else self.vault.pace(self.location).of(chunks)

    def wait(self) -> None:
        """Let what is under way come to an end."""
        stopping.check(f"verification of {self.location}")
        time.sleep(self.request.settle)

    def under_way(self, key: str) -> bool:
        """Is a living run of this machine writing, copying or removing this backup?"""
        file = key.rsplit("/", 1)[-1]
        for facts in [*living(self.vault.publishing), *living(self.vault.removals)]:
            stem = facts.get("stem")
            if stem and file.startswith(f"{stem}."):
                return True
            if facts.get("key") and str(facts["key"]).rsplit("/", 1)[-1] == file:
                return True
        return False


def why(error: BaseException) -> str:
    """A failure in words, for a finding."""
    return error.message.rstrip(".") if isinstance(error, BackupError) else f"{type(error).__name__}: {error}"

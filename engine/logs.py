"""Shipped logs: MySQL and MariaDB binary logs, PostgreSQL WAL segments and timeline histories.

Each is a small backup of its own (tier ``binlogs`` or ``wal``), so that it is listed, copied, verified and
signed like any other. What recovery must know of it stands in its manifest as ``contents["log_file"]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine import names
from engine.catalog import Entry
from engine.errors import IntegrityError
from engine.manifest import Manifest
from engine.vault import LOCAL, Vault

KIND = {names.BINLOGS: "binlog", names.WAL: "wal"}
"""Kind and dump format in the manifest, by tier."""
CONTENTS = "log_file"
_SIDE_BY_SIDE = 8


class LogFile(BaseModel):
    """The facts of one log. All times are UTC, by the database server's clock.

    Two logs of one chain and epoch follow each other when their numbers do. A timeline history has number
    0 and is part of no row.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str = Field(description="As the server calls it: mysql-bin.000001, 000000010000000000000003.")
    number: int = Field(description="Place in its chain: 1 for mysql-bin.000001; start LSN / segment size for WAL.")
    chain: str = Field(description="MySQL: server uuid. MariaDB: what tells its logs apart. PostgreSQL: system id.")
    epoch: int = Field(default=0, description="How often the numbering began anew. PostgreSQL: the timeline.")
    start: int = Field(default=4, description="Position of its first event; WAL: its first LSN.")
    end: int = Field(description="Position after its last event; WAL: LSN after its last byte.")
    created_at: datetime | None = Field(default=None, description="When the server began it.")
    covers_until: datetime | None = Field(
        default=None, description="Every commit up to then stands in this log or in one before it."
    )
    first_commit: datetime | None = None
    last_commit: datetime | None = None
    twice: tuple[datetime, datetime] | None = Field(
        default=None,
        description="The server's clock was set back in this log or right before it: moments between may stand in "
        "the logs twice.",
    )
    transactions: int = 0
    gtids_before: str = Field(default="", description="Executed before this log began.")
    gtid_last: str = Field(default="", description="Of its last transaction.")
    next_created_at: datetime | None = Field(
        default=None, description="When the server began the log after it; None where that was not looked at."
    )
    swapped: dict[str, int] = Field(
        default_factory=dict,
        description="Databases that a restore replaced in this log, each with a position before that.",
    )
    next_gtids: str = Field(default="", description="What the log after it says was executed before it.")

    @property
    def whole_seconds(self) -> bool:
        """Its transactions are stamped with whole seconds (MariaDB)."""
        return self.chain.startswith("mariadb-")

    @property
    def safe_until(self) -> datetime | None:
        """The latest time that can be recovered to with this log and those before it alone."""
        if self.covers_until is None or not self.whole_seconds:
            return self.covers_until
        return self.covers_until.replace(microsecond=0) - timedelta(microseconds=1)

    @property
    def row(self) -> tuple[str, int]:
        """Logs of one row can follow each other."""
        return self.chain, self.epoch


@dataclass(frozen=True)
class ShipReport:
    """What one run of shipping did.

    Attributes:
        shipped: New logs in the vault, in the server's order.
        covers_until: Up to when every commit is in the vault now (UTC, the server's clock); None when not known.
        rotated: The server was asked to begin a new log.
        warnings: To tell a person: a purge that may come too early, a slot that lags.
        bytes: Plain bytes of what was shipped; ``stored_bytes`` in the vault.
    """

    shipped: list[LogFile] = field(default_factory=list)
    covers_until: datetime | None = None
    rotated: bool = False
    warnings: list[str] = field(default_factory=list)
    bytes: int = 0
    stored_bytes: int = 0
    seconds: float = 0.0


def ledger(vault: Vault, source: str, tier: str, location: str = LOCAL) -> list[Entry]:
    """Every log of a source in one place, in the order they were shipped, from names alone.

    ``entry.name.name`` is the log's own name, ``entry.name.taken_at`` when it was shipped.
    """
    found = [each for each in vault.catalog(location).entries(source=source, tier=tier) if each.name.log]
    return sorted(found, key=lambda each: (each.name.taken_at, each.name.name))


def facts_of(manifest: Manifest) -> LogFile:
    """The facts of a log from its manifest.

    Raises:
        IntegrityError: It is no log's manifest.
    """
    try:
        return LogFile.model_validate(manifest.contents.get(CONTENTS))
    except ValidationError:
        raise IntegrityError(f"The manifest of {manifest.file} holds no facts of a log.") from None


def load_log(vault: Vault, entry: Entry) -> tuple[Manifest, LogFile]:
    """One log's signed manifest and facts. Raises what ``Catalog.load`` does, and IntegrityError."""
    manifest = vault.catalog(entry.location).load(entry)
    return manifest, facts_of(manifest)


def load_all(vault: Vault, entries: Iterable[Entry]) -> Iterator[tuple[Entry, Manifest, LogFile]]:
    """Several, fetched side by side, in the order given. Raises as ``load_log`` at the first that fails."""
    with ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="logs") as pool:
        for entry, (manifest, log) in pool.map(lambda each: (each, load_log(vault, each)), entries):
            yield entry, manifest, log

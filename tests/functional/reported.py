"""A vault with a past, for reports: signed manifests and records as the engine writes them, beside files of any size
that hold nothing. What a report tells is read from manifests, records and listings alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from engine import names
from engine.config import SiteConfig
from engine.drill.record import keep
from engine.drill.verdict import Check, DrillResult, PieceResult, SourceResult, Verdict
from engine.logs import CONTENTS, KIND, LogFile
from engine.manifest import Cipher, LogPosition, Manifest, Server, StoredFile, sign
from engine.site import Site
from engine.vault import Vault
from tests.functional.vault_helpers import PASSPHRASE

SERVER = Server(flavour="mysql", version="9.7", uuid="uuid")
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


def document(root: Path, *databases: str, **more: Any) -> dict[str, Any]:
    """A site with one MySQL source, as plain data."""
    keys = {"current": "main", "keys": {"main": PASSPHRASE}}
    return {
        "site": "shop",
        "vault": {"root": str(root), "keys": keys},
        "mysql": {"databases": list(databases or ("app",)), "point_in_time": False},
        "watch": {"disk": 99},
        **more,
    }


def opened(root: Path, *databases: str, **more: Any) -> Site:
    """The site, with its vault's root made."""
    site = Site(SiteConfig.model_validate(document(root, *databases, **more)))
    site.vault.check()
    return site


@dataclass
class Past:
    """Writes what was.

    Attributes:
        copies: Further places to write to: a location, and the directory that its keys are below.
    """

    vault: Vault
    copies: dict[str, Path] = field(default_factory=dict)

    def backup(
        self,
        at: datetime,
        *,
        source: str = "mysql",
        kind: str = "mysql",
        database: str = "app",
        tier: str = "daily",
        ext: str = "sql.gz.enc",
        size: int = 50_000,
        stored: int = 10_000,
        seconds: float = 20.0,
        copied: bool = True,
        **facts: Any,
    ) -> Manifest:
        """A backup of ``size`` bytes that took so long and fills ``stored`` bytes."""
        at = at.replace(microsecond=0)
        file = names.BackupName(at, database, ext, facts.pop("log_tier", "")).file
        data = StoredFile(
            file=file, size=stored, sha256="0" * 64, plain_size=size, cipher=Cipher(key_id=self.vault.keys.current)
        )
        manifest = Manifest(
            site=self.vault.site, source=source, kind=kind, tier=tier, database=database, file=file, started_at=at,
            finished_at=at + timedelta(seconds=seconds), files=[data],
            **{"server": SERVER, "rows": {"t": 50}, **facts},
        )  # fmt: skip
        for place, root in {"local": self.vault.root, **(self.copies if copied else {})}.items():
            path = root / self.vault.layout(place).key(source, tier, at, file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            os.truncate(path, stored)
            path.with_name(f"{file}.json").write_bytes(sign(manifest, self.vault.keys))
        return manifest

    def full(self, at: datetime, number: int, **how: Any) -> Manifest:
        """A backup that logs can be replayed on, from that log on."""
        log = LogPosition(binlog_file=f"mysql-bin.{number:06}", binlog_position=4)
        return self.backup(at, log=log, contents={"snapshot_at": names.iso(at)}, **how)

    def log(self, number: int, shipped: datetime, *, stored: int = 2_000, lasts: timedelta = HOUR) -> Manifest:
        """The log of the time before it was shipped."""
        name = f"mysql-bin.{number:06}"
        facts = LogFile(
            name=name, number=number, chain="uuid", end=1000, created_at=shipped - lasts, covers_until=shipped,
            last_commit=shipped - MINUTE, transactions=1,
        )  # fmt: skip
        return self.backup(
            shipped, kind=KIND[names.BINLOGS], database=name, tier=names.BINLOGS, ext="gz.enc", size=5 * stored,
            stored=stored, log_tier=names.BINLOGS, dump_format="binlog", rows={},
            contents={CONTENTS: facts.model_dump(mode="json")},
        )  # fmt: skip


def drilled(
    site: Site,
    at: datetime,
    *pieces: tuple[str, str],
    verdict: Verdict = "proven",
    took: float = 600.0,
    lost: float | None = 240.0,
    said: str = "as they are",
    problems: Sequence[str] = (),
) -> DrillResult:
    """The record of a drill of these databases (of ``mysql/app``), by source and name; what it came to is that of the
    first one, the others were proven."""
    sources: dict[str, SourceResult] = {}
    for number, (source, database) in enumerate(pieces or (("mysql", "app"),)):
        came_to: Verdict = verdict if number == 0 else "proven"
        check = Check("volume", "row counts", came_to, said, () if came_to == "proven" else tuple(problems))
        result = sources.setdefault(source, SourceResult(source, source, place="a scratch server"))
        result.pieces.append(PieceResult(source, database, f"{database}.sql.gz.enc", checks=[check]))
        result.restore_seconds += took
        result.rpo_seconds = lost
    drill = site.config.drill
    made = DrillResult(
        site.name, f"{at:{names.STAMP}}-0123abcd", 1, False, {}, at - timedelta(seconds=took), at, drill.rto, drill.rpo,
        list(sources.values()),
    )  # fmt: skip
    keep(site, made)
    return made

"""Shipping binary logs: every closed log that the vault lacks is fetched, checked, and published as a backup.

A log is in the vault whole or not at all, so a run that dies is simply gone on with by the next.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from engine import clocks, idle, names
from engine.binlog import chain, server, swaps
from engine.binlog.chain import Seen, Work
from engine.binlog.server import ServerLog
from engine.binlog.shipment import FULL_NEEDED_SINCE, Place, ship_log
from engine.catalog import Entry
from engine.errors import (
    BackupError,
    ConfigError,
    IntegrityError,
    LogChainBroken,
    LogGap,
    NotFound,
    ToolFailed,
    WrongKey,
)
from engine.logs import LogFile, ShipReport, ledger, load_log
from engine.manifest import Manifest
from engine.progress import Progress, silent
from engine.recovery.fit import is_told, misfit
from engine.site import Site
from engine.verdicts import found_broken

if TYPE_CHECKING:
    from engine.mysql.server import MySQLSource

IDLE_ROTATION = timedelta(hours=1)
"""A server that writes nothing gets a new log this often at least, so that its window moves on."""
LOCK = "@binlogs"
_NEWEST_LOOKED_AT = 8
"""The worker's clock, which names are stamped by, may have been set back a little."""


def ship(site: Site, source: str, *, progress: Progress = silent, rotate: bool = True) -> ShipReport:
    """Bring the local vault up to date with one server's binary logs.

    Args:
        rotate: Begin a new log first where the present one has something in it.

    Raises:
        LogChainBroken: The server was reset or restored. What it has was shipped as a new chain, and a new full
            is needed. Told by the run that finds it; later runs warn until there is a full.
        LogGap: Logs are gone from the server that the vault lacks; all others were shipped first.
        ConfigError, MissingGrant: before anything is begun, with what to change.
        LockHeld, Unreachable, DiskFull, IntegrityError.
    """
    from engine.mysql.server import MySQLSource

    begun = time.monotonic()
    opened = site.source(source)
    if not isinstance(opened, MySQLSource):
        raise ConfigError(f"{source} is no MySQL or MariaDB server: it has no binary logs.")
    site.vault.check()
    with site.vault.lock(source, LOCK):
        report = _Run(site, opened, progress).go(rotate)
    return replace(report, seconds=time.monotonic() - begun)


@dataclass(frozen=True)
class _Newest:
    """The newest log in the vault."""

    entry: Entry
    log: LogFile
    full_needed_since: datetime | None
    clock: clocks.Reading | None


class _Run:
    """One run over one server."""

    def __init__(self, site: Site, source: MySQLSource, progress: Progress) -> None:
        self.site = site
        self.vault = site.vault
        self.source = source
        self.progress = progress
        self.entries = ledger(site.vault, source.name, names.BINLOGS)
        self.newest = self._newest()
        self.shipped: list[LogFile] = []
        self.swaps: list[swaps.Swap] = []
        self.unreadable: dict[str, BackupError] = {}
        self.bytes = self.stored_bytes = 0
        self.idle: tuple[ServerLog, datetime] | None = None
        """The log that is being written, where nothing was in it, and the server's time right before that look."""
        self.clock: clocks.Reading | None = None
        self.twice: clocks.Span | None = None

    def go(self, rotate: bool) -> ShipReport:
        warnings = server.preflight(self.source)
        self.clock = clocks.Reading.beside(server.clock(self.source.session))
        rotated_at, work = None, self._work(server.listed(self.source.session))
        if rotate:
            rotated_at = self._rotate(bool(work.broken or work.missing))
        logs = server.listed(self.source.session)
        self.swaps = swaps.known(self.vault, self.source.name)  # after the logs were listed: see swaps.note
        if rotated_at is not None:
            work = self._work(logs)
        since = self._full_needed_since(work)
        if self.newest and not work.broken:
            self.twice = clocks.set_back(self.newest.clock, self.clock)
        self._ship(work, logs, rotated_at, since)
        if not work.broken and not work.missing:
            warnings += self._demands(since)
        twice = self.twice or next((log.twice for log in self.shipped if log.twice), None)
        warnings += [clocks.warning(self.source.name, twice)] if twice else []
        known = [self.newest.log] if self.newest and not work.broken else []
        covers = [log.covers_until for log in (*known, *self.shipped) if log.covers_until]
        covers += self._said(work)
        report = ShipReport(
            shipped=self.shipped, covers_until=max(covers, default=None), rotated=rotated_at is not None,
            warnings=warnings, bytes=self.bytes, stored_bytes=self.stored_bytes,
        )  # fmt: skip
        self._tell(work)
        return report

    def _newest(self) -> _Newest | None:
        found: list[tuple[Entry, Manifest, LogFile]] = []
        for entry in self.entries[-_NEWEST_LOOKED_AT:]:
            found += [(entry, *each) for each in self._loaded(entry)]
        if not found:
            return None
        entry, manifest, log = max(found, key=lambda each: (each[2].epoch, each[2].number))
        since = manifest.contents.get(FULL_NEEDED_SINCE)
        clock = clocks.Reading.of(manifest.contents)
        return _Newest(entry, log, names.parse_moment(str(since)) if since else None, clock)

    def _loaded(self, entry: Entry) -> list[tuple[Manifest, LogFile]]:
        """What is damaged here does not stop new logs from being shipped: verification tells it."""
        try:
            return [load_log(self.vault, entry)]
        except (IntegrityError, WrongKey, NotFound):
            return []

    def _rotate(self, must: bool) -> datetime | None:
        """Begin a new log where that is worth it. The server's time right before: every commit by then is in a
        log that is closed now."""
        session = self.source.session
        before = server.clock(session)
        covered = self.newest.log.covers_until if self.newest else None
        recent = covered is not None and before - covered < IDLE_ROTATION
        if recent and not must:
            present = server.listed(session)[-1]
            if server.is_idle(session, present):
                self.idle = present, before
                return None
        server.rotate(session)
        return before

    def _said(self, work: Work) -> list[datetime]:
        """Up to when nothing was committed after the newest log: said now, where this run saw that, or before."""
        if self.shipped:
            idle.settle(self.vault, self.source.name, names.BINLOGS)
            return []
        if self.newest is None or work.broken or work.missing or self.unreadable:
            return []
        entry, log = self.newest.entry, self.newest.log
        known = [until for until in [idle.said_of(self.vault, entry)] if until is not None]
        if self.idle is None or self.twice or log.covers_until is None:
            return known
        present, until = self.idle
        follows = (present.base, present.number) == (log.name.rpartition(".")[0], log.number + 1)
        if follows and until > max([log.covers_until, *known]):
            idle.say(self.vault, entry, until)
            return [until]
        return known

    def _work(self, logs: list[ServerLog]) -> Work:
        known = {entry.name.name for entry in self.entries}
        if self.newest is None:
            return chain.work(logs, None, known)
        newest = self.newest.log
        here = next((log for log in logs[:-1] if log.name == newest.name), None)
        broken = chain.is_break(logs, newest, self._seen(here) if here else None)
        if not broken and here is None:
            broken = self._is_other_server(newest) or self._is_other_time(newest, logs)
        if broken:
            same = {log.name for log in logs[:-1] if log.name in known and self._is_shipped(log)}
            return chain.restarted(logs, same, broken)
        return chain.work(logs, newest, known)

    def _is_other_server(self, newest: LogFile) -> str:
        """Where the newest log was purged, only the server's own name says that it is still the same one."""
        mine = server.identity(self.source, server.clock(self.source.session))
        if self.source.flavour == "mariadb":
            same = mine.rpartition("-")[0] == newest.chain.rpartition("-")[0]
        else:
            same = mine == newest.chain
        return "" if same else f"it is another server ({mine}) than the one whose logs were shipped ({newest.chain})"

    def _is_other_time(self, newest: LogFile, logs: list[ServerLog]) -> str:
        """Does the server's next log say that it comes after the newest one in the vault? The server may have been
        reset, and have used as many numbers again."""
        following = next(log for log in logs if log.number > newest.number)
        if not is_told(newest, following.name):
            return (
                f"{newest.name}, the newest log that was shipped, is gone from the server, and without GTIDs nothing "
                f"tells whether {following.name} goes on where it ended"
            )
        head = server.head(self.source, following.name)
        return misfit(newest, following.name, head.created_at, head.gtids_before)

    def _seen(self, log: ServerLog) -> Seen:
        head = server.head(self.source, log.name)
        return Seen(head.created_at, log.size, head.gtids_before)

    def _is_shipped(self, log: ServerLog) -> bool:
        """Does the vault hold just this log, whenever it was shipped?"""
        named = [each for entry in self.entries if entry.name.name == log.name for each in self._loaded(entry)]
        if not named:
            return False
        seen = self._seen(log)
        return any(seen.is_log(known) for _, known in named)

    def _full_needed_since(self, work: Work) -> datetime | None:
        if work.broken or work.missing:
            return names.now()
        return self.newest.full_needed_since if self.newest else None

    def _ship(self, work: Work, logs: list[ServerLog], rotated_at: datetime | None, since: datetime | None) -> None:
        known = {entry.name.name for entry in self.entries}
        row: tuple[str, int] | None = None
        covered = self.newest.log.covers_until if self.newest and not work.broken else None
        for log in work.ship:
            if log.name in known and self._is_shipped(log):
                continue
            row = row or self._row(work, log)
            following = server.head(self.source, logs[logs.index(log) + 1].name)
            covers, until = self._covers(log, logs, rotated_at, following.created_at)
            if self.newest is None or work.broken or log.number > self.newest.log.number:
                # what the log before covers, this one does: a second may be shorter than a rotation
                covers = covered = max((each for each in (covers, covered) if each), default=None)
            latest = self._latest_before(log, work)
            self._ship_one(
                log, Place(*row, covers, until, since, self.twice, latest, self.clock, following, tuple(self.swaps))
            )

    def _latest_before(self, log: ServerLog, work: Work) -> datetime | None:
        """The latest commit known in the logs before one, of the same row."""
        known = [*([self.newest.log] if self.newest and not work.broken else []), *self.shipped]
        return max((each.last_commit for each in known if each.last_commit and each.number < log.number), default=None)

    def _row(self, work: Work, first: ServerLog) -> tuple[str, int]:
        """Chain and epoch of what is shipped now."""
        if self.newest is not None and not work.broken:
            return self.newest.log.row
        epoch = self.newest.log.epoch + 1 if self.newest else 0
        return server.identity(self.source, server.head(self.source, first.name).created_at), epoch

    def _covers(
        self, log: ServerLog, logs: list[ServerLog], rotated_at: datetime | None, following: datetime
    ) -> tuple[datetime | None, datetime]:
        """Up to when this log and those before it hold every commit, and after when it holds none.

        A log that the server closed by itself covers what was committed before the next one began. A client may
        have set the time that this one is stamped with: one in the future says nothing.
        """
        now = server.clock(self.source.session)
        if rotated_at is not None and log is logs[-2]:
            return rotated_at, now
        return (following, following + timedelta(seconds=1)) if following <= now else (None, now)

    def _ship_one(self, log: ServerLog, place: Place) -> None:
        for last in (False, True):
            try:
                manifest, facts = ship_log(self.vault, self.source, log, place, self.progress)
            except (IntegrityError, ToolFailed) as error:
                if last:
                    self.unreadable[log.name] = error
                continue
            self.shipped.append(facts)
            self.bytes += manifest.data.plain_size
            self.stored_bytes += manifest.stored_bytes
            return

    def _demands(self, since: datetime | None) -> list[str]:
        """Which databases need a new full, until there is one."""
        source, found = self.source.name, []
        here = sorted(self.source.databases()) if since is not None or self.swaps else []
        old = [each for each in here if since is not None and not self._has_full(each, since)]
        if old:
            found.append(f"{_full_wanted(source, since)} Without one: {', '.join(old)}.")
        for database, at in {each.database: each.at for each in self.swaps}.items():
            if database in here and database not in old and not self._has_full(database, at):
                found.append(
                    f"{source}/{database} was replaced by a restore at {names.iso(at)}, and logs cannot be replayed "
                    f"across that. {_full_wanted(f'{source} --database {database}', None)}"
                )
        return found

    def _has_full(self, database: str, since: datetime) -> bool:
        """Is there one that logs can be replayed on? The same fulls count as for ``recoverable``."""
        for entry in self.vault.catalog().entries(source=self.source.name, database=database):
            if entry.name.taken_at < since:
                return False
            good = entry.tier is not None and entry.tier not in names.NEVER_LATEST
            if good and not entry.name.log and not found_broken(self.site, entry, []):
                return True
        return False

    def _tell(self, work: Work) -> None:
        name = self.source.name
        gone = sorted({*work.missing, *self.unreadable})
        reasons = "".join(f" {error.message}" for error in self.unreadable.values())
        lost = f" Logs are missing: {_few(gone)}.{reasons}" if gone else ""
        kept = f"{len(self.shipped)} logs were shipped by this run, and all that were shipped before stay"
        if work.broken:
            raise LogChainBroken(
                f"The binary logs of {name} ({self.source.address}) began anew: {work.broken}.{lost}",
                kept=kept,
                remedy=_full_wanted(name, None),
            )
        if gone:
            raise LogGap(
                f"Binary logs of {name} ({self.source.address}) are missing: {_few(gone)}.{reasons}",
                kept=kept,
                remedy=f"{_full_wanted(name, None)} Have the server keep its logs longer: binlog_expire_logs_seconds.",
            )


def _full_wanted(source: str, since: datetime | None) -> str:
    when = f" since {names.iso(since.replace(microsecond=0))}" if since else ""
    return f"Make a new full{when}: backups backup --source {source}. Until then no later moment can be recovered."


def _few(missing: list[str], limit: int = 20) -> str:
    more = f" and {len(missing) - limit} more" if len(missing) > limit else ""
    return ", ".join(missing[:limit]) + more

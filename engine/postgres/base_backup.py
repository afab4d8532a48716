"""Base backups: a physical copy of a whole server, streamed into the vault, to replay WAL on.

The slot comes first, so that all WAL after the copy is kept until it is shipped. The WAL of the copy's own
making is inside it: a base backup can be started by itself.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from engine import names
from engine.catalog import Entry
from engine.errors import BackupError, IntegrityError, LockHeld
from engine.manifest import LogPosition, Manifest, Server
from engine.postgres import slots
from engine.postgres.base_facts import (
    CONTENTS,
    DUMP_FORMAT,
    MANIFEST_ROLE,
    BaseFacts,
    BaseTablespace,
    tablespace_role,
)
from engine.postgres.connection import Connection, Connector, translated
from engine.postgres.replication import BaseStart, Replication, replication
from engine.postgres.slots import ServerState
from engine.postgres.wal import lsn
from engine.postgres.wal_ship import LOCK, connector_for
from engine.progress import Progress, silent
from engine.site import Site
from engine.source import Facts, Sink
from engine.vault import Vault
from engine.writer import BackupWriter

_PATIENCE_SECONDS = 60.0
_MAIN = "base.tar"


def base_backup(site: Site, source: str, *, progress: Progress = silent) -> tuple[Entry, Manifest]:
    """Copy a whole PostgreSQL server into the local vault.

    Its database is called like the source; the parts are ``data`` (base.tar), ``tablespace-<oid>`` (tar) and
    ``backup-manifest`` (the server's own, JSON). The facts: ``engine.postgres.base_facts``.

    Raises:
        LockHeld: Another base backup of this source is under way.
        MissingGrant, ConfigError, CredentialsRefused, WrongTool: with the grant, setting or line.
        IntegrityError: The server found damaged pages. DiskFull: no room. LogGap: WAL went on the way.
    """
    connector, runner = connector_for(site, source)
    site.vault.check()
    with site.vault.lock(source, "base backup"), connector.open() as connection:
        server = slots.server_state(connector, connection, switching=False)
        slot = _ready_slot(site.vault, site.name, source, connector, connection)
        databases = _databases(connection)
        begun = _clock(connection)
        with site.vault.begin(
            source=source, kind="postgres", tier=names.BASE, database=source, ext="tar",
            estimated_bytes=_tablespace_bytes(connection),
        ) as writer:  # fmt: skip
            with replication(connector, runner) as session:
                copy = _Copy(writer, progress)
                copy.run(session, f"backup-flows {site.name}/{source}")
            # Read after the end: what commits from here on is in WAL that the copy does not need.
            ended = _clock(connection)
            assert copy.start is not None and copy.stop
            facts = _facts(copy, server, begun, ended, connection.info.server_version, databases, slot)
            return writer.publish(
                Facts(
                    server=_server(connection, server),
                    dump_format=DUMP_FORMAT,
                    log=LogPosition(lsn=lsn(facts.stop), timeline=facts.timeline),
                    contents={CONTENTS: facts.model_dump(mode="json")},
                    warnings=copy.warnings,
                )
            )


@dataclass
class _Copy:
    """The stream of a base backup on its way into a writer's parts."""

    writer: BackupWriter
    progress: Progress
    start: BaseStart | None = None
    stop: int = 0
    warnings: list[str] = field(default_factory=list)
    _sink: Sink | None = None
    _seen: set[str] = field(default_factory=set)
    _done: int = 0

    def run(self, session: Replication, label: str) -> None:
        for kind, value in session.base_backup(label):
            if kind == "data":
                if self._sink is None:
                    raise IntegrityError("The server sent data of a base backup before naming its part.")
                self._sink.write(value)
                self._done += len(value)
            elif kind == "begin":
                self.start = value
            elif kind == "archive":
                self._sink = self._part(value[0])
            elif kind == "manifest":
                self._seen.add(MANIFEST_ROLE)
                self._sink = self.writer.companion(MANIFEST_ROLE, "json")
            elif kind == "progress":
                self._tell(value)
            else:
                self._end(*value)

    def _part(self, file: str) -> Sink:
        """Where an archive goes: ``base.tar``, or ``<oid>.tar`` of a tablespace."""
        self._seen.add(file)
        if file == _MAIN:
            return self.writer.data()
        return self.writer.companion(tablespace_role(int(file.removesuffix(".tar"))), "tar")

    def _tell(self, done: int) -> None:
        assert self.start is not None
        total = sum(each.size for each in self.start.tablespaces)
        self.progress("base backup", done, max(total, done) or None)

    def _end(self, position: int, timeline: int) -> None:
        assert self.start is not None
        self.stop = position
        lacking = {f"{each.oid}.tar" if each.oid else _MAIN for each in self.start.tablespaces} - self._seen
        if lacking or MANIFEST_ROLE not in self._seen:
            raise IntegrityError(
                f"The server ended its base backup without {', '.join(sorted(lacking)) or 'its manifest'}.",
                kept="nothing was published",
                remedy="run it again",
            )
        if timeline != self.start.timeline:
            raise IntegrityError(
                f"The server went from timeline {self.start.timeline} to {timeline} during the base backup.",
                kept="nothing was published",
                remedy="run it again",
            )


def _ready_slot(vault: Vault, site: str, source: str, connector: Connector, connection: Connection) -> str:
    """Our slot, keeping WAL from now on at the latest. A lost one is made anew: nothing hangs on it.

    While a shipping run has it, it is as it should be.
    """
    name = slots.slot_name(site, source)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            with vault.lock(source, LOCK):
                found = slots.find_slot(connection, name, connector.where())
                if found is not None and (found.lost or found.restart is None):
                    slots.drop_slot(connection, name)
                    found = None
                if found is None:
                    slots.make_slot(connection, name)
                return name
        except LockHeld:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _facts(
    copy: _Copy, server: ServerState, begun: datetime, ended: datetime, version: int, databases: dict[str, int],
    slot: str,
) -> BaseFacts:  # fmt: skip
    assert copy.start is not None
    return BaseFacts(
        system_id=server.system_id,
        timeline=copy.start.timeline,
        start=copy.start.position,
        stop=copy.stop,
        segment_size=server.segment_size,
        started_at=begun,
        consistent_at=ended,
        version_num=version,
        tablespaces=[
            BaseTablespace(oid=each.oid, path=each.path, bytes=each.size) for each in copy.start.tablespaces if each.oid
        ],
        databases=databases,
        slot=slot,
    )


def _databases(connection: Connection) -> dict[str, int]:
    """Bytes of every database that is no template, by name; 0 where we may not ask."""
    with translated("measuring the databases"):
        rows = connection.execute(
            "SELECT datname, CASE WHEN has_database_privilege(oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', "
            "'USAGE') THEN pg_database_size(oid) ELSE 0 END FROM pg_database WHERE NOT datistemplate ORDER BY 1"
        ).fetchall()
    return {name: int(size) for name, size in rows}


def _tablespace_bytes(connection: Connection) -> int:
    try:
        with translated("measuring the tablespaces"):
            row = connection.execute("SELECT sum(pg_tablespace_size(oid))::bigint FROM pg_tablespace").fetchone()
    except BackupError:
        return 0
    return int(row[0] or 0) if row else 0


def _server(connection: Connection, server: ServerState) -> Server:
    row = connection.execute("SELECT current_setting('server_version')").fetchone()
    assert row is not None
    return Server(flavour="postgres", version=str(row[0]), tool="BASE_BACKUP", tool_version="", uuid=server.system_id)


def _clock(connection: Connection) -> datetime:
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment.astimezone(UTC)

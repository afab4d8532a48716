"""One PostgreSQL server as the flows and the command line use it: see ``engine.source.DatabaseSource``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

from engine.config import PostgresConfig
from engine.errors import IntegrityError, RestoreRefused, SnapshotMismatch, UnknownName, nearest
from engine.journal import Journal
from engine.manifest import Manifest, Server
from engine.names import BESIDE, WAL
from engine.postgres import (
    base_verify,
    cluster_globals,
    columns,
    locks,
    preflight,
    properties,
    recover,
    rows,
    schema,
    sides,
    swap,
)
from engine.postgres.capture import Capture, Reader, compare_rows, nothing_published, snapshot
from engine.postgres.compare import compare, other_versions
from engine.postgres.connection import Connection, Connector, translated
from engine.postgres.exchange import exchange
from engine.postgres.load import Loader
from engine.postgres.quoting import label
from engine.postgres.tools import Tools
from engine.postgres.wal_check import check_log
from engine.processes import Runner, runner_for
from engine.progress import Progress
from engine.source import Comparison, DatabaseState, Facts, OpenPart, Parts, Preflight, Selection, SwapReport

_OURS = re.compile(BESIDE.pattern + r"|^backup_flows_[0-9a-f]{8}$")


class PostgresSource:
    """A server of the site. Connects when something is asked of it. Not thread safe: one per task.

    Args:
        config: The server as the site describes it.
        site: Name of the site.
    """

    kind = "postgres"

    def __init__(self, config: PostgresConfig, *, site: str) -> None:
        self.name = config.name
        self.lock_wait_seconds = 60.0
        """How long pg_dump waits for a table that is locked exclusively; its wait holds up nobody."""
        self._config = config
        self._site = site
        self._runner: Runner | None = None
        self._tools: Tools | None = None
        self._connector = Connector(config, site, self._place)

    def server(self) -> Server:
        """Connect and ask who is there. Raises Unreachable, CredentialsRefused."""
        with self._connector.open() as connection:
            return self._server(connection)

    def databases(self) -> list[str]:
        """The configured databases, or all with something in them that are neither templates nor ours."""
        with self._connector.open() as connection, translated("listing databases"):
            found = connection.execute(
                "SELECT datname, coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database "
                "WHERE NOT datistemplate AND datallowconn ORDER BY 1"
            ).fetchall()
        known = [name for name, _ in found]
        for name in self._config.databases:
            if name not in known:
                raise UnknownName(f"{self._connector.where()} has no database {name!r}.", remedy=nearest(name, known))
        if self._config.databases:
            return list(self._config.databases)
        ours = {name for name, comment in found if _OURS.search(name) or comment == "a restore by backup-flows"}
        return [name for name in known if name not in ours and (name != "postgres" or self._has_tables(name))]

    def extension(self) -> str:
        """``sql``, or ``dump`` for the custom format."""
        return "dump" if self._config.format == "custom" else "sql"

    def preflight(self, database: str) -> Preflight:
        """Reachable, tools there and new enough, every table readable, schemas there."""
        with self._connector.open(database) as connection:
            estimate, warnings = preflight.check(connection, self._programs(connection), database, self._config.schemas)
            return Preflight(server=self._server(connection), estimated_bytes=estimate, warnings=warnings)

    def capture(self, database: str, parts: Parts, progress: Progress) -> Facts:
        """Dump one database: data, and beside it the server's globals and the database's own properties."""
        with nothing_published(database), self._connector.open(database) as connection:
            tools = self._programs(connection)
            facts = properties.read(connection, database)
            parts.companion("properties").write(properties.as_sql(facts))
            warnings = cluster_globals.capture(self._connector, tools, connection, parts.companion("globals"))
            with snapshot(connection) as moment:
                contents = self._contents(connection, facts) | {"lsn_before": moment.lsn_before}
                dumped = Capture(self._connector, tools, database, self.lock_wait_seconds).run(
                    connection, moment, parts.data(), progress
                )
                contents["columns"] = columns.recorded(columns.read(connection, self._config.schemas))
            contents |= {
                "sequences": {name: list(value) for name, value in dumped.sequences.items()},
                "large_objects": dumped.large_objects,
                "schema_parts": dumped.parts if len(dumped.parts) <= schema.MAX_PARTS else {},
                "schema_names_sha256": schema.digest_of_names(dumped.parts),
            }
            return Facts(
                server=self._server(connection),
                dump_format="pg_custom" if self._config.format == "custom" else "sql",
                log=moment.log,
                rows=dumped.rows,
                uncounted=dumped.uncounted,
                schema_sha256=schema.digest(dumped.parts),
                contents=contents,
                warnings=[*warnings, *dumped.warnings],
            )

    def inspect(self, manifest: Manifest, chunks: Iterable[bytes]) -> dict[str, int] | None:
        """Read a dump to its end: end marker, tables and rows as in the manifest.

        The custom format is read through ``pg_restore``, which must be there. Of a base backup or a log
        only the form is looked at.
        """
        if manifest.dump_format == base_verify.DUMP_FORMAT:
            base_verify.look_through(manifest, chunks)
            return None
        if manifest.dump_format == WAL:
            check_log(manifest, chunks)
            return None
        custom = manifest.dump_format == "pg_custom"
        tools = self._offline_programs(manifest) if custom else None
        with Reader(tools, "custom" if custom else "plain") as reader:
            for chunk in chunks:
                reader.write(chunk)
            reader.finish()
        if manifest.adopted and (reader.scanner.cluster or len(reader.scanner.connects) > 1):
            raise IntegrityError(
                f"{manifest.file} holds several databases, as pg_dumpall writes them; only a dump of one can be "
                "restored.",
                kept="the file is untouched",
                remedy="dump each database on its own with pg_dump, and adopt those",
            )
        if not reader.scanner.complete:
            raise IntegrityError(f"{manifest.file}: the dump has no end marker, it is not whole.")
        expected: dict[str, int | None] = {**manifest.rows, **dict.fromkeys(manifest.uncounted)}
        try:
            compare_rows(expected, reader.scanner.rows, manifest.file)
        except SnapshotMismatch as error:
            raise IntegrityError(error.message) from None
        return reader.scanner.rows

    def state(self, database: str, *, count: bool = False) -> DatabaseState:
        """What stands there now; rows counted only when asked."""
        with self._connector.open(self._connector.maintenance_for(database)) as connection:
            if sides.oid_of(connection, database) is None:
                return DatabaseState(exists=False)
        with self._connector.open(database) as inside:
            tables = rows.tables(inside)
            with translated(f"measuring {database}"):
                size = inside.execute("SELECT pg_database_size(current_database())").fetchone()
            return DatabaseState(
                exists=True,
                tables=len(tables),
                bytes=int(size[0]) if size else 0,
                rows=rows.count_all(inside, tables) if count else {},
            )

    def load_beside(
        self, manifest: Manifest, part: OpenPart, into: str, selection: Selection, journal: Journal, progress: Progress
    ) -> list[str]:
        """Load a backup into a new side database; production cannot notice it. Returns notes for a person."""
        fallback = None
        with self._connector.open() as connection:
            tools = self._programs(connection)
            if not manifest.contents.get("properties") and sides.oid_of(connection, manifest.database) is not None:
                fallback = properties.read(connection, manifest.database)
        return Loader(self._connector, tools, journal, into, fallback).run(manifest, part, selection, progress)

    def finish_side(
        self, manifest: Manifest, part: OpenPart, into: str, selection: Selection, journal: Journal, progress: Progress
    ) -> list[str]:
        """Nothing is left to do: a dump loads whole. Says who may connect to the copy."""
        return [f"Only user {self._config.user!r} (and superusers) may connect to {into} for now."]

    def caveat(self, manifest: Manifest) -> str:
        """Whether definitions can be compared word by word here: only by the versions that wrote them."""
        there = other_versions(self._connector, self._programs(), manifest) if manifest.schema_sha256 else ""
        if not there:
            return ""
        return (
            f"{there}: they may write the text of the same definition differently. Names, kinds and columns are "
            "compared; where the text of a definition differs, that is no reason to stop"
        )

    def compare(self, manifest: Manifest, into: str, selection: Selection) -> Comparison:
        """Count every restored table and compare schema, sequences and large objects with the manifest."""
        return compare(self._connector, self._programs(), manifest, into, selection)

    def swap(
        self,
        manifest: Manifest,
        part: OpenPart,
        side: str,
        database: str,
        keep_as: str,
        selection: Selection,
        journal: Journal,
        progress: Progress,
    ) -> SwapReport:
        """Put a checked side database, or its selected schemas, in production's place."""
        if selection.everything:
            return swap.swap(self._connector, manifest, side, database, keep_as, journal)
        report = exchange(self._connector, self._programs(), side, database, keep_as, selection, journal, progress)
        self.drop_side(side, journal)
        return report

    def drop_side(self, side: str, journal: Journal) -> None:
        """Remove a side database that this journal made.

        Raises:
            RestoreRefused: It did not make it.
        """
        created = journal.reached("load-created")
        with self._connector.open(self._connector.maintenance_for(side)) as connection:
            oid = sides.oid_of(connection, side)
            if oid is None:
                return
            if created is None or created["oid"] != oid or journal.reached("swap-done"):
                raise RestoreRefused(f"{side!r} is not a side database of this restore.", kept="it was not touched")
            sides.drop(self._connector, connection, side)

    def recover(self, journal: Journal) -> list[str]:
        """Finish or undo what a dead run left, by its journal; close it; say what was done."""
        return recover.recover(self._connector, self._programs, journal)

    def lock(self, database: str) -> AbstractContextManager[None]:
        """The server's advisory lock for this database. Raises LockHeld, naming the holder."""
        return locks.lock(self._connector, database)

    def close(self) -> None:
        """Nothing stays open between calls."""

    def _place(self) -> Runner:
        if self._runner is None:
            self._runner = runner_for(self._config, site=self._site)
        return self._runner

    def _programs(self, connection: Connection | None = None) -> Tools:
        if self._tools is None:
            if connection is None:
                with self._connector.open() as own:
                    return self._programs(own)
            self._tools = Tools(self._place(), self._config.tools_path, connection.info.server_version // 10000)
        return self._tools

    def _offline_programs(self, manifest: Manifest) -> Tools:
        """Tools to read a dump with, though its server may be gone."""
        major = int(re.match(r"\d*", manifest.server.version)[0] or 0) if manifest.server else 0  # type: ignore[index]
        return self._tools or Tools(self._place(), self._config.tools_path, major)

    def _server(self, connection: Connection) -> Server:
        tool = self._programs(connection).get("pg_dump")
        with translated("asking for the server's identity"):
            row = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
        return Server(
            flavour="postgres",
            version=str(connection.info.parameter_status("server_version")),
            tool="pg_dump",
            tool_version=tool.version,
            uuid=row[0] if row else "",
        )

    def _has_tables(self, database: str) -> bool:
        with self._connector.open(database) as connection:
            return bool(rows.tables(connection))

    def _contents(self, connection: Connection, facts: properties.Properties) -> dict[str, Any]:
        with translated("listing what else belongs to the database"):
            extensions = connection.execute(
                "SELECT e.extname, n.nspname, e.extversion "
                "FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
                "WHERE e.extname <> 'plpgsql' ORDER BY 1"
            ).fetchall()
            partitions = connection.execute(_PARTITIONS).fetchall()
        ancestors: dict[str, list[str]] = {}
        for schema_name, name, parent_schema, parent in partitions:
            ancestors.setdefault(label(schema_name, name), []).append(label(parent_schema, parent))
        return {
            "properties": facts,
            "roles": properties.roles(connection),
            "schemas": list(self._config.schemas),
            "extensions": [{"name": name, "schema": where, "version": version} for name, where, version in extensions],
            "partitions": ancestors,
        }


_PARTITIONS = """
SELECT n.nspname, c.relname, an.nspname, a.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
LATERAL pg_partition_ancestors(c.oid) ancestor
JOIN pg_class a ON a.oid = ancestor.relid JOIN pg_namespace an ON an.oid = a.relnamespace
WHERE c.relispartition AND c.relkind = 'r' AND a.oid <> c.oid
ORDER BY 1, 2
"""

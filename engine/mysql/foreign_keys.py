"""Foreign keys that lead from a database into another one.

A replay has one database only. A key whose rows InnoDB changes by itself (ON DELETE CASCADE and the like)
makes it wrong without a word, as no log holds these changes: that is refused. Any other key has been enforced
by the source; here, where the other database is not, it is taken away while logs are applied, and put back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.errors import BackupError, RestoreRefused
from engine.manifest import Server
from engine.mysql.connection import Connection, query, quoted
from engine.mysql.tools import version_tuple

_ACTS = ("CASCADE", "SET NULL", "SET DEFAULT")
_LOGGED_SINCE = (9, 6)
"""MySQL carries cascades out above InnoDB from here on, and logs them."""
REFUSED_ROWS = frozenset({1216, 1217, 1451, 1452})
"""Numbers of the errors with which a foreign key keeps a row out, or in."""
NO_SUCH_KEY = frozenset({1025, 1091, 1553})


@dataclass(frozen=True)
class Link:
    """One foreign key into another database; ``parent`` is ``database.table``."""

    table: str
    name: str
    parent: str
    on_update: str
    on_delete: str

    @property
    def acts(self) -> bool:
        """Are rows of its table changed when the other database's are?"""
        return self.on_update in _ACTS or self.on_delete in _ACTS

    def __str__(self) -> str:
        return f"{self.name} of {self.table} to {self.parent}"


def links(connection: Connection, database: str) -> list[Link]:
    """The keys of a database that lead into another, by table and name."""
    rows = query(
        connection,
        "SELECT table_name, constraint_name, unique_constraint_schema, referenced_table_name, update_rule, delete_rule "
        "FROM information_schema.referential_constraints WHERE constraint_schema = %s "
        "AND unique_constraint_schema <> constraint_schema ORDER BY table_name, constraint_name", (database,),
    )  # fmt: skip
    return [
        Link(str(table), str(name), f"{schema}.{parent}", str(update), str(delete))
        for table, name, schema, parent, update, delete in rows
    ]


def unlogged(found: list[Link], server: Server, settings: Mapping[str, str]) -> list[Link]:
    """Those whose effects stand in no log of that server."""
    logs_them = server.flavour == "mysql" and version_tuple(server.version)[:2] >= _LOGGED_SINCE
    if logs_them and settings.get("innodb_native_foreign_keys", "OFF") != "ON":
        return []
    return [link for link in found if link.acts]


def refuse_unlogged(
    connection: Connection, database: str, server: Server, settings: Mapping[str, str], when: str
) -> None:
    """Raises RestoreRefused where a key of the database acts without the logs saying so."""
    found = unlogged(links(connection, database), server, settings)
    if not found:
        return
    dropping = "; ".join(
        f"ALTER TABLE {quoted(database)}.{quoted(link.table)} DROP FOREIGN KEY {quoted(link.name)}"
        for link in found[:5]
    )
    raise RestoreRefused(
        f"{database!r} cannot be brought to a moment after a full backup: {when} it has foreign keys into other "
        f"databases that change its rows by themselves (ON DELETE or ON UPDATE), which no log holds: {_named(found)}.",
        kept="production was not touched",
        remedy="restore a full backup itself. To have moments between fulls from now on: make these keys RESTRICT or "
        f"keep the tables in one database ({dropping}), then take a full backup",
    )


def warnings(connection: Connection, database: str, server: Server, settings: Mapping[str, str]) -> list[str]:
    """What a backup says of such keys where binary logs are shipped."""
    found = unlogged(links(connection, database), server, settings)
    return [
        f"Foreign keys of {database!r} into other databases change its rows by themselves (ON DELETE or ON UPDATE), "
        f"which no binary log holds: {_named(found)}. A recovery to a moment between full backups will be refused. "
        "RESTRICT instead, or tables in one database, make it possible."
    ] if found else []  # fmt: skip


def _named(found: list[Link]) -> str:
    more = f" and {len(found) - 10} more" if len(found) > 10 else ""
    return ", ".join(str(link) for link in found[:10]) + more


@dataclass
class Held:
    """Keys that are taken away while logs are applied.

    Attributes:
        definitions: By table and name, as SHOW CREATE TABLE says them.
        ever: Every key that was ever taken away, for the report.
    """

    connection: Connection
    database: str
    definitions: dict[tuple[str, str], str] = field(default_factory=dict)
    ever: dict[tuple[str, str], Link] = field(default_factory=dict)

    def take(self) -> bool:
        """Take away all that there are now; False where there are none."""
        found = links(self.connection, self.database)
        for link in found:
            shown = str(query(self.connection, f"SHOW CREATE TABLE {self._full(link.table)}")[0][1])
            line = re.search(rf"^\s*(CONSTRAINT {re.escape(quoted(link.name))} .*?),?$", shown, re.M)
            assert line is not None, link
            query(self.connection, f"ALTER TABLE {self._full(link.table)} DROP FOREIGN KEY {quoted(link.name)}")
            self.definitions[link.table, link.name] = line[1]
            self.ever[link.table, link.name] = link
        return bool(found)

    def put_back(self) -> list[str]:
        """As they were; notes on those that cannot be."""
        held, self.definitions, notes = self.definitions, {}, []
        query(self.connection, "SET SESSION foreign_key_checks = 0")
        try:
            for (table, name), definition in held.items():
                try:
                    query(self.connection, f"ALTER TABLE {self._full(table)} ADD {definition}")
                except BackupError as error:
                    notes.append(f"WARNING: the foreign key {self.ever[table, name]} was left out during the replay "
                                 f"and could not be put back: {error.message}")  # fmt: skip
        finally:
            query(self.connection, "SET SESSION foreign_key_checks = 1")
        return notes

    def _full(self, table: str) -> str:
        return f"{quoted(self.database)}.{quoted(table)}"

"""What a swap will do, decided and checked before anything is touched, and kept in the journal.

The plan holds the old definitions in full: whatever happens later, nothing of them is lost.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from engine.errors import BackupError, RestoreRefused
from engine.journal import Journal
from engine.manifest import Manifest
from engine.mysql import sequences
from engine.mysql.connection import Connection, query, quoted
from engine.mysql.definitions import Definition, Definitions, Wanted, in_order_of_use, read_definitions
from engine.mysql.dumpfile import DumpReader, Section
from engine.mysql.load import exists
from engine.mysql.schema import list_tables
from engine.mysql.statements import created_kind, event_with_status, literal, unquote
from engine.source import OpenPart, Selection

if TYPE_CHECKING:
    from engine.mysql.server import MySQLSource


@dataclass(frozen=True)
class SwapPlan:
    """One exchange: ``old_tables`` go from ``database`` to ``keep_as``, ``new_tables`` from ``side`` to it.

    Attributes:
        existed: There was such a database before.
        whole: Routines, views, events and the character set are exchanged too.
        old, new: Definitions; for a part of the tables, only their triggers.
        grants: Of routines that are made again.
        placeholders: Sequences that column defaults name and that production has not now (MariaDB).
        gate: A short-lived database that orders the sessions of the exchange (MariaDB).
    """

    side: str
    database: str
    keep_as: str
    existed: bool
    whole: bool
    old_tables: tuple[str, ...]
    new_tables: tuple[str, ...]
    old: Definitions
    new: Definitions
    grants: tuple[str, ...] = ()
    placeholders: tuple[str, ...] = ()
    gate: str = ""
    notes: tuple[str, ...] = field(default=())

    def document(self) -> dict[str, Any]:
        body = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**body, "old": self.old.document(), "new": self.new.document()}

    @classmethod
    def from_document(cls, body: dict[str, Any]) -> SwapPlan:
        lists = {name: tuple(body[name]) for name in ("old_tables", "new_tables", "grants", "placeholders", "notes")}
        definitions = {name: Definitions.from_document(body[name]) for name in ("old", "new")}
        return cls(**{**body, **lists, **definitions})

    @property
    def wanted(self) -> Wanted:
        return Wanted(self.new, self.grants)

    @property
    def trigger_collation(self) -> str:
        """The database collation under which most new triggers were made; empty without triggers."""
        counted = Counter(each.database_collation for each in self.new.triggers)
        return counted.most_common(1)[0][0] if counted else ""

    def rename(self) -> bytes:
        """The one statement that exchanges the tables; empty when there are none."""
        legs = [_leg(self.database, self.keep_as, table) for table in self.old_tables]
        legs += [_leg(self.database, self.side, name, put_away(name)) for name in self.placeholders]
        legs += [_leg(self.side, self.database, table) for table in self.new_tables]
        return ("RENAME TABLE " + ", ".join(legs)).encode() if legs else b""

    def lock_order(self) -> list[tuple[str, str]]:
        """Every (database, table) the rename names, in the order in which the server locks them."""
        names = [(database, table) for table in self.old_tables for database in (self.database, self.keep_as)]
        names += [(database, table) for table in self.new_tables for database in (self.side, self.database)]
        names += [(self.side, put_away(name)) for name in self.placeholders]
        return sorted(set(names), key=lambda each: f"{each[0]}\0{each[1]}".encode())


def put_away(placeholder: str) -> str:
    """What a placeholder is called once the real sequence has taken its name."""
    return f"{placeholder[:62]}~"


def _leg(source: str, target: str, table: str, renamed: str = "") -> str:
    return f"{quoted(source)}.{quoted(table)} TO {quoted(target)}.{quoted(renamed or table)}"


def make_plan(
    source: MySQLSource,
    session: Connection,
    manifest: Manifest,
    part: OpenPart,
    side: str,
    database: str,
    keep_as: str,
    selection: Selection,
    journal: Journal,
) -> SwapPlan:
    """Look at both databases and decide.

    Raises:
        RestoreRefused: It would break foreign keys or overwrite something; says what to do.
    """
    _refuse_names(session, side, database, keep_as)
    existed = exists(session, database)
    whole = selection.everything
    new_tables = tuple(table.name for table in list_tables(session, side))
    standing = [table.name for table in list_tables(session, database)] if existed else []
    old_tables = tuple(table for table in standing if whole or selection.wants(table))
    new = read_definitions(session, side, tables=None if whole else new_tables)
    if whole:
        waiting = [each.moved(manifest.database, database) for each in postponed_views(source, side, journal)]
        views = [each.moved(side, database) for each in new.views]
        new = replace(new, views=in_order_of_use([*views, *waiting]))
    new = replace(new, events=_with_status(new.events, _event_status(source, side, part, journal, new.events)))
    old = Definitions(new.charset, new.collation)
    if existed:
        old = read_definitions(session, database, tables=None if whole else old_tables)
    _refuse_views_in_the_way(session, database, new_tables)
    _refuse_foreign_keys(session, side, database, old_tables, new_tables)
    grants, notes = _grants(source, session, manifest, part, database, old, new) if whole else ((), [])
    named = sequences.names_in(sequences.used(session, side), side)
    return SwapPlan(
        side, database, keep_as, existed, whole, old_tables, new_tables, old, new, grants,
        placeholders=tuple(sorted(named - set(standing))), gate=gate_name(side, database, keep_as), notes=tuple(notes),
    )  # fmt: skip


def exchanged(session: Connection, plan: SwapPlan) -> bool | None:
    """Have the tables changed places? None when there were none to move."""
    if not plan.new_tables:
        if not plan.old_tables:
            return None
        present = {table.name for table in list_tables(session, plan.database)}
        return not present & set(plan.old_tables)
    return not {table.name for table in list_tables(session, plan.side)} & set(plan.new_tables)


def gate_name(*databases: str) -> str:
    """A database name that sorts after all of these: the server takes its table locks in that order."""
    last = max(databases, key=str.encode)
    name = last.encode()[:63].decode("utf-8", "ignore") + "~"
    if name.encode() <= last.encode():
        raise RestoreRefused(f"The database name {last!r} is too long to work beside.", remedy="choose a shorter one")
    return name


def _with_status(events: Iterable[Definition], status: dict[str, str]) -> tuple[Definition, ...]:
    return tuple(replace(event, status=status.get(event.name, event.status)) for event in events)


def _event_status(
    source: MySQLSource, side: str, part: OpenPart, journal: Journal, events: tuple[Definition, ...]
) -> dict[str, str]:
    """What the events were in the dump: from the journal, else the dump is read once more."""
    if not events:
        return {}
    for entry in reversed(journal.steps):
        if entry["step"] == "loaded" and entry["side"] == side:
            return dict(entry["events"])
    if side in source.side_events:
        return source.side_events[side]
    found = {}
    for piece in DumpReader(part("data")).pieces():
        if piece.section is Section.EVENTS and created_kind(piece.data) == "event":
            name, status, _ = event_with_status(piece.data, b"DISABLE")
            found[name] = status
    return found


def postponed_views(source: MySQLSource, side: str, journal: Journal) -> list[Definition]:
    """Views of the backup that could not be made in the side database, as they are in the dump."""
    for entry in reversed(journal.steps):
        if entry["step"] == "loaded" and entry["side"] == side:
            return [Definition.from_document(each) for each in entry.get("views", ())]
    return source.side_views.get(side, [])


# -- refusals --------------------------------------------------------------------------------------


def _refuse_names(session: Connection, side: str, database: str, keep_as: str) -> None:
    if not exists(session, side):
        raise RestoreRefused(f"There is no side database {side!r} to put in place.", kept="nothing was changed")
    if len({side, database, keep_as}) < 3:
        raise RestoreRefused("The side database, the production database and the name for the old data must differ.")
    if exists(session, keep_as):
        raise RestoreRefused(
            f"The database {keep_as!r}, where the old data would be kept, exists already.",
            kept="nothing was changed",
            remedy="choose another name for it",
        )


def _refuse_views_in_the_way(session: Connection, database: str, new_tables: tuple[str, ...]) -> None:
    views = query(session, f"SELECT table_name FROM information_schema.views WHERE table_schema = {literal(database)}")
    clash = sorted({str(name) for (name,) in views} & set(new_tables))
    if clash:
        raise RestoreRefused(
            f"{', '.join(clash)}: tables in the backup, but views in {database!r} now.",
            kept="nothing was changed",
            remedy=f"DROP VIEW {quoted(database)}.{quoted(clash[0])}, then restore again",
        )


def _refuse_foreign_keys(
    session: Connection, side: str, database: str, old_tables: tuple[str, ...], new_tables: tuple[str, ...]
) -> None:
    """A foreign key follows its parent table when that is renamed: none may point in from outside."""
    rows = query(
        session,
        "SELECT constraint_schema, table_name, constraint_name, unique_constraint_schema, referenced_table_name "
        f"FROM information_schema.referential_constraints WHERE unique_constraint_schema IN ({literal(database)}, "
        f"{literal(side)}) ORDER BY 1, 2, 3",
    )
    old, new = set(old_tables), set(new_tables)
    for schema, table, constraint, parent_schema, parent in ([str(each) for each in row] for row in rows):
        where = f"{schema}.{table}"
        if parent_schema == database and parent in old and schema not in (database, side):
            raise RestoreRefused(
                f"The foreign key {constraint} of {where} points to {database}.{parent} and would follow the old data.",
                kept="nothing was changed",
                remedy=f"ALTER TABLE {quoted(schema)}.{quoted(table)} DROP FOREIGN KEY {quoted(constraint)}, "
                "restore, then add it again",
            )
        if parent_schema == schema == database and parent in old and table not in old:
            raise RestoreRefused(
                f"Table {table} refers to {parent} by foreign key {constraint}; {parent} alone cannot be exchanged.",
                kept="nothing was changed",
                remedy=f"restore {table} too: add it to the tables",
            )
        if parent_schema == schema == side and parent not in new:
            raise RestoreRefused(
                f"Table {table} refers to {parent} by foreign key {constraint}, and {parent} is not being restored.",
                kept="nothing was changed",
                remedy=f"restore {parent} too: add it to the tables",
            )


# -- grants on routines ----------------------------------------------------------------------------

_GRANT_LINE = re.compile(
    rb"^GRANT (?P<what>[A-Z, ]+) ON (?P<kind>PROCEDURE|FUNCTION) (?P<db>`(?:[^`]|``)*`)\.(?P<name>`(?:[^`]|``)*`) TO "
    rb"(?P<user>[`'](?:[^`']|``|'')*[`'])(?:@(?P<host>[`'](?:[^`']|``|'')*[`']))?(?P<rest>[^;]*);?\s*$",
    re.MULTILINE,
)


def _grants(
    source: MySQLSource,
    session: Connection,
    manifest: Manifest,
    part: OpenPart,
    database: str,
    old: Definitions,
    new: Definitions,
) -> tuple[tuple[str, ...], list[str]]:
    """Grants that the exchange would lose: those of routines made again, as they are now. A routine that has
    none now (it was dropped, maybe made again since) gets those that stand beside the backup."""
    now = {each.key: each for each in old.routines}
    again = {each.key for each in new.routines if not each.same_as(now.get(each.key))}
    if not again:
        return (), []
    notes = []
    try:
        present = [each for each in _present_grants(session, database, new) if each[0] in again]
        kept = [grant for _, grant in present]
        bare = again - {key for key, _ in present}
        if bare and any(stored.role == "accounts" for stored in manifest.files):
            accounts = b"".join(part("accounts"))
            for key, grant in _grants_from_backup(session, accounts, manifest.database, database, bare):
                kept.append(grant)
                if key in now:
                    notes.append(f"{key[0]} {key[1]} had no grants any more; granted as at the backup: {grant}")
    except BackupError as error:
        return (), [f"grants on routines could not be read ({error.message}); check them after the restore"]
    return tuple(dict.fromkeys(kept)), notes


def _present_grants(session: Connection, database: str, new: Definitions) -> list[tuple[tuple[str, str], str]]:
    rows = query(session, "SELECT user, host, routine_name, routine_type, proc_priv FROM mysql.procs_priv "
                          "WHERE db = %s", (database,))  # fmt: skip
    names = {(each.kind, each.name.lower()): each.name for each in new.routines}
    found = []
    for user, host, routine, kind, privileges in rows:
        kind = str(kind).lower()
        name = names.get((kind, str(routine).lower()))
        if name is None:
            continue
        listed = [each for each in str(privileges).split(",") if each]
        what = ", ".join(each.upper() for each in listed if each.lower() != "grant") or "USAGE"
        option = " WITH GRANT OPTION" if any(each.lower() == "grant" for each in listed) else ""
        account = f"{quoted(str(user))}@{quoted(str(host))}" if host else quoted(str(user))
        grant = f"GRANT {what} ON {kind.upper()} {quoted(database)}.{quoted(name)} TO {account}{option}"
        found.append(((kind, name), grant))
    return found


def _grants_from_backup(
    session: Connection, accounts: bytes, was: str, database: str, lost: set[tuple[str, str]]
) -> list[tuple[tuple[str, str], str]]:
    """Grants on lost routines, from the accounts beside the backup, for accounts that still exist."""
    living = {(str(user), str(host)) for user, host in query(session, "SELECT user, host FROM mysql.user")}
    found = []
    for each in _GRANT_LINE.finditer(accounts):
        key = (each["kind"].decode().lower(), unquote(each["name"]))
        user = _unquoted(each["user"])
        host = _unquoted(each["host"]) if each["host"] else ""
        if unquote(each["db"]) != was or key not in lost or (user, host or "%") not in living | {(user, "")}:
            continue
        account = f"{quoted(user)}@{quoted(host or '%')}"
        option = " WITH GRANT OPTION" if b"WITH GRANT OPTION" in each["rest"] else ""
        grant = f"GRANT {each['what'].decode()} ON {key[0].upper()} {quoted(database)}.{quoted(key[1])}"
        found.append((key, f"{grant} TO {account}{option}"))
    return found


def _unquoted(name: bytes) -> str:
    mark = name[:1]
    return name[1:-1].replace(mark * 2, mark).decode()

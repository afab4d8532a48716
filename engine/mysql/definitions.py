"""Triggers, routines, events and views of a database: read as the server holds them, made again exactly.

A definition is its text *and* the settings it was made under (SQL mode, character set, collations, time
zone). Texts are bytes in their own character set: read without conversion, sent back without one, as
mysqldump does. Views are read from inside their database, so that the server leaves its name out.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from engine.errors import MissingGrant
from engine.mysql.connection import Connection, quoted, translated
from engine.mysql.statements import bare_trigger, event_with_status, literal
from engine.mysql.view_text import renamed
from engine.mysql.views import create_view

ROUTINE_KINDS = ("function", "procedure", "package", "package body")
NEUTRAL = b"SET NAMES utf8mb4, sql_mode = '', time_zone = '+00:00'"
"""Settings that mean the same for every statement of ours. They follow each object, and each one that failed:
an SQL mode left over would change what the next object's quotes and backslashes say.
"""


@dataclass(frozen=True)
class Definition:
    """One trigger, routine, event or view. ``status`` is an event's: ENABLE, DISABLE, DISABLE ON SLAVE."""

    kind: str
    name: str
    text: bytes
    charset: str
    collation: str
    sql_mode: str = ""
    database_collation: str = ""
    time_zone: str = ""
    table: str = ""
    status: str = ""
    definer: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, self.name

    def same_as(self, other: Definition | None) -> bool:
        """Equal in all but whether an event is enabled."""
        return other is not None and replace(self, status="") == replace(other, status="")

    def moved(self, was: str, to: str | None) -> Definition:
        """A view whose text names its own database by another name, or not at all; all else as it is."""
        return replace(self, text=renamed(self.text, was, to)) if self.kind == "view" else self

    def document(self) -> dict[str, Any]:
        """As JSON can hold it; the text in base64."""
        return {**asdict(self), "text": base64.b64encode(self.text).decode()}

    @classmethod
    def from_document(cls, body: dict[str, Any]) -> Definition:
        return cls(**{**body, "text": base64.b64decode(body["text"])})


@dataclass(frozen=True)
class Definitions:
    """What a database holds besides its tables, and its own character set."""

    charset: str
    collation: str
    triggers: tuple[Definition, ...] = ()
    routines: tuple[Definition, ...] = ()
    events: tuple[Definition, ...] = ()
    views: tuple[Definition, ...] = ()

    def document(self) -> dict[str, Any]:
        """As JSON can hold it; texts in base64."""
        body: dict[str, Any] = {"charset": self.charset, "collation": self.collation}
        for kind in ("triggers", "routines", "events", "views"):
            body[kind] = [each.document() for each in getattr(self, kind)]
        return body

    @classmethod
    def from_document(cls, body: dict[str, Any]) -> Definitions:
        kinds = {
            kind: tuple(map(Definition.from_document, body[kind]))
            for kind in ("triggers", "routines", "events", "views")
        }
        return cls(body["charset"], body["collation"], **kinds)


@dataclass(frozen=True)
class Wanted:
    """What a database shall hold: definitions, and grants to give to routines that are made again."""

    definitions: Definitions
    grants: tuple[str, ...] = field(default=())


# -- reading ---------------------------------------------------------------------------------------


class _Reader:
    """Asks in raw bytes, from inside the database."""

    def __init__(self, connection: Connection, database: str) -> None:
        self._connection = connection
        self.database = database

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        # ``use_unicode`` belongs to the connection; off, every value comes as the bytes the server sent
        connection: Any = self._connection
        connection.use_unicode = False
        try:
            with translated(f"Reading the definitions of {self.database}"), connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.use_unicode = True

    def names(self, statement: str) -> list[tuple[str, ...]]:
        return [tuple(_text(value) for value in row) for row in self.rows(statement)]

    def results_in(self, charset: str) -> None:
        self.rows(f"SET SESSION character_set_results = {charset}")

    def show(self, what: str, name: str) -> tuple[Any, ...]:
        return self.rows(f"SHOW CREATE {what} {quoted(name)}")[0]


def read_definitions(connection: Connection, database: str, *, tables: Iterable[str] | None = None) -> Definitions:
    """Everything a database holds besides its tables.

    Args:
        connection: Any session; its database is changed.
        database: Whose definitions.
        tables: Only the triggers of these tables, and nothing else.

    Raises:
        MissingGrant: A routine's text is not shown to this user.
    """
    connection.select_db(database)
    reader = _Reader(connection, database)
    reader.rows("SET SESSION sql_mode = ''")  # a view is shown in the quotes of whoever asks
    where = literal(database)
    reader.results_in("utf8mb4")
    charset, collation = reader.names(
        "SELECT default_character_set_name, default_collation_name FROM information_schema.schemata "
        f"WHERE schema_name = {where}"
    )[0]
    try:
        reader.results_in("binary")
        triggers = _triggers(reader, where, None if tables is None else set(tables))
        if tables is not None:
            return Definitions(charset, collation, triggers)
        return Definitions(
            charset, collation, triggers, _routines(reader, where), _events(reader, where), _views(reader, where)
        )
    finally:
        reader.results_in("utf8mb4")


def _triggers(reader: _Reader, where: str, tables: set[str] | None) -> tuple[Definition, ...]:
    listed = reader.names(
        "SELECT trigger_name, event_object_table, definer FROM information_schema.triggers "
        f"WHERE trigger_schema = {where} "
        "ORDER BY event_object_table, event_manipulation, action_timing, action_order"
    )
    found = []
    for name, table, definer in listed:
        if tables is not None and table not in tables:
            continue
        _, mode, text, charset, collation, database_collation, *_ = reader.show("TRIGGER", name)
        found.append(
            Definition(
                "trigger", name, bare_trigger(text)[2], _text(charset), _text(collation), _text(mode),
                _text(database_collation), table=table, definer=definer,
            )
        )  # fmt: skip
    return tuple(found)


def _routines(reader: _Reader, where: str) -> tuple[Definition, ...]:
    listed = reader.names(
        "SELECT routine_type, routine_name, definer FROM information_schema.routines "
        f"WHERE routine_schema = {where} ORDER BY routine_type, routine_name"
    )
    found = []
    for kind, name, definer in listed:
        if kind.lower() not in ROUTINE_KINDS:
            continue
        _, mode, text, charset, collation, database_collation, *_ = reader.show(kind, name)
        if text is None:
            raise MissingGrant(
                f"The text of {kind.lower()} {reader.database}.{name} is not shown to this user.",
                kept="nothing was changed",
                remedy="GRANT SHOW_ROUTINE ON *.* TO the backup's user (MySQL), or "
                "GRANT SELECT ON mysql.proc TO it (MariaDB)",
            )
        found.append(
            Definition(
                kind.lower(), name, text, _text(charset), _text(collation), _text(mode), _text(database_collation),
                definer=definer,
            )
        )  # fmt: skip
    return tuple(found)


def _events(reader: _Reader, where: str) -> tuple[Definition, ...]:
    listed = reader.names(
        f"SELECT event_name, definer FROM information_schema.events WHERE event_schema = {where} ORDER BY event_name"
    )
    found = []
    for name, definer in listed:
        _, mode, zone, text, charset, collation, database_collation, *_ = reader.show("EVENT", name)
        _, status, disabled = event_with_status(text, b"DISABLE")
        found.append(
            Definition(
                "event", name, disabled, _text(charset), _text(collation), _text(mode), _text(database_collation),
                time_zone=_text(zone), status=status, definer=definer,
            )
        )  # fmt: skip
    return tuple(found)


def _views(reader: _Reader, where: str) -> tuple[Definition, ...]:
    listed = reader.names(
        "SELECT table_name, character_set_client, collation_connection, definer FROM information_schema.views "
        f"WHERE table_schema = {where} ORDER BY table_name"
    )
    found = []
    for name, charset, collation, definer in listed:
        reader.results_in(charset)
        text = create_view(partial(_shown_view, reader, name), reader.rows, where, name)
        reader.results_in("binary")
        found.append(Definition("view", name, text, charset, collation, definer=definer))
    return in_order_of_use(found)


def _shown_view(reader: _Reader, name: str) -> Any:
    return reader.show("VIEW", name)[1]


def in_order_of_use(views: Iterable[Definition]) -> tuple[Definition, ...]:
    """Views so that those others mention come first."""
    waiting = list(views)
    names = {view.name: quoted(view.name).encode() for view in waiting}
    ordered: list[Definition] = []
    while waiting:
        missing = {view.name for view in waiting}
        ready = [
            view for view in waiting if not any(names[other] in view.text for other in missing if other != view.name)
        ] or waiting[:1]  # a column of a view's name: any order, the rest is tried again
        ordered += ready
        waiting = [view for view in waiting if view not in ready]
    return tuple(ordered)


# -- making ----------------------------------------------------------------------------------------


def create(definition: Definition) -> list[bytes]:
    """The statements that make it, in the database in use, under the settings it was made under."""
    text = definition.text
    if definition.kind == "view":
        text = b"CREATE OR REPLACE " + text.removeprefix(b"CREATE ")
    elif definition.kind == "event":
        text = event_with_status(text, (definition.status or "DISABLE").encode())[2]
    return [_settings(definition), text, NEUTRAL]


def _settings(definition: Definition) -> bytes:
    """A view has no SQL mode: the server writes its text for none at all, and it must be read under none."""
    settings = [
        f"character_set_client = {definition.charset}",
        f"collation_connection = {definition.collation}",
        f"sql_mode = {literal(definition.sql_mode)}",
    ]
    if definition.time_zone:
        settings.append(f"time_zone = {literal(definition.time_zone)}")
    return f"SET SESSION {', '.join(settings)}".encode()


def drop(definition: Definition) -> bytes:
    return f"DROP {definition.kind.upper()} IF EXISTS {quoted(definition.name)}".encode()


def set_event_status(event: Definition, status: str) -> list[bytes]:
    """ALTER EVENT with its definer and under its own settings: else it takes over those of the session."""
    user, _, host = event.definer.rpartition("@")
    alter = f"ALTER DEFINER = {quoted(user)}@{quoted(host)} EVENT {quoted(event.name)} {status}".encode()
    return [_settings(event), alter, NEUTRAL]


class CollationSteps:
    """Objects remember the database's collation of the moment they are made: set it where it differs."""

    def __init__(self, database: str, charset: str, collation: str) -> None:
        self._database = database
        self._charset = charset
        self._collation = self._present = collation

    def before(self, definition: Definition) -> list[bytes]:
        wanted = definition.database_collation
        if not wanted or wanted == self._present:
            return []
        self._present = wanted
        return [f"ALTER DATABASE {quoted(self._database)} COLLATE {wanted}".encode()]

    def finally_(self) -> list[bytes]:
        if self._present == self._collation:
            return []
        self._present = self._collation
        return [set_charset(self._database, self._charset, self._collation)]


def set_charset(database: str, charset: str, collation: str) -> bytes:
    return f"ALTER DATABASE {quoted(database)} CHARACTER SET {charset} COLLATE {collation}".encode()


def code_changes(present: Definitions, wanted: Wanted, database: str) -> list[list[bytes]]:
    """What turns the routines, views, character set and events of ``database`` into the wanted ones.

    What is equal already stays untouched, with its grants. Groups of statements: each makes one object.
    Triggers are not among them. Events come last, so that nothing fires before all is in place.
    """
    goal = wanted.definitions
    groups: list[list[bytes]] = []
    steps = CollationSteps(database, goal.charset, present.collation)
    for kind in ("routines", "views"):
        goals = {each.key: each for each in getattr(goal, kind)}
        now = {each.key: each for each in getattr(present, kind)}
        groups += [[drop(each)] for key, each in now.items() if key not in goals]
        for key, each in goals.items():
            before = now.get(key)
            if each.moved(database, None).same_as(before and before.moved(database, None)):
                continue
            away = [drop(each)] if kind == "routines" and key in now else []
            groups.append([*steps.before(each), *away, *create(each), *_grants_for(each, wanted.grants)])
    groups += _event_changes(present, goal, steps)
    restored = steps.finally_()
    if restored or present.collation != goal.collation:  # a collation belongs to one character set
        groups.append([set_charset(database, goal.charset, goal.collation)])
    return groups


def _event_changes(present: Definitions, goal: Definitions, steps: CollationSteps) -> list[list[bytes]]:
    now = {each.name: each for each in present.events}
    goals = {each.name: each for each in goal.events}
    groups = [[drop(each)] for name, each in now.items() if name not in goals]
    for name, each in goals.items():
        before = now.get(name)
        if not each.same_as(before):
            away = [drop(each)] if before else []
            groups.append([*steps.before(each), *away, *create(each)])
        elif before is not None and before.status != each.status:
            groups.append([*steps.before(each), *set_event_status(each, each.status)])
    return groups


def _grants_for(routine: Definition, grants: tuple[str, ...]) -> list[bytes]:
    marker = f" ON {routine.kind.upper()} "
    name = f".{quoted(routine.name)} TO "
    return [grant.encode() for grant in grants if marker in grant and name in grant]


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else "" if value is None else str(value)

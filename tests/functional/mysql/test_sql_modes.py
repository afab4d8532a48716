"""Triggers, routines, events and views made under SQL modes that change what quotes and backslashes say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import backup, restore
from engine.config import SiteConfig
from engine.errors import RestoreRefused
from engine.mysql.connection import quoted
from engine.mysql.rehearsal import rehearse
from engine.restore import RestoreRequest
from engine.site import Site
from tests.functional.mysql.restoring import source_of
from tests.servers import DatabaseServer

pytestmark = pytest.mark.sampled

MODES = ("ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "PIPES_AS_CONCAT", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,IGNORE_SPACE", "")
WAYS = ("beside", "in place", "after loss")
ODD = ("{} 1", 'say "{}"', "it's {}", "{} \\", "tick ` {}")
"""Names; the last letter of one is a backslash."""
ALL_ODD = 'say "{}" it\'s ` \\'
COLUMNS = {
    "triggers": "trigger_name, sql_mode, action_statement, action_order, definer",
    "routines": "routine_name, sql_mode, routine_definition, definer",
    "events": "event_name, sql_mode, event_definition, definer, time_zone",
    "views": "table_name, view_definition, definer, character_set_client, collation_connection",
}
SCHEMAS = {
    "triggers": "trigger_schema",
    "routines": "routine_schema",
    "events": "event_schema",
    "views": "table_schema",
}


@pytest.fixture(params=["mariadb", "mysql9_container"])
def server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    found: DatabaseServer = request.getfixturevalue(request.param)
    trusted = found.sql("SELECT @@global.log_bin_trust_function_creators")[0][0]
    found.sql("SET GLOBAL log_bin_trust_function_creators = 1")
    yield found
    found.sql(f"SET GLOBAL log_bin_trust_function_creators = {trusted}")


@pytest.fixture
def database(server: DatabaseServer) -> Iterator[str]:
    with server.database("modes") as name:
        server.sql("CREATE TABLE t (a INT PRIMARY KEY, b TEXT); INSERT INTO t VALUES (1, 'x')", name)
        yield name
        server.sql(f"CREATE DATABASE IF NOT EXISTS `{name}`")
    for (left,) in server.sql("SHOW DATABASES"):
        if str(left).startswith(f"{name}_"):
            server.sql(f"DROP DATABASE `{left}`")


@pytest.fixture
def site(tmp_path: Path, server: DatabaseServer, database: str) -> Iterator[Site]:
    where = {"service": server.service, "project": server.project, "docker_host": server.docker_host}
    source = {
        "host": server.host, "port": server.port, "user": server.user, "password": server.password,
        "databases": [database], **(where if server.service else {}),
    }  # fmt: skip
    keys = {"current": "main", "keys": {"main": "FAKE-key-of-the-mode-tests-0123456789"}}
    config = {"site": "modes", "vault": {"root": str(tmp_path / "vault"), "keys": keys}, "mysql": [source]}
    with Site(SiteConfig.model_validate(config)) as opened:
        yield opened


def statements(mode: str, name: str) -> list[str]:
    """One of each kind, in the words of the mode, each holding one backslash and both quotes."""
    mark = '"' if "ANSI_QUOTES" in mode else "`"
    slash = "'\\'" if "NO_BACKSLASH_ESCAPES" in mode else "'\\\\'"
    text = f"CONCAT({slash}, 'it''s \";', b)" if "PIPES" not in mode else f"{slash} || 'it''s \";' || b"
    value = text.removesuffix(", b)") + ")" if "PIPES" not in mode else text.removesuffix(" || b")

    def called(kind: str) -> str:
        return mark + name.format(kind).replace(mark, mark * 2) + mark

    return [
        f"SET SESSION sql_mode = '{mode}'",
        f"CREATE PROCEDURE {called('p')}() BEGIN SELECT {text} AS {called('c')} FROM t ORDER BY a; END",
        f"CREATE FUNCTION {called('f')}() RETURNS TEXT DETERMINISTIC RETURN {value}",
        f"CREATE VIEW {called('v')} AS SELECT {text} AS {mark}say it{mark}, LENGTH({slash}) AS n FROM t",
        f"CREATE TRIGGER {called('tr')} BEFORE INSERT ON {mark}t{mark} FOR EACH ROW "
        + f"SET NEW.b = {text.replace('b)', 'NEW.b)').replace('|| b', '|| NEW.b')}",
        f"CREATE EVENT {called('e')} ON SCHEDULE EVERY 1 YEAR DO DELETE FROM t WHERE b = {value}",
    ]


PLAIN_VIEW = r"""CREATE VIEW {} AS SELECT CONCAT('\\', b, 'it''s\n"') AS c, LENGTH('\\') AS n FROM t"""


def make(server: DatabaseServer, database: str, modes: tuple[str, ...]) -> None:
    """Views of no mode before and after, and what each mode makes; the last mode has the last word."""
    with contextlib.closing(server.connect(database)) as session, session.cursor() as cursor:
        cursor.execute(PLAIN_VIEW.format("a_plain"))
        for number, mode in enumerate(modes):
            for each in statements(mode, ODD[number] if len(modes) > 1 else ALL_ODD):
                cursor.execute(each)
        cursor.execute("SET SESSION sql_mode = ''")
        cursor.execute(PLAIN_VIEW.format("z_plain"))


def ask(session: Any, statement: str) -> list[tuple[Any, ...]]:
    with session.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def all_of(server: DatabaseServer, database: str) -> dict[str, Any]:
    """Definitions by both of the server's ways to show them, and what views and routines answer."""
    found: dict[str, Any] = {}
    with contextlib.closing(server.connect(database)) as session:
        for kind, columns in COLUMNS.items():
            found[kind] = ask(
                session,
                f"SELECT {columns} FROM information_schema.{kind} WHERE {SCHEMAS[kind]} = '{database}' ORDER BY 1",
            )
            # MySQL's information_schema writes the database's own name into a view
            found[kind] = [tuple(str(each).replace(f"`{database}`.", "") for each in row) for row in found[kind]]
            for name, *_ in found[kind]:
                shown = "ROUTINE" if kind == "routines" else kind[:-1].upper()
                if shown == "ROUTINE":
                    shown = "FUNCTION" if "f" in str(name) else "PROCEDURE"
                made = ask(session, f"SHOW CREATE {shown} {quoted(name)}")[0]
                text = [str(each).replace(" ENABLE DO ", " DISABLE DO ") for each in made]
                found[f"{kind} {name}"] = text[:6]  # the seventh of a trigger is the moment it was made
                if kind == "views":
                    found[f"rows of {name}"] = ask(session, f"SELECT * FROM {quoted(name)} ORDER BY 1")
                elif shown == "FUNCTION":
                    found[f"answer of {name}"] = ask(session, f"SELECT {quoted(name)}()")
                elif shown == "PROCEDURE":
                    found[f"answer of {name}"] = ask(session, f"CALL {quoted(name)}()")
    return found


def fired(server: DatabaseServer, database: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(server.connect(database)) as session:
        ask(session, "INSERT INTO t VALUES (2, 'y')")
        rows = ask(session, "SELECT b FROM t WHERE a = 2")
        ask(session, "DELETE FROM t WHERE a = 2")
        session.commit()
    return rows


def restored(site: Site, server: DatabaseServer, database: str, way: str) -> str:
    if way == "after loss":
        server.sql(f"DROP DATABASE `{database}`")
    elif way == "in place":  # nothing of it is as it was
        for kind, names in (("VIEW", "a_plain"), ("TABLE", "t")):
            server.sql(f"DROP {kind} `{names}`", database)
        server.sql("CREATE TABLE t (a INT PRIMARY KEY, other INT)", database)
    into = f"{database}_side" if way == "beside" else database
    request = RestoreRequest(source=site.config.mysql[0].name, database=database, into=into)
    restore.run(site, restore.make_plan(site, request), approved=way != "beside")
    return into


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "modes", [*((mode,) for mode in MODES), MODES, MODES[::-1]], ids=lambda m: "+".join(m) or "none"
)
def test_what_was_made_under_a_mode_is_restored_to_the_letter_and_answers_the_same(
    site: Site, server: DatabaseServer, database: str, modes: tuple[str, ...], way: str
) -> None:
    make(server, database, modes)
    before, wrote = all_of(server, database), fired(server, database)
    assert before["rows of a_plain"] == [("\\xit's\n\"", 1)]
    assert str(wrote[0][0]).count("\\") == len(modes)
    backup.backup_one(site, site.targets()[0], tier="daily")
    into = restored(site, server, database, way)
    assert all_of(server, into) == before
    assert fired(server, into) == wrote


def test_all_code_of_a_copy_can_be_made_again_before_the_exchange_and_what_cannot_is_refused(
    server: DatabaseServer, database: str
) -> None:
    make(server, database, MODES)
    before = all_of(server, database)
    source = source_of(server)
    with contextlib.closing(source), contextlib.closing(source.connect()) as session:
        rehearse(session, database, whole=True)
        assert {name: text for name, text in all_of(server, database).items() if not name.startswith("event")} == {
            name: text for name, text in before.items() if not name.startswith("event")
        }
        server.sql("DROP TABLE t", database)
        with pytest.raises(RestoreRefused, match=r"The view a_plain could not be made again.*\(1146\)") as refused:
            rehearse(session, database, whole=True)
    assert refused.value.kept == "production is unchanged"

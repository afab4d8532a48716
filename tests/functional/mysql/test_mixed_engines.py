"""A server that enforces GTID consistency, and a database whose tables are not all InnoDB: it is put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr

from engine.errors import MissingGrant
from engine.journal import Journal
from engine.mysql.exchange import _lock, _locks
from engine.mysql.server import MySQLSource
from engine.progress import silent
from tests.functional.mysql.restoring import EVERYTHING, begin, clear, databases, source_of, take
from tests.servers.databases import DatabaseServer

PROD, SIDE, KEPT = "mprod", "mprod_restore", "mprod_before"
LIMITED = "mprod_limited"


@pytest.fixture
def server(mysql9_container: DatabaseServer) -> Iterator[DatabaseServer]:
    found = mysql9_container
    clear(found, PROD)
    yield found
    clear(found, PROD)


@pytest.fixture
def source(server: DatabaseServer) -> Iterator[MySQLSource]:
    with closing(source_of(server)) as found:
        yield found


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(begin(tmp_path, PROD)) as found:
        yield found


def make(server: DatabaseServer, engine: str) -> None:
    server.sql(
        f"CREATE DATABASE {PROD}; USE {PROD}; CREATE TABLE a (i INT PRIMARY KEY) ENGINE=InnoDB;"
        f"CREATE TABLE m (i INT) ENGINE={engine}; INSERT INTO a VALUES (1); INSERT INTO m VALUES (1), (2);"
        "CREATE TRIGGER counted BEFORE INSERT ON a FOR EACH ROW SET NEW.i = NEW.i + 100"
    )


@pytest.mark.parametrize("engine", ["MyISAM", "MEMORY", "ARCHIVE"])
@pytest.mark.parametrize("lost", [False, True], ids=["in place", "lost"])
def test_a_table_of_another_engine_beside_innodb_is_put_back(
    server: DatabaseServer, source: MySQLSource, journal: Journal, engine: str, lost: bool
) -> None:
    assert server.sql("SELECT @@gtid_mode, @@enforce_gtid_consistency") == [("ON", "ON")]
    make(server, engine)
    backup = take(source, PROD)
    server.sql(f"DROP DATABASE {PROD}" if lost else f"INSERT INTO {PROD}.m VALUES (3); DELETE FROM {PROD}.a")
    source.load_beside(backup.manifest, backup.part, SIDE, EVERYTHING, journal, silent)
    assert source.compare(backup.manifest, SIDE, EVERYTHING).problems == []
    source.swap(backup.manifest, backup.part, SIDE, PROD, KEPT, EVERYTHING, journal, silent)
    assert server.sql(f"SELECT i FROM {PROD}.m ORDER BY i") == [("1",), ("2",)]
    server.sql(f"INSERT INTO {PROD}.a VALUES (5)")
    assert server.sql(f"SELECT i FROM {PROD}.a ORDER BY i") == [("1",), ("105",)]
    engines = server.sql(
        f"SELECT engine FROM information_schema.tables WHERE table_schema = '{PROD}' AND table_name = 'm'"
    )
    assert engines == [(engine,)]
    assert KEPT in databases(server, PROD) or lost
    if not lost:
        assert server.sql(f"SELECT i FROM {KEPT}.m ORDER BY i") == [("1",), ("2",), ("3",)]


def test_the_sessions_binary_log_is_on_again_once_the_tables_are_locked(
    server: DatabaseServer, source: MySQLSource
) -> None:
    make(server, "MyISAM")
    with closing(source.connect(PROD)) as session, session.cursor() as cursor:
        _lock(session, _locks([(PROD, "a"), (PROD, "m")]))
        cursor.execute("SELECT @@sql_log_bin")
        assert cursor.fetchone() == (1,)


def test_an_account_that_may_not_is_told_the_grant_before_anything_is_exchanged(
    server: DatabaseServer, source: MySQLSource
) -> None:
    make(server, "MyISAM")
    server.sql(f"CREATE USER {LIMITED} IDENTIFIED BY 'fake-limited'; GRANT ALL ON {PROD}.* TO {LIMITED}")
    try:
        limited = source_of(server, user=LIMITED, password=SecretStr("fake-limited"))
        with closing(limited), closing(limited.connect(PROD)) as session:
            with pytest.raises(MissingGrant) as caught:
                _lock(session, _locks([(PROD, "a"), (PROD, "m")]))
        assert f"GRANT SESSION_VARIABLES_ADMIN ON *.* TO '{LIMITED}'@'%';" in caught.value.remedy
    finally:
        server.sql(f"DROP USER {LIMITED}")

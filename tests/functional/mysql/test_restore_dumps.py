"""Dumps as they come: by stock tools with other options, of other clients, with all that breaks dumps."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.config import MySQLConfig
from engine.errors import MissingGrant, RestoreRefused
from engine.journal import Journal
from engine.mysql.server import MySQLSource
from engine.progress import silent
from engine.source import Facts
from tests.functional.mysql.restoring import (
    ADMIN,
    EVERYTHING,
    Backup,
    MemoryParts,
    begin,
    databases,
    fingerprint,
    manifest_of,
    shop,
    source_of,
    take,
    ticking,
)
from tests.servers.databases import DatabaseServer

pytestmark = pytest.mark.one_server
PROD = "dprod"
SIDE = "dprod_restore"
DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module", params=["mariadb", "mysql9_container"])
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    found: DatabaseServer = request.getfixturevalue(request.param)
    ticking(found, on=False)
    return found


@pytest.fixture
def source(server: DatabaseServer) -> Iterator[MySQLSource]:
    found = source_of(server)
    yield found
    found.close()


@pytest.fixture
def prod(server: DatabaseServer) -> Iterator[str]:
    with shop(server, PROD) as name:
        yield name


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    found = begin(tmp_path, PROD)
    yield found
    found.close()


def stock_dump(server: DatabaseServer, *options: str) -> bytes:
    """What the stock dump program writes, as a shell script of an older installation would call it."""
    client = server.client_command()
    wanted = ("--host", "--port", "--user", "--protocol", "--no-defaults")
    where = [part for part in client[client.index(server.flavour) + 1 :] if part.startswith(wanted)]
    program = "mariadb-dump" if server.flavour == "mariadb" else "mysqldump"
    argv = [*client[: client.index(server.flavour)], program, *where, *options]
    env = {**os.environ, "MYSQL_PWD": server.password, "PGPASSWORD": ""}
    return subprocess.run(argv, check=True, capture_output=True, env=env).stdout


def adopted(source: MySQLSource, dump: bytes) -> Backup:
    parts = MemoryParts()
    parts.data().write(dump)
    manifest = manifest_of(PROD, parts, Facts(server=source.server()))
    return Backup(manifest, {"data": dump})


def load(source: MySQLSource, backup: Backup, journal: Journal) -> list[str]:
    return source.load_beside(backup.manifest, backup.part, SIDE, EVERYTHING, journal, silent)


@pytest.mark.parametrize(
    "options",
    [
        (PROD,),
        ("--routines", "--events", "--databases", PROD),
        ("--add-drop-database", "--databases", PROD),
        ("--skip-extended-insert", "--complete-insert", PROD),
        ("--skip-opt", "--no-autocommit", "--routines", PROD),
        ("--master-data=1", "--single-transaction", PROD),
    ],
)
def test_a_dump_of_an_older_installation_loads_beside_without_touching_production(
    server: DatabaseServer, source: MySQLSource, prod: str, journal: Journal, options: tuple[str, ...]
) -> None:
    if server.flavour == "mysql":
        options = tuple(option.replace("--master-data", "--source-data") for option in options)
    dump = stock_dump(server, *options)
    server.sql(f"DROP TRIGGER {prod}.parent_new; UPDATE {prod}.zebra SET what = 'changed since'")
    before = fingerprint(server, prod)
    notes = load(source, adopted(source, dump), journal)
    assert fingerprint(server, prod) == before
    assert server.sql(f"SELECT what FROM {SIDE}.zebra") == [("stripes",)]
    if "--routines" in options:
        assert server.sql(f"SELECT COUNT(*) FROM {SIDE}.a_view") == [("2",)]
    else:  # the views call a function that is not in the dump
        assert [note[:30] for note in notes if note.startswith("view ")] == [
            "view a_view could not be made:", "view z_view could not be made:"
        ]  # fmt: skip
    assert [row[0] for row in server.sql(f"SHOW TRIGGERS FROM {SIDE}")] == ["parent_new", "zebra new"]
    assert server.sql(f"SELECT default_collation_name FROM information_schema.schemata WHERE schema_name = '{SIDE}'"
                      ) == [("latin1_swedish_ci",)]  # fmt: skip
    comparison = source.compare(adopted(source, dump).manifest, SIDE, EVERYTHING)
    assert comparison.problems == []
    assert "adopted from another tool" in " ".join(comparison.notes)


def test_a_default_dump_with_gtid_loads_and_stays_in_the_binary_log(
    server: DatabaseServer, source: MySQLSource, prod: str, journal: Journal
) -> None:
    if server.flavour == "mariadb":
        dump = stock_dump(server, "--gtid", "--master-data=1", prod)
        dump = dump.replace(b"-- SET GLOBAL gtid_slave_pos", b"SET GLOBAL gtid_slave_pos")
        changed, log = "SELECT @@gtid_slave_pos", "SHOW BINLOG STATUS"
    else:
        dump = stock_dump(server, "--set-gtid-purged=ON", prod)
        assert b"SQL_LOG_BIN= 0" in dump
        changed, log = "SELECT @@gtid_purged", "SHOW BINARY LOG STATUS"
    before, position = server.sql(changed), int(server.sql(log)[0][1] or 0)
    notes = load(source, adopted(source, dump), journal)
    assert any("acts on the whole server" in note for note in notes)
    assert server.sql(changed) == before
    assert int(server.sql(log)[0][1] or 0) > position + 1000


def test_a_dump_of_several_databases_is_refused_and_leaves_nothing(
    server: DatabaseServer, source: MySQLSource, prod: str, journal: Journal
) -> None:
    server.sql(f"CREATE DATABASE {PROD}_two; CREATE TABLE {PROD}_two.t (i INT)")
    dump = stock_dump(server, "--databases", prod, f"{PROD}_two")
    before = fingerprint(server, prod)
    with pytest.raises(RestoreRefused, match=f"several databases \\({PROD}, {PROD}_two\\)"):
        load(source, adopted(source, dump), journal)
    assert databases(server, PROD) == [PROD, f"{PROD}_two"]
    assert fingerprint(server, prod) == before


def test_the_sandbox_line_is_left_out_exactly_where_the_client_refuses_it(
    server: DatabaseServer, source: MySQLSource, prod: str, journal: Journal
) -> None:
    line = b"/*M!999999\\- enable the sandbox mode */ \n"
    dump = stock_dump(server, "--routines", prod)
    dump = dump if dump.startswith(line) else line + dump
    refused = subprocess.run(
        server.client_command(), input=line, capture_output=True,
        env={**os.environ, "MYSQL_PWD": server.password, "PGPASSWORD": ""},
    ).returncode  # fmt: skip
    notes = load(source, adopted(source, dump), journal)
    assert bool(refused) == any("sandbox" in note for note in notes)


def test_everything_that_breaks_dumps_comes_back_by_load_and_swap(
    server: DatabaseServer, source: MySQLSource, journal: Journal
) -> None:
    hard = [DATA / "mysql_hard.sql", DATA / f"mysql_hard_{server.flavour}.sql"]
    try:
        server.sql(f"CREATE DATABASE {PROD} CHARACTER SET utf8mb4")
        for file in hard:
            server.sql(file.read_text(), PROD)
        backup = take(source, PROD)
        before = fingerprint(server, PROD)
        load(source, backup, journal)
        assert source.compare(backup.manifest, SIDE, EVERYTHING).problems == []
        server.sql(f"DROP DATABASE {PROD}; CREATE DATABASE {PROD}; CREATE TABLE {PROD}.wrong (i INT)")
        report = source.swap(backup.manifest, backup.part, SIDE, PROD, f"{PROD}_before", EVERYTHING, journal, silent)
        after = fingerprint(server, PROD)
        assert report.notes == []
        assert {name for name in before if after.get(name) != before[name]} == set()
        assert set(after) == set(before)
    finally:
        for name in databases(server, PROD):
            server.sql(f"DROP DATABASE `{name}`")


def test_a_trigger_typed_with_its_schema_never_reaches_production(mariadb: DatabaseServer, tmp_path: Path) -> None:
    source = source_of(mariadb)
    with shop(mariadb, PROD) as prod, contextlib.closing(begin(tmp_path, PROD)) as journal:
        mariadb.sql(f"CREATE TRIGGER {prod}.typed BEFORE UPDATE ON {prod}.zebra FOR EACH ROW SET NEW.what = 'typed'")
        backup = take(source, prod)
        assert f"TRIGGER {prod}.typed".encode() in backup.parts["data"]
        mariadb.sql(f"DROP TRIGGER {prod}.typed")
        before = fingerprint(mariadb, prod)
        load(source, backup, journal)
        assert fingerprint(mariadb, prod) == before
        assert "typed" in [row[0] for row in mariadb.sql(f"SHOW TRIGGERS FROM {SIDE}")]
        source.swap(backup.manifest, backup.part, SIDE, prod, f"{PROD}_before", EVERYTHING, journal, silent)
        mariadb.sql(f"UPDATE {prod}.zebra SET what = 'x'")
        assert mariadb.sql(f"SELECT what FROM {prod}.zebra") == [("typed",)]
    source.close()


def test_a_definer_we_may_not_name_is_told_with_the_grant(server: DatabaseServer, tmp_path: Path) -> None:
    with shop(server, PROD) as prod:
        with contextlib.closing(source_of(server)) as source:
            backup = take(source, prod)
        # in a container the tools log in from inside, from here we come over the network: both are this account
        user = f"{PROD}_exec"
        server.sql(f"ALTER USER '{user}'@'%' IDENTIFIED BY '{ADMIN}'; GRANT ALL ON `{PROD}%`.* TO '{user}'@'%'")
        limited = source_of(server, user=user, password=ADMIN)
        assert isinstance(limited.config, MySQLConfig)
        with contextlib.closing(limited), contextlib.closing(begin(tmp_path, PROD)) as journal:
            with pytest.raises(MissingGrant, match="1227") as caught:
                load(limited, backup, journal)
            assert "SET_ANY_DEFINER" in caught.value.remedy
        assert databases(server, PROD) == [PROD]

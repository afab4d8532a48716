"""A capture of a real database holds everything, and stock tools bring it back."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from pydantic import SecretStr

from engine import names
from engine.codec import Encoder, KeyRing
from engine.errors import IntegrityError
from engine.manifest import Cipher, Manifest, StoredFile
from engine.mysql.schema import differences, schema_fingerprint, schema_parts
from engine.progress import silent
from engine.source import Facts
from tests.functional.mysql.capturing import (
    SERVERS,
    MemoryParts,
    by_hand,
    load_hard,
    portrait,
    source_for,
    stock_client,
)
from tests.servers import DatabaseServer

KEY = "a-fake-key-for-tests-0123456789-abcdef"


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, DatabaseServer)
    return found


def manifest_of(facts: Facts, data: bytes) -> Manifest:
    file = "x_20250116_020000.sql.gz.enc"
    stored = StoredFile(file=file, size=0, sha256="", plain_size=len(data), cipher=Cipher(key_id="main"))
    return Manifest(
        site="unit", source="mysql", kind="mysql", tier="manual", database="x", file=file,
        started_at=names.now(), finished_at=names.now(), files=[stored],
        rows=facts.rows, uncounted=facts.uncounted, server=facts.server,
    )  # fmt: skip


def test_a_lost_database_comes_back_by_openssl_gunzip_and_client_alone(server: DatabaseServer, tmp_path: Path) -> None:
    source = source_for(server)
    with server.database("hard") as name:
        load_hard(server, name)
        before = portrait(server, name)
        parts = MemoryParts()
        facts = source.capture(name, parts, silent)
        stored = tmp_path / "hard.sql.gz.enc"
        with stored.open("wb") as file:
            encoder = Encoder(file.write, KeyRing({"main": KEY}, "main"))
            encoder.write(bytes(parts.parts["data"]))
            encoder.finish()
        server.sql(f"DROP DATABASE `{name}`; CREATE DATABASE `{name}`")
        by_hand(server, name, stored, KEY)
        after = portrait(server, name)
        assert {key: after.get(key) for key in before} == before
        assert after.keys() == before.keys()
        assert facts.rows == {table: len(before[f"rows of {table}"]) for table in facts.rows}
        assert set(facts.contents["engines"]) == set(facts.rows)
        assert schema_fingerprint(source.session, name) == facts.schema_sha256
    source.close()


def test_a_copy_under_another_name_has_the_same_fingerprint_and_a_changed_one_has_not(server: DatabaseServer) -> None:
    source = source_for(server)
    with server.database("hard") as name, server.database("copy") as copy:
        load_hard(server, name)
        parts = MemoryParts()
        facts = source.capture(name, parts, silent)
        # MariaDB writes the schema before a sequence in a default: a restore under another name changes it.
        renamed = parts.parts["data"].replace(f"nextval(`{name}`.".encode(), f"nextval(`{copy}`.".encode())
        stock_client(server, copy, bytes(renamed))
        ours, theirs = schema_parts(source.session, name), schema_parts(source.session, copy)
        assert differences(ours, theirs) == []
        assert schema_fingerprint(source.session, copy) == facts.schema_sha256
        server.sql("DROP TRIGGER egg_before; CREATE VIEW extra AS SELECT 1", copy)
        server.sql("ALTER TABLE `empty` ADD COLUMN more INT", copy)
        assert differences(ours, schema_parts(source.session, copy)) == [
            "table empty differs", "trigger egg_before is missing", "view extra is new",
        ]  # fmt: skip
        assert schema_fingerprint(source.session, copy) != facts.schema_sha256
    source.close()


def test_the_facts_say_what_a_manifest_needs(server: DatabaseServer) -> None:
    source = source_for(server)
    with server.database("hard") as name:
        load_hard(server, name)
        checked = source.preflight(name)
        facts = source.capture(name, MemoryParts(), silent)
        column = "SHOW BINARY LOG STATUS" if server.flavour == "mysql" else "SHOW MASTER STATUS"
        file, position = server.sql(column)[0][:2]
        assert (facts.log.binlog_file, str(facts.log.binlog_position)) == (file, position)
        assert facts.log.gtid
        assert facts.server.flavour == server.flavour
        assert facts.server.version.startswith(server.version)
        assert server.version.split(".")[0] == facts.server.tool_version.split(".")[0]
        assert facts.server.uuid
        assert checked.server == facts.server
        assert checked.estimated_bytes > 0
        assert facts.contents["views"] == 3
        assert facts.contents["triggers"] == 2
        assert facts.contents["routines"] == 2
        assert facts.contents["events"] == 2
        assert facts.contents["collation"] in facts.contents["create_database"]
        assert facts.contents["definers"]
        assert facts.contents["ddl_locked"] is (server.flavour == "mysql")
    source.close()


def test_an_empty_database_and_a_database_of_odd_name_are_captured(server: DatabaseServer) -> None:
    source = source_for(server)
    odd = "-o`dd 'na\"me é ; $HOME"
    quoted = "`" + odd.replace("`", "``") + "`"
    server.sql(f"CREATE DATABASE {quoted}")
    try:
        assert odd in source.databases()
        assert source.capture(odd, MemoryParts(), silent).rows == {}
        server.sql(f"CREATE TABLE {quoted}.t (a INT); INSERT INTO {quoted}.t VALUES (1), (NULL)")
        assert source.capture(odd, MemoryParts(), silent).rows == {"t": 2}
    finally:
        server.sql(f"DROP DATABASE {quoted}")
    source.close()


def test_tables_left_out_of_counting_are_in_the_dump_and_not_in_the_rows(mariadb: DatabaseServer) -> None:
    source = source_for(mariadb, uncounted=["log_*", "huge"])
    with mariadb.database() as name:
        for table in ("log_a", "huge", "small"):
            mariadb.sql(f"CREATE TABLE {table} (a INT); INSERT INTO {table} VALUES (1)", name)
        parts = MemoryParts()
        facts = source.capture(name, parts, silent)
        assert facts.rows == {"small": 1}
        assert facts.uncounted == ["huge", "log_a"]
        assert "INSERT INTO `huge` VALUES" in parts.text()
    source.close()


def test_tables_without_snapshots_are_named_beforehand_and_counted_all_the_same(mariadb: DatabaseServer) -> None:
    source = source_for(mariadb)
    with mariadb.database() as name:
        mariadb.sql("CREATE TABLE old (a INT) ENGINE=MyISAM; INSERT INTO old VALUES (1), (2)", name)
        assert any("old (MyISAM)" in warning for warning in source.preflight(name).warnings)
        assert source.capture(name, MemoryParts(), silent).rows == {"old": 2}

        def write(_: bytes) -> None:
            mariadb.sql("INSERT INTO old VALUES (3)", name)

        facts = source.capture(name, MemoryParts(write), silent)
        assert facts.rows["old"] >= 2
        assert any("'old'" in warning and "no snapshots" in warning for warning in facts.warnings)
    source.close()


def test_accounts_roles_and_grants_load_by_hand_with_their_passwords(server: DatabaseServer) -> None:
    source = source_for(server)
    password = "fake-p'a\\ss\"wörd-1"
    literal = password.replace("\\", "\\\\").replace("'", "''")
    with server.database("acc") as name:
        server.sql(
            "CREATE TABLE t (a INT); CREATE PROCEDURE p() SELECT 1; CREATE ROLE keeper; "
            f"GRANT SELECT ON `{name}`.* TO keeper; "
            f"CREATE USER 'o''dd user'@'%' IDENTIFIED BY '{literal}'; GRANT keeper TO 'o''dd user'@'%'; "
            f"GRANT EXECUTE ON PROCEDURE `{name}`.p TO 'o''dd user'@'%'; "
            f"GRANT UPDATE (a) ON `{name}`.t TO 'o''dd user'@'%'; "
            + ("SET DEFAULT ROLE keeper FOR 'o''dd user'@'%'" if server.flavour == "mariadb"
               else "SET DEFAULT ROLE keeper TO 'o''dd user'@'%'"), name)  # fmt: skip
        try:
            grants = [sorted(server.sql(f"SHOW GRANTS FOR {who}")) for who in ("'o''dd user'@'%'", "keeper")]
            created = server.sql("SHOW CREATE USER 'o''dd user'@'%'")
            parts = MemoryParts()
            source.capture(name, parts, silent)
            server.sql("DROP USER 'o''dd user'@'%'; DROP ROLE keeper")
            assert password not in parts.text("accounts")
            assert parts.text("accounts").rstrip().splitlines()[-1].startswith("-- Dump completed")
            assert "mysql.sys" not in parts.text("accounts")
            for _ in range(2):  # the second time nothing is new
                stock_client(server, "mysql", bytes(parts.parts["accounts"]))
            assert [sorted(server.sql(f"SHOW GRANTS FOR {who}")) for who in ("'o''dd user'@'%'", "keeper")] == grants
            assert server.sql("SHOW CREATE USER 'o''dd user'@'%'") == created
            theirs = source_for(server, user="o'dd user", password=SecretStr(password))
            assert theirs.session.open
            said = theirs.runner.run(theirs.client_command(["-N", "-e", "SELECT USER()"], feeds=False))
            assert said.text.startswith("o'dd user@")
            theirs.close()
        finally:
            server.sql("DROP USER IF EXISTS 'o''dd user'@'%'; DROP ROLE IF EXISTS keeper")
    source.close()


def test_inspect_reads_a_dump_against_its_manifest_and_names_what_differs(mariadb: DatabaseServer) -> None:
    source = source_for(mariadb)
    with mariadb.database() as name:
        mariadb.sql("CREATE TABLE a (x INT); INSERT INTO a VALUES (1), (2)", name)
        mariadb.sql("CREATE TABLE b (x INT); INSERT INTO b VALUES (1)", name)
        parts = MemoryParts()
        facts = source.capture(name, parts, silent)
        data = bytes(parts.parts["data"])
        manifest = manifest_of(facts, data)
        assert source.inspect(manifest, [data[:100], data[100:]]) == {"a": 2, "b": 1}
        with pytest.raises(IntegrityError, match="'a' has 1 rows, its manifest says 2"):
            source.inspect(manifest, [data.replace(b"(1),\n(2);", b"(1);")])
        with pytest.raises(IntegrityError, match="cut off"):
            source.inspect(manifest, [data[: data.rindex(b"-- Dump completed")]])
    source.close()


def test_nothing_secret_is_in_a_dump_or_in_what_the_process_list_shows(mariadb: DatabaseServer) -> None:
    source = source_for(mariadb)
    command = source.dump_command(["--", "x"])
    assert mariadb.password not in " ".join(command.argv)
    with mariadb.database() as name:
        mariadb.sql("CREATE TABLE t AS SELECT seq, REPEAT('x', 1000) FROM seq_1_to_10000", name)
        seen: list[bytes] = []

        def look(_: bytes) -> None:
            seen.extend(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())

        parts = MemoryParts(look)
        source.capture(name, parts, silent)
        assert any(b"mariadb-dump" in line for line in seen)
        assert not any(mariadb.password.encode() in line for line in seen)
        assert mariadb.password not in parts.text()
        digest = hashlib.sha1(hashlib.sha1(mariadb.password.encode()).digest()).hexdigest()
        assert digest.upper() not in parts.text()
    source.close()

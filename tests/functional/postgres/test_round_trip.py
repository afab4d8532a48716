"""A database that was captured comes back to the last row, definition, right and setting."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from engine.codec import Encoder, KeyRing
from engine.progress import silent
from tests.functional.postgres.kit import (
    ALL,
    Backup,
    Bytes,
    capture,
    drop_like,
    fingerprint,
    hard_database,
    journal,
    properties,
    source_for,
    unused,
)
from tests.servers.databases import DatabaseServer

FAKE_KEY = "fake-encryption-key-fake-encryption-key"


@pytest.fixture(scope="module", params=["postgres15", "postgres17_container"])
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def hard(server: DatabaseServer) -> Iterator[str]:
    with hard_database(server) as name:
        yield name


@pytest.mark.parametrize("form", ["plain", "custom"])
def test_a_destroyed_database_comes_back_with_all_that_belongs_to_it(
    server: DatabaseServer, hard: str, form: str, tmp_path: Path
) -> None:
    source = source_for(server, format=form)
    source.preflight(hard)
    backup = capture(source, hard)
    before, of_database = fingerprint(server, hard), properties(server, hard)
    assert source.inspect(backup.manifest, backup.open("data")) == backup.manifest.rows
    side, kept = f"{hard}_side_{form}", f"{hard}_before_{form}"
    with journal(tmp_path) as one:
        source.load_beside(backup.manifest, backup.open, side, ALL, one, silent)
        assert (fingerprint(server, hard), properties(server, hard)) == (before, of_database), "production noticed"
        compared = source.compare(backup.manifest, side, ALL)
        assert compared.problems == [] and compared.schema_equal is True
        assert fingerprint(server, side) == before
        server.sql("DROP SCHEMA bronze, gold CASCADE; DELETE FROM workbench.everything WHERE id > 1100", hard)
        server.sql(f"REVOKE ALL ON DATABASE {hard} FROM app_reader; ALTER DATABASE {hard} RESET ALL")
        destroyed = fingerprint(server, hard)
        with server.connect(hard) as writer:
            report = source.swap(backup.manifest, backup.open, side, hard, kept, ALL, one, silent)
            with pytest.raises(psycopg.OperationalError):
                writer.execute("SELECT 1")  # ended for the swap
        one.close()
    assert report.kept_as == kept and 0 < report.paused_seconds < 60
    assert fingerprint(server, hard) == before
    assert properties(server, hard) == of_database
    assert fingerprint(server, kept) == destroyed
    assert list(tmp_path.iterdir()) == []
    assert sessions(server) == []


def test_a_dropped_database_comes_back_under_its_own_name(server: DatabaseServer, tmp_path: Path) -> None:
    source = source_for(server)
    name = unused("lost")
    server.sql(f"CREATE DATABASE {name}")
    try:
        server.sql("CREATE TABLE t AS SELECT generate_series(1, 100) AS n", name)
        backup = capture(source, name)
        server.sql(f"DROP DATABASE {name}")
        assert not source.state(name).exists
        with journal(tmp_path) as one:
            source.load_beside(backup.manifest, backup.open, f"{name}_side", ALL, one, silent)
            report = source.swap(backup.manifest, backup.open, f"{name}_side", name, f"{name}_before", ALL, one, silent)
        assert report.kept_as == ""
        assert source.state(name, count=True).rows == {"public.t": 100}
        assert server.sql("SELECT count(*) FROM t", name) == [("100",)]
    finally:
        drop_like(server, f"{name}%")


def test_stock_openssl_gunzip_and_psql_restore_a_backup(server: DatabaseServer, hard: str, tmp_path: Path) -> None:
    backup = capture(source_for(server), hard)
    stored = Bytes()
    encoder = Encoder(stored.write, KeyRing({"main": FAKE_KEY}, current="main"))
    for chunk in backup.open("data"):
        encoder.write(chunk)
    encoder.finish()
    file = tmp_path / "hard.sql.gz.enc"
    file.write_bytes(stored.value)
    with server.database("byhand") as copy:
        # An event trigger of the dump would fire when the materialized views after it are filled.
        quiet = "echo 'SET session_replication_role = replica;'"
        opened = f"openssl enc -d -aes-256-cbc -pbkdf2 -pass env:KEY -in {file} | gunzip"
        psql = subprocess.list2cmdline(server.client_command(copy))
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {{ {quiet}; {opened}; }} | {psql}"],
            capture_output=True,
            env={**os.environ, "KEY": FAKE_KEY, "PGPASSWORD": server.password},
        )
        assert done.returncode == 0, done.stderr.decode()
        assert fingerprint(server, copy) == fingerprint(server, hard)
        by_hand = backup.parts["properties"].decode().replace(':"database"', copy)
        server.sql(by_hand)
        assert properties(server, copy) == properties(server, hard)


def test_the_globals_beside_a_dump_hold_the_roles_with_their_passwords(server: DatabaseServer, hard: str) -> None:
    server.sql("""DO $$ BEGIN CREATE ROLE login_role; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
                  ALTER ROLE login_role LOGIN PASSWORD 'fake-login-password'""")
    text = capture(source_for(server), hard).parts["globals"].decode()
    assert "ALTER ROLE login_role WITH" in text and "PASSWORD 'SCRAM-SHA-256$" in text
    assert "fake-login-password" not in text


def sessions(server: DatabaseServer) -> list[Any]:
    return server.sql(
        "SELECT pid, application_name, query FROM pg_stat_activity WHERE application_name LIKE 'backup-flows%'"
    )


def test_the_manifest_says_where_the_log_stood(server: DatabaseServer, hard: str) -> None:
    backup: Backup = capture(source_for(server), hard)
    assert backup.manifest.log.timeline == 1
    after = server.sql(
        f"SELECT pg_current_wal_lsn() >= '{backup.manifest.log.lsn}'::pg_lsn, system_identifier "
        "FROM pg_control_system()"
    )
    assert after == [("t", backup.manifest.server.uuid if backup.manifest.server else "")]

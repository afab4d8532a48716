"""A capture is right or it fails, naming what is wrong."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import (
    BackupError,
    CredentialsRefused,
    IntegrityError,
    LockHeld,
    MissingGrant,
    SnapshotMismatch,
    ToolFailed,
    ToolMissing,
    UnknownName,
    Unreachable,
    WrongTool,
)
from engine.progress import silent
from tests.functional.postgres.kit import ALL, Bytes, MemoryParts, capture, hard_database, journal, source_for, unused
from tests.servers.databases import DatabaseServer
from tests.soak import SEED, trials

REAL = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture(scope="module")
def hard(postgres15: DatabaseServer) -> Iterator[str]:
    with hard_database(postgres15) as name:
        yield name


def tampered(directory: Path, script: str) -> str:
    """Client tools of which pg_dump passes its output through something that harms it."""
    for tool in ("psql", "pg_restore", "pg_dumpall"):
        (directory / tool).symlink_to(REAL / tool)
    program = directory / "pg_dump"
    program.write_text(
        f'#!/bin/bash\nset -o pipefail\n[ "$1" = --version ] && exec {REAL}/pg_dump --version\n'
        f'{REAL}/pg_dump "$@" {script}\n'
    )
    program.chmod(0o755)
    return str(directory)


@pytest.mark.parametrize(
    "script, named",
    [
        (r"| sed '/^1000\t/d'", r"workbench\.everything has 3003 rows in the dump, 3004"),
        (r"| sed '/^COPY bronze.teams /,/^\\\.$/d'", r"table bronze\.teams is missing"),
        (r"| sed '0,/^rex\t/s/^rex\t/rex\tmutt\nrex\t/'", r"silver\.dogs has 3 rows in the dump, 2"),
    ],
)
def test_a_row_or_table_that_the_dump_lost_on_its_way_fails_it_by_name(
    postgres15: DatabaseServer, hard: str, tmp_path: Path, script: str, named: str
) -> None:
    source = source_for(postgres15, tools_path=tampered(tmp_path, script))
    with pytest.raises(SnapshotMismatch, match=named):
        source.capture(hard, MemoryParts(), silent)


def test_a_table_left_out_of_a_custom_dump_fails_it_too(postgres15: DatabaseServer, hard: str, tmp_path: Path) -> None:
    source = source_for(
        postgres15, format="custom", tools_path=tampered(tmp_path, "--exclude-table-data=bronze.people")
    )
    with pytest.raises(SnapshotMismatch, match=r"bronze\.people is missing"):
        source.capture(hard, MemoryParts(), silent)


def test_a_dump_cut_short_fails(postgres15: DatabaseServer, hard: str, tmp_path: Path) -> None:
    source = source_for(postgres15, tools_path=tampered(tmp_path, "| sed '/database dump complete/d'"))
    with pytest.raises(IntegrityError, match="end marker"):
        source.capture(hard, MemoryParts(), silent)


def test_a_dump_program_that_fails_after_writing_all_fails_the_capture(
    postgres15: DatabaseServer, hard: str, tmp_path: Path
) -> None:
    source = source_for(postgres15, tools_path=tampered(tmp_path, "; exit 3"))
    with pytest.raises(ToolFailed, match="status 3"):
        source.capture(hard, MemoryParts(), silent)


def test_a_stored_dump_that_lost_a_row_is_found_by_reading_it(postgres15: DatabaseServer, hard: str) -> None:
    source = source_for(postgres15)
    backup = capture(source, hard).altered(b"\nfido\t\\N\n", b"\n")
    with pytest.raises(IntegrityError, match=r"silver\.dogs has 1 rows in the dump, 2"):
        source.inspect(backup.manifest, backup.open("data"))


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_counts_equal_the_restored_rows_under_writers_that_never_stop(
    postgres15: DatabaseServer, tmp_path: Path, counted_trials: Callable[[int], None]
) -> None:
    counted_trials(trials(5, 20))
    source = source_for(postgres15)
    with postgres15.database("hot") as name:
        postgres15.sql(
            "CREATE TABLE a (id bigserial PRIMARY KEY, n int); CREATE TABLE b (LIKE a INCLUDING ALL);"
            "INSERT INTO a (n) SELECT generate_series(1, 20000)",
            name,
        )
        stop, writes = threading.Event(), [0]

        def write() -> None:
            dice = random.Random(SEED)
            with postgres15.connect(name) as connection:
                while not stop.is_set():
                    table = dice.choice("ab")
                    if dice.random() < 0.7:
                        connection.execute(f"INSERT INTO {table} (n) SELECT generate_series(1, {dice.randint(1, 40)})")
                    else:
                        connection.execute(f"DELETE FROM {table} WHERE id % 997 = {dice.randrange(997)}")
                    writes[0] += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for trial in range(trials(5, 20)):
                before = writes[0]
                backup = capture(source, name)
                assert writes[0] > before, "the writer stood still"
                side = f"{name}_{trial}"
                with journal(tmp_path) as one:
                    source.load_beside(backup.manifest, backup.open, side, ALL, one, silent)
                    assert source.compare(backup.manifest, side, ALL).problems == []
                    counted = {
                        f"public.{t}": int(postgres15.sql(f"SELECT count(*) FROM {t}", side)[0][0] or 0) for t in "ab"
                    }
                    assert counted == backup.manifest.rows
                    source.drop_side(side, one)
        finally:
            stop.set()
            writer.join()


def test_a_table_that_stays_locked_is_reported_with_its_holder(postgres15: DatabaseServer) -> None:
    source = source_for(postgres15)
    source.lock_wait_seconds = 0.5
    with postgres15.database() as name:
        postgres15.sql("CREATE TABLE busy (n int)", name)
        with postgres15.connect(name, application_name="nightly-migration") as other, other.transaction():
            other.execute("LOCK TABLE busy")
            with pytest.raises(LockHeld, match=rf"busy by pid {other.info.backend_pid} .*nightly-migration"):
                source.capture(name, MemoryParts(), silent)


def test_sessions_that_are_ended_in_the_midst_of_a_dump_fail_it_and_it_says_what_is_kept(
    postgres15: DatabaseServer,
) -> None:
    class Ending(Bytes):
        """Ends every session of the database at the first bytes of the dump."""

        def write(self, data: bytes) -> None:
            if not self.chunks:
                postgres15.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
            super().write(data)

    with postgres15.database("ended") as name:
        postgres15.sql("CREATE TABLE t AS SELECT repeat('x', 200) AS x FROM generate_series(1, 100000)", name)
        with pytest.raises(BackupError) as error:
            source_for(postgres15).capture(name, MemoryParts({"data": Ending()}), silent)
        assert error.value.retryable and "nothing was published" in error.value.kept and error.value.remedy


def test_a_table_too_large_to_count_is_left_out_but_must_be_there(postgres15: DatabaseServer, hard: str) -> None:
    backup = capture(source_for(postgres15, uncounted=["workbench.ever*", "log"]), hard)
    assert backup.manifest.uncounted == ["audit.log", "workbench.everything"]
    assert "audit.log" not in backup.manifest.rows and "bronze.people" in backup.manifest.rows


def test_a_capture_of_single_schemas_holds_nothing_else_and_comes_back(
    postgres15: DatabaseServer, hard: str, tmp_path: Path
) -> None:
    source = source_for(postgres15, schemas=["workbench", "silver"])
    backup = capture(source, hard)
    assert {name.split(".")[0] for name in backup.manifest.rows} == {"workbench", "silver"}
    with journal(tmp_path) as one:
        side = f"{hard}_schemas"
        source.load_beside(backup.manifest, backup.open, side, ALL, one, silent)  # types of hstore and citext
        compared = source.compare(backup.manifest, side, ALL)
        assert compared.problems == [] and compared.schema_equal
        source.drop_side(side, one)


def test_an_empty_database_is_a_backup_too(postgres15: DatabaseServer) -> None:
    with postgres15.database() as name:
        assert capture(source_for(postgres15), name).manifest.rows == {}


def test_databases_with_odd_names_are_captured(postgres15: DatabaseServer, tmp_path: Path) -> None:
    name = unused("""od"d 'n=m' ☃ \\""")
    quoted = '"' + name.replace('"', '""') + '"'
    postgres15.sql(f"CREATE DATABASE {quoted}")
    try:
        with postgres15.connect(name) as connection:
            connection.execute("CREATE TABLE t AS SELECT 1 AS one")
        for form in ("plain", "custom"):
            source = source_for(postgres15, databases=[name], format=form)
            assert source.databases() == [name]
            backup = capture(source, name)
            with journal(tmp_path) as one:
                source.load_beside(backup.manifest, backup.open, f"{name} side", ALL, one, silent)
                assert source.compare(backup.manifest, f"{name} side", ALL).equal
                source.drop_side(f"{name} side", one)
    finally:
        postgres15.sql(f"DROP DATABASE {quoted}")


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"password": "fake-wrong-password"}, CredentialsRefused, "password authentication failed"),
        ({"user": "nobody_here"}, CredentialsRefused, "nobody_here"),
        ({"port": 1}, Unreachable, "does not answer"),
        ({"tools_path": "/nonexistent"}, ToolMissing, "pg_dump"),
        ({"schemas": ["workbnch"]}, UnknownName, "Did you mean 'workbench'"),
    ],
)
def test_preflight_says_in_words_what_is_wrong(
    postgres15: DatabaseServer, hard: str, options: dict[str, Any], error: type[BackupError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        source_for(postgres15, **options).preflight(hard)
    assert "fake-wrong-password" not in str(caught.value) and postgres15.password not in str(caught.value)


def test_an_unknown_database_suggests_the_nearest(postgres15: DatabaseServer, hard: str) -> None:
    with pytest.raises(UnknownName, match=f"Did you mean '{hard}'"):
        source_for(postgres15).preflight(hard[:-1])
    with pytest.raises(UnknownName, match=f"Did you mean '{hard}'"):
        source_for(postgres15, databases=[hard + "x"]).databases()


def test_a_tool_older_than_the_server_is_refused_in_words(
    postgres15: DatabaseServer, hard: str, tmp_path: Path
) -> None:
    (tmp_path / "pg_dump").write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 14.1 (Debian 14.1-1)'\n")
    (tmp_path / "pg_dump").chmod(0o755)
    with pytest.raises(WrongTool, match=r"version 14\.1 .*older than the server \(version 15\)"):
        source_for(postgres15, tools_path=str(tmp_path)).preflight(hard)


def test_a_missing_right_is_named_with_its_exact_grant(postgres15: DatabaseServer, hard: str) -> None:
    postgres15.sql("DROP ROLE IF EXISTS small_backup; CREATE ROLE small_backup LOGIN PASSWORD 'fake-small-password'")
    source = source_for(postgres15, user="small_backup", password="fake-small-password")
    try:
        with pytest.raises(MissingGrant, match=f'GRANT CONNECT ON DATABASE "{hard}" TO "small_backup";'):
            source.preflight(hard)
        postgres15.sql(f"GRANT CONNECT ON DATABASE {hard} TO small_backup")
        with pytest.raises(MissingGrant, match='GRANT pg_read_all_data TO "small_backup";'):
            source.preflight(hard)
        postgres15.sql("GRANT pg_read_all_data TO small_backup")
        with pytest.raises(MissingGrant, match='ALTER ROLE "small_backup" BYPASSRLS;'):
            source.preflight(hard)
        postgres15.sql("ALTER ROLE small_backup BYPASSRLS")
        with pytest.raises(MissingGrant, match="GRANT SELECT ON LARGE OBJECT"):
            source.preflight(hard)
        postgres15.sql(
            "SELECT format('GRANT SELECT ON LARGE OBJECT %s TO small_backup', oid) "
            "FROM pg_largeobject_metadata \\gexec",
            hard,
        )
        source.preflight(hard)
        backup = capture(source, hard)
        assert "Role passwords are not in this backup" in backup.manifest.warnings[0]
    finally:
        postgres15.sql("DROP OWNED BY small_backup; DROP ROLE small_backup", hard)


def test_the_lock_names_who_holds_it_and_goes_with_its_session(postgres15: DatabaseServer) -> None:
    first, second = source_for(postgres15), source_for(postgres15)
    with first.lock("app"):
        with pytest.raises(LockHeld, match=rf"backup-flows:workbench:{os.getpid()}"), second.lock("app"):
            pass
        with second.lock("other"):
            pass
        postgres15.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        deadline = time.monotonic() + 10
        while postgres15.sql("SELECT pid FROM pg_locks WHERE locktype = 'advisory'") and time.monotonic() < deadline:
            time.sleep(0.05)
        with second.lock("app"):
            pass

"""kill -9 at every step of a restore: production is whole old or whole new, and nothing is left over."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.journal import abandoned
from engine.progress import silent
from tests.functional.postgres.kit import (
    ALL,
    capture,
    drop_like,
    fingerprint,
    journal,
    make_roles,
    properties,
    source_for,
    unused,
)
from tests.servers.databases import DatabaseServer

pytestmark = pytest.mark.sampled

ROOT = Path(__file__).parents[3]
LOAD = [
    "after load-create",
    "before load-created",
    "after load-created",
    "after load-data",
    "within load",
    "before load-loaded",
]
SWAP = [
    "after load-loaded",
    "after swap-begin",
    "before swap-block",
    "after swap-block",
    "before swap-rename",
    "after swap-rename",
]
SWAPPED = ["before swap-done", "after swap-done"]


@pytest.fixture
def database(postgres15: DatabaseServer) -> Iterator[str]:
    name = unused("prod")
    make_roles(postgres15)
    postgres15.sql(f"CREATE DATABASE {name}")
    postgres15.sql(
        f"""
        CREATE SCHEMA extra; CREATE TABLE extra.e AS SELECT generate_series(1, 1000) AS n;
        CREATE TABLE t (id serial PRIMARY KEY, body text); GRANT SELECT ON t TO app_reader;
        INSERT INTO t (body) SELECT repeat(md5(n::text), 20) FROM generate_series(1, 5000) n;
        ALTER DATABASE {name} OWNER TO app_owner; REVOKE CONNECT ON DATABASE {name} FROM PUBLIC;
        ALTER DATABASE {name} SET work_mem TO '7MB';
    """,
        name,
    )
    try:
        yield name
    finally:
        drop_like(postgres15, f"{name}%")


def die(
    server: DatabaseServer, name: str, directory: Path, when: str, *, form: str = "plain", schemas: tuple[str, ...] = ()
) -> tuple[Any, Any]:
    """Capture, change production, and let a restore die. Returns how the backup and production looked."""
    source = source_for(server, format=form)
    backup = capture(source, name)
    as_backed_up = fingerprint(server, name), properties(server, name)
    server.sql(
        f"DELETE FROM t WHERE id % 2 = 0; DELETE FROM extra.e WHERE n > 10; "
        f"ALTER DATABASE {name} SET work_mem TO '9MB'",
        name,
    )
    changed = fingerprint(server, name), properties(server, name)
    (directory / "manifest.json").write_text(backup.manifest.model_dump_json())
    (directory / "data").write_bytes(backup.parts["data"])
    config = {
        "user": server.user,
        "password": server.password,
        "host": server.host,
        "port": server.port,
        "format": form,
    }
    orders = {
        "directory": str(directory),
        "when": when,
        "config": config,
        "side": f"{name}_side",
        "database": name,
        "schemas": schemas,
    }
    program = [sys.executable, str(Path(__file__).with_name("dying_run.py")), json.dumps(orders)]
    done = subprocess.run(
        program, cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, capture_output=True
    )
    assert done.returncode == -9, done.stderr.decode()
    return as_backed_up, changed


def recover(server: DatabaseServer, directory: Path) -> list[str]:
    said: list[str] = []
    for one in abandoned(directory / "journals", "postgres"):
        said += source_for(server).recover(one)
    return said


def nothing_is_left(server: DatabaseServer, name: str, directory: Path, *allowed: str) -> None:
    assert list((directory / "journals").iterdir()) == []
    names = {
        row[0]
        for row in server.sql(
            f"SELECT datname FROM pg_database WHERE datname LIKE '{name}%' OR datname LIKE 'backup_flows%'"
        )
    }
    assert names == {name, *allowed}
    deadline = time.monotonic() + 10
    left = "SELECT pid, query FROM pg_stat_activity WHERE application_name LIKE 'backup-flows%'"
    while server.sql(left) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert server.sql(left) == []
    assert not list(directory.glob("**/*.spool"))


@pytest.mark.parametrize("when", LOAD + SWAP)
def test_a_restore_killed_before_its_exchange_is_undone(
    postgres15: DatabaseServer, database: str, tmp_path: Path, when: str
) -> None:
    _, changed = die(postgres15, database, tmp_path, when)
    said = recover(postgres15, tmp_path)
    assert said
    assert (fingerprint(postgres15, database), properties(postgres15, database)) == changed
    nothing_is_left(postgres15, database, tmp_path)
    again = source_for(postgres15)
    with journal(tmp_path / "journals") as one, again.lock(database):  # and the next run succeeds
        backup = capture(again, database)
        again.load_beside(backup.manifest, backup.open, f"{database}_side", ALL, one, silent)
        again.swap(backup.manifest, backup.open, f"{database}_side", database, f"{database}_before_x", ALL, one, silent)
        one.close()
    nothing_is_left(postgres15, database, tmp_path, f"{database}_before_x")


@pytest.mark.parametrize("when", SWAPPED)
def test_a_restore_killed_after_its_exchange_stands(
    postgres15: DatabaseServer, database: str, tmp_path: Path, when: str
) -> None:
    backed_up, changed = die(postgres15, database, tmp_path, when)
    said = recover(postgres15, tmp_path)
    assert f"{database} is the restored one and open" in said[-1]
    assert (fingerprint(postgres15, database), properties(postgres15, database)) == backed_up
    assert (fingerprint(postgres15, f"{database}_before_x"), properties(postgres15, f"{database}_before_x")) == changed
    nothing_is_left(postgres15, database, tmp_path, f"{database}_before_x")


@pytest.mark.parametrize("when", ["after load-spool", "within spool", "within load"])
def test_a_parallel_restore_killed_leaves_no_spool_file(
    postgres15: DatabaseServer, database: str, tmp_path: Path, when: str
) -> None:
    _, changed = die(postgres15, database, tmp_path, when, form="custom")
    recover(postgres15, tmp_path)
    assert (fingerprint(postgres15, database), properties(postgres15, database)) == changed
    nothing_is_left(postgres15, database, tmp_path)


@pytest.mark.parametrize(
    "when", ["after exchange-begin", "within exchange", "before exchange-commit", "after exchange-commit"]
)
def test_an_exchange_of_schemas_killed_before_its_commit_never_was(
    postgres15: DatabaseServer, database: str, tmp_path: Path, when: str
) -> None:
    _, changed = die(postgres15, database, tmp_path, when, schemas=("extra",))
    said = recover(postgres15, tmp_path)
    assert any("exchange was undone" in line for line in said)
    assert (fingerprint(postgres15, database), properties(postgres15, database)) == changed
    nothing_is_left(postgres15, database, tmp_path)


@pytest.mark.parametrize("when", ["before exchange-done", "after exchange-done"])
def test_an_exchange_of_schemas_killed_after_its_commit_stands(
    postgres15: DatabaseServer, database: str, tmp_path: Path, when: str
) -> None:
    die(postgres15, database, tmp_path, when, schemas=("extra",))
    recover(postgres15, tmp_path)
    assert postgres15.sql(
        "SELECT (SELECT count(*) FROM extra.e), (SELECT count(*) FROM extra_before_x.e)", database
    ) == [("1000", "10")]
    nothing_is_left(postgres15, database, tmp_path)


def test_recovering_twice_is_harmless(postgres15: DatabaseServer, database: str, tmp_path: Path) -> None:
    backed_up, _ = die(postgres15, database, tmp_path, "before swap-done")
    one = next(abandoned(tmp_path / "journals"))
    text = one.path.read_bytes()
    source_for(postgres15).recover(one)
    one.path.write_bytes(text)  # as if the first had died just before it closed the journal
    recover(postgres15, tmp_path)
    assert (fingerprint(postgres15, database), properties(postgres15, database)) == backed_up
    nothing_is_left(postgres15, database, tmp_path, f"{database}_before_x")


def test_a_server_that_is_down_keeps_the_journal_for_the_next_run(
    postgres15: DatabaseServer, database: str, tmp_path: Path
) -> None:
    die(postgres15, database, tmp_path, "before swap-rename")
    one = next(abandoned(tmp_path / "journals"))
    with pytest.raises(Exception, match="does not answer"):
        source_for(postgres15, port=1).recover(one)
    one.release()
    assert len(list((tmp_path / "journals").iterdir())) == 1
    with pytest.raises(Exception, match="accepts no connections"):
        source_for(postgres15).preflight(database)
    recover(postgres15, tmp_path)
    source_for(postgres15).preflight(database)

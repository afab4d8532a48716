"""A capture that cannot be whole fails, in words, and leaves nothing running or locked behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from engine.errors import (
    CredentialsRefused,
    IntegrityError,
    MissingGrant,
    SnapshotMismatch,
    ToolFailed,
    ToolMissing,
    UnknownName,
    Unreachable,
    WrongTool,
    is_retryable,
)
from engine.mysql import MySQLSource
from engine.progress import silent
from tests.functional.mysql.capturing import MemoryParts, load_hard, shop, source_for, wait_until_alone
from tests.servers import DatabaseServer

pytestmark = pytest.mark.one_server
BIG = (
    "CREATE TABLE big (id INT PRIMARY KEY, x VARCHAR(500)) ENGINE=InnoDB; "
    "INSERT INTO big SELECT seq, REPEAT('x', 480) FROM seq_1_to_60000"
)
WEAK = "fake-weak-password-1"


@pytest.fixture(params=["mariadb", "mysql9_container"])
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, DatabaseServer)
    return found


def grow(server: DatabaseServer, database: str) -> None:
    """Enough rows that a dump is far from its end when its first bytes come."""
    server.sql("INSERT INTO orders (who, what) SELECT 1, REPEAT('z', 200) FROM steady a, steady b, steady c", database)
    for _ in range(10):
        server.sql("INSERT INTO orders (who, what) SELECT who, what FROM orders", database)


def tamper(source: MySQLSource, monkeypatch: pytest.MonkeyPatch, edit: Callable[[bytes], bytes]) -> None:
    """Let every dump's real output pass through ``edit``."""
    original = source.runner.start

    def start(command: Any, *, timeout: float | None = None) -> Any:
        process = original(command, timeout=timeout)
        if command.gated:
            chunks = process.chunks

            def edited() -> Iterator[bytes]:
                monkeypatch.setattr(process, "chunks", chunks)  # waiting for the end looks for more
                whole = b"".join(chunks())
                changed = edit(whole)
                assert changed != whole, "the edit found nothing to change"
                yield from (changed[at : at + 5000] for at in range(0, len(changed), 5000))

            monkeypatch.setattr(process, "chunks", edited)
        return process

    monkeypatch.setattr(source.runner, "start", start)


def lose_a_row(dump: bytes) -> bytes:
    return re.sub(rb",\n?\(3,'2030-05-05','new'\);", b";", dump)


def lose_a_table(dump: bytes) -> bytes:
    start = dump.index(b"DROP TABLE IF EXISTS `parted`;")
    return dump[:start] + dump[dump.index(b"-- Table structure for table `select`") :]


def lose_the_end(dump: bytes) -> bytes:
    return dump[: dump.index(b"-- Dump completed")]


def shift_the_position(dump: bytes) -> bytes:
    return re.sub(rb"LOG_POS=(\d+)", rb"LOG_POS=9\1", dump)


@pytest.mark.parametrize(
    ("edit", "error", "words"),
    [
        (lose_a_row, SnapshotMismatch, r"table 'parted' has 2 rows, .*says 3"),
        (lose_a_table, SnapshotMismatch, r"table 'parted' is missing \(3 rows expected\)"),
        (lose_the_end, IntegrityError, "cut off"),
        (shift_the_position, SnapshotMismatch, "something was committed in between"),
    ],
)
def test_what_is_lost_on_the_way_fails_the_capture_and_is_named(
    server: DatabaseServer, monkeypatch: pytest.MonkeyPatch, edit: Callable[[bytes], bytes],
    error: type[Exception], words: str,
) -> None:  # fmt: skip
    # The edit waits for the whole dump before it lets anything through, and the lock is held as long.
    source = source_for(server, lock_try_seconds=20)
    with server.database("hard") as name:
        load_hard(server, name)
        source.capture(name, MemoryParts(), silent)
        tamper(source, monkeypatch, edit)
        with pytest.raises(error, match=words):
            source.capture(name, MemoryParts(), silent)
        wait_until_alone(server, source)
    source.close()


def test_a_schema_that_changes_during_the_dump_is_noticed(mariadb: DatabaseServer) -> None:
    source = source_for(mariadb)
    with shop(mariadb) as name:

        def migrate(_: bytes) -> None:
            mariadb.sql("CREATE TABLE IF NOT EXISTS arrived (a INT)", name)

        with pytest.raises(SnapshotMismatch, match="table arrived is new") as caught:
            source.capture(name, MemoryParts(migrate), silent)
        assert is_retryable(caught.value)
    source.close()


def test_on_mysql_a_migration_waits_for_the_dump(mysql9_container: DatabaseServer) -> None:
    source = source_for(mysql9_container)
    with shop(mysql9_container) as name:
        heard: list[str] = []

        def migrate(_: bytes) -> None:
            heard.append("x")
            refused = subprocess.run(
                mysql9_container.client_command(name), capture_output=True,
                input=b"SET SESSION lock_wait_timeout = 1; CREATE TABLE arrived (a INT)",
                env={**os.environ, "MYSQL_PWD": mysql9_container.password, "PGPASSWORD": ""},
            )  # fmt: skip
            assert b"1205" in refused.stderr

        source.capture(name, MemoryParts(migrate), silent)
        assert heard
        mysql9_container.sql("CREATE TABLE arrived (a INT)", name)
    source.close()


def test_a_server_that_dies_during_the_dump_is_an_error_and_what_was_written_is_no_dump(mariadb_factory: Any) -> None:
    server = mariadb_factory("--net-write-timeout=30")
    source = source_for(server)
    server.sql("CREATE DATABASE doomed")
    server.sql(BIG, "doomed")
    killed: list[int] = []

    def kill(_: bytes) -> None:
        if not killed:
            killed.append(server.pid)
            server.kill()

    parts = MemoryParts(kill)
    try:
        with pytest.raises((Unreachable, ToolFailed)) as caught:
            source.capture("doomed", parts, silent)
        assert killed
        assert is_retryable(caught.value)
        assert b"-- Dump completed" not in parts.parts["data"]
        assert "accounts" not in parts.parts
    finally:
        server.start()
    source.close()
    assert source.capture("doomed", MemoryParts(), silent).rows == {"big": 60000}
    source.close()


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_whatever_stops_a_capture_leaves_no_session_lock_or_query_in_the_server(
    server: DatabaseServer, error: BaseException
) -> None:
    source = source_for(server)
    with shop(server) as name:
        grow(server, name)

        def stop(_: bytes) -> None:
            raise error

        with pytest.raises(type(error)):
            source.capture(name, MemoryParts(stop), silent)
        wait_until_alone(server, source)
        server.sql("SET SESSION lock_wait_timeout = 2; INSERT INTO orders (who) VALUES (1); "
                   "ALTER TABLE orders ADD COLUMN later INT", name)  # fmt: skip
        assert source.capture(name, MemoryParts(), silent).rows["orders"] > 0
    source.close()


def test_a_capture_killed_outright_leaves_nothing_locked_and_nothing_running(
    server: DatabaseServer, tmp_path: Path
) -> None:
    source = source_for(server)
    with shop(server) as name:
        grow(server, name)
        ready = tmp_path / "ready"
        script = tmp_path / "victim.py"
        script.write_text(
            "import sys, time, pathlib\n"
            f"sys.path.insert(0, {str(Path(__file__).parents[3])!r})\n"
            "from engine.config import MySQLConfig\nfrom engine.mysql import MySQLSource\n"
            "from engine.progress import silent\n"
            f"config = MySQLConfig.model_validate_json({_with_secret(source)!r})\n"
            "class Slow:\n"
            "    def data(self): return self\n"
            "    def companion(self, role, ext='sql'): return self\n"
            f"    def write(self, data): pathlib.Path({str(ready)!r}).touch(); time.sleep(600)\n"
            f"MySQLSource(config, site='unit').capture({name!r}, Slow(), silent)\n"
        )
        victim = subprocess.Popen([sys.executable, str(script)], stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert victim.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        wait_until_alone(server, source)
        server.sql("SET SESSION lock_wait_timeout = 2; ALTER TABLE orders ADD COLUMN later INT", name)
        assert source.capture(name, MemoryParts(), silent).rows["steady"] == 3
    source.close()


def _with_secret(source: MySQLSource) -> str:
    import json

    fields = source.config.model_dump(mode="json")
    assert source.config.password is not None
    return json.dumps({**fields, "password": source.config.password.get_secret_value()})


def test_a_missing_grant_is_named_with_the_statements_that_give_it(server: DatabaseServer) -> None:
    with server.database("hard") as name:
        load_hard(server, name)
        server.sql(f"CREATE USER weak@'%' IDENTIFIED BY '{WEAK}'; GRANT SELECT ON `{name}`.* TO weak@'%'")
        try:
            source = source_for(server, user="weak", password=SecretStr(WEAK))
            with pytest.raises(MissingGrant) as caught:
                source.preflight(name)
            assert f"GRANT SHOW VIEW, TRIGGER, EVENT, LOCK TABLES ON `{name}`.* TO 'weak'@'%';" in caught.value.remedy
            assert "RELOAD" in caught.value.remedy
            for _ in range(3):  # what the remedy says is enough, possibly in steps
                try:
                    source.preflight(name)
                    break
                except MissingGrant as error:
                    server.sql(error.remedy.partition(": ")[2])
            facts = source.capture(name, MemoryParts(), silent)
            assert facts.contents["routines"] == 2
            assert facts.schema_sha256 == source_for(server).capture(name, MemoryParts(), silent).schema_sha256
            source.close()
        finally:
            server.sql("DROP USER weak@'%'")


def test_wrong_password_no_server_and_no_database_are_told_apart(server: DatabaseServer) -> None:
    wrong = source_for(server, password=SecretStr("fake-wrong-password"))
    with pytest.raises(CredentialsRefused) as caught:
        wrong.server()
    assert not is_retryable(caught.value)
    assert "fake-wrong-password" not in str(caught.value)
    source = source_for(server)
    with server.database("workset") as name:
        for ask in (source.preflight, source.connect):
            with pytest.raises(UnknownName, match=f"no database '{name}x'") as missing:
                ask(f"{name}x")
            assert name in missing.value.remedy
        gone = source_for(server, databases=[name, "nowhere"])
        with pytest.raises(UnknownName, match="'nowhere'"):
            gone.databases()
    nobody = source_for(server, host="127.0.0.1", port=1)
    with pytest.raises(Unreachable):
        nobody.server()
    for each in (source, gone):
        each.close()


def test_client_programs_of_the_other_flavour_or_none_are_refused_in_words(
    mysql9_container: DatabaseServer, mariadb: DatabaseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = source_for(mysql9_container, service=None, project=None, docker_host=None,
                      host=mysql9_container.host, port=mysql9_container.port)  # fmt: skip
    with pytest.raises(WrongTool, match="MariaDB's, and the server is MySQL"):
        _ = here.dump
    here.close()
    monkeypatch.setenv("PATH", str(tmp_path))
    without = source_for(mariadb)
    with pytest.raises(ToolMissing, match="mariadb-dump or mysqldump is not on this host"):
        _ = without.dump
    without.close()

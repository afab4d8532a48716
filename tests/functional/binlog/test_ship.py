"""Shipping against real servers: everything once, in order, whatever happens in between."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engine import names
from engine.binlog.events import Reader
from engine.binlog.ship import LOCK, ship
from engine.catalog import Entry
from engine.config import SiteConfig
from engine.errors import ConfigError, IntegrityError, LockHeld, LogChainBroken, LogGap, MissingGrant
from engine.logs import LogFile, ShipReport, ledger, load_log
from engine.manifest import Manifest
from engine.site import Site
from tests.functional.binlog import kit
from tests.servers import DatabaseServer
from tests.servers.fixtures import Factory

pytestmark = pytest.mark.sampled

SHIPS = """
DROP DATABASE IF EXISTS ships;
CREATE DATABASE ships;
CREATE TABLE ships.t (a INT AUTO_INCREMENT PRIMARY KEY);
"""
_MADE = 3
"""Transactions of that."""


@pytest.fixture(scope="module")
def own_mariadb(mariadb_factory: Factory) -> DatabaseServer:
    return mariadb_factory("--innodb-buffer-pool-size=16M")


@pytest.fixture(params=["mariadb", "mysql"])
def server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """A server whose logs begin anew, with a table to write to."""
    fixture = {"mariadb": "own_mariadb", "mysql": "mysql9_container"}[request.param]
    found: DatabaseServer = request.getfixturevalue(fixture)
    kit.reset(found)
    found.sql(
        "DROP DATABASE IF EXISTS ships; CREATE DATABASE ships; CREATE TABLE ships.t (a INT AUTO_INCREMENT PRIMARY KEY)"
    )
    yield found
    found.sql("DROP DATABASE IF EXISTS ships")


@pytest.fixture
def config(server: DatabaseServer, tmp_path: Path) -> SiteConfig:
    return kit.site_config(server, tmp_path / "vault", databases=["ships"])


def run(config: SiteConfig, **options: Any) -> ShipReport:
    with Site(config) as site:
        return ship(site, "mysql", **options)


def write(server: DatabaseServer, rotations: int = 1) -> None:
    for _ in range(rotations):
        server.sql("INSERT INTO ships.t VALUES (); FLUSH BINARY LOGS")


def purge(server: DatabaseServer, to: str) -> None:
    """Have the server drop its logs before one; it keeps those that a crash would still need for a moment."""
    for _ in range(100):
        server.sql(f"PURGE BINARY LOGS TO '{to}'")
        if kit.logs(server)[0][0] == to:
            return
        time.sleep(0.1)
    raise AssertionError(f"{kit.logs(server)} are still there")


def held(config: SiteConfig) -> list[tuple[Entry, Manifest, LogFile]]:
    with Site(config) as site:
        entries = ledger(site.vault, "mysql", names.BINLOGS)
        return [(entry, *load_log(site.vault, entry)) for entry in entries]


def data(config: SiteConfig, entry: Entry, manifest: Manifest) -> bytes:
    with Site(config) as site:
        return b"".join(site.vault.read_part(entry, manifest))


def check_all(config: SiteConfig, server: DatabaseServer) -> None:
    """Every closed log is there once, to the byte, with its neighbours' numbers."""
    known = held(config)
    assert [log.name for _, _, log in known] == [name for name, _ in kit.logs(server)[:-1]]
    for entry, manifest, log in known:
        own = bytearray(kit.own_bytes(server, log.name))
        own[21] &= ~1  # "is being written" stays in the file of a MariaDB that was killed
        assert data(config, entry, manifest) == own
        assert log.end == manifest.data.plain_size


def test_every_closed_log_is_shipped_once_and_says_what_it_holds(server: DatabaseServer, config: SiteConfig) -> None:
    write(server, 3)
    server.sql("INSERT INTO ships.t VALUES (), ()")
    first = run(config)
    assert first.rotated and [log.number for log in first.shipped] == [1, 2, 3, 4]
    check_all(config, server)
    again = run(config)
    assert not again.rotated and not again.shipped and again.covers_until > first.covers_until
    for shown, stored in zip(first.shipped, held(config), strict=True):
        assert stored[2] == shown and stored[1].kind == "binlog" and stored[1].tier == "binlogs"
        assert stored[0].file.startswith(f"{shown.name}.2") and stored[0].file.endswith(".gz.enc")
    logs = first.shipped
    assert {log.row for log in logs} == {(logs[0].chain, 0)}
    assert sum(log.transactions for log in logs) == _MADE + 3 + 1
    for log in logs:
        assert log.created_at and log.first_commit and log.last_commit and log.covers_until
        assert log.first_commit <= log.last_commit <= log.covers_until + timedelta(seconds=1)
    covers = [log.covers_until for log in logs if log.covers_until]
    assert covers == sorted(covers)
    executed = str(
        server.sql("SELECT @@gtid_binlog_pos" if server.flavour == "mariadb" else "SELECT @@gtid_executed")[0][0]
    )
    assert logs[-1].gtid_last.split(":")[-1].split("-")[-1] in executed
    if server.flavour == "mysql":
        assert [(logs[0].chain,)] == server.sql("SELECT @@server_uuid")


def test_an_idle_server_is_left_alone_for_an_hour_and_a_written_one_is_rotated(
    server: DatabaseServer, config: SiteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(config)
    before = kit.logs(server)
    assert not run(config).rotated and kit.logs(server) == before
    server.sql("INSERT INTO ships.t VALUES ()")
    assert [log.transactions for log in run(config).shipped] == [1]
    monkeypatch.setattr("engine.binlog.ship.IDLE_ROTATION", timedelta(0))
    moved = run(config)
    assert moved.rotated and [log.transactions for log in moved.shipped] == [0]
    check_all(config, server)


def test_what_a_log_covers_is_committed_in_it_or_before(server: DatabaseServer, config: SiteConfig) -> None:
    server.sql("INSERT INTO ships.t VALUES ()")
    before = server.sql("SELECT UTC_TIMESTAMP(6)")[0][0]
    report = run(config)
    server.sql("INSERT INTO ships.t VALUES ()")
    assert report.covers_until is not None
    assert f"{report.covers_until:%Y-%m-%d %H:%M:%S.%f}" > str(before)
    assert sum(log.transactions for log in report.shipped) == _MADE + 1


def test_logs_that_were_purged_too_early_are_named_and_all_others_shipped(
    server: DatabaseServer, config: SiteConfig
) -> None:
    write(server)
    run(config)
    write(server, 4)
    listed = [name for name, _ in kit.logs(server)]
    shipped = [log.name for _, _, log in held(config)]
    lost = [name for name in listed if name not in shipped][:2]
    server.sql(f"PURGE BINARY LOGS TO '{listed[listed.index(lost[-1]) + 1]}'")
    with pytest.raises(LogGap) as told:
        run(config)
    assert all(name in told.value.message for name in lost) and "backups backup" in told.value.remedy
    numbers = [log.number for _, _, log in held(config)]
    assert [each for each in range(1, max(numbers)) if each not in numbers] == [int(each[-6:]) for each in lost]
    later = run(config)
    assert any("new full" in each for each in later.warnings)


def test_a_server_that_was_reset_begins_a_new_epoch_loudly_and_once(server: DatabaseServer, config: SiteConfig) -> None:
    write(server, 3)
    run(config)
    kit.reset(server)
    write(server)
    with pytest.raises(LogChainBroken, match="began anew") as told:
        run(config)
    assert "new full" in told.value.remedy
    write(server, 2)
    report = run(config)
    assert any("new full" in each for each in report.warnings)
    known = [log for _, _, log in held(config)]
    new = [log for log in known if log.epoch == 1]
    assert len([log for log in known if log.epoch == 0]) >= 3
    assert [log.name for log in new] == [name for name, _ in kit.logs(server)[:-1]]
    assert [log.number for log in new] == list(range(1, len(new) + 1))
    assert run(config).shipped == []


@pytest.mark.parametrize(
    ("overtaken", "seen", "words"),
    [
        (0, True, "is another log than the one that followed"),
        (3, True, "is another log than the one that followed"),
        (0, False, "began without"),
    ],
    ids=["fewer transactions than before", "as many and more", "shipped before it was noted what followed"],
)
def test_a_server_that_was_reset_and_has_passed_the_vaults_numbers_begins_a_new_epoch(
    server: DatabaseServer,
    config: SiteConfig,
    overtaken: int,
    seen: bool,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not seen:
        monkeypatch.setattr("engine.recovery.fit._is_known", lambda log, name: False)
    newest = run(config).shipped[-1]
    server.sql("INSERT INTO ships.t VALUES ()")  # in a log that is never shipped
    kit.reset(server)
    time.sleep(1.1)  # logs tell when they began in whole seconds
    server.sql("INSERT INTO ships.t VALUES (); " * (1 + overtaken * _MADE))
    for _ in range(newest.number):
        server.sql("FLUSH BINARY LOGS")
    following = kit.logs(server)[-1][0]
    assert int(following[-6:]) == newest.number + 1
    purge(server, following)
    server.sql("INSERT INTO ships.t VALUES ()")
    with pytest.raises(LogChainBroken, match=f"{following} {words}"):
        run(config)
    assert [(log.name, log.epoch) for _, _, log in held(config)] == [(newest.name, 0), (following, 1)]


def test_a_newest_log_that_was_purged_is_gone_on_from_with_the_one_that_followed_it(
    server: DatabaseServer, config: SiteConfig
) -> None:
    run(config)
    write(server, 2)
    purge(server, kit.logs(server)[1][0])
    run(config)
    known = [log for _, _, log in held(config)]
    assert {log.epoch for log in known} == {0}
    assert [log.number for log in known] == list(range(1, len(known) + 1)) and len(known) >= 3


def test_a_server_put_back_to_an_older_state_is_noticed_even_when_its_numbers_have_caught_up(
    own_mariadb: DatabaseServer, tmp_path: Path
) -> None:
    server, config = own_mariadb, kit.site_config(own_mariadb, tmp_path / "vault", databases=[])
    kit.reset(server)
    server.sql(
        "CREATE DATABASE IF NOT EXISTS ships; CREATE TABLE IF NOT EXISTS ships.t (a INT AUTO_INCREMENT PRIMARY KEY)"
    )
    assert server.data_directory is not None
    write(server, 2)
    run(config)
    server.stop()
    subprocess.run(["cp", "-a", str(server.data_directory), str(tmp_path / "snapshot")], check=True)
    server.start()
    write(server, 3)
    last = run(config).shipped[-1]
    server.stop()
    subprocess.run(["rsync", "-a", "--delete", f"{tmp_path}/snapshot/", f"{server.data_directory}/"], check=True)
    server.start()
    server.sql("INSERT INTO ships.t VALUES (), (), ()")
    write(server, 5)
    assert last.name in dict(kit.logs(server))
    with pytest.raises(LogChainBroken, match=f"{last.name} is another log"):
        run(config)
    by_name: dict[str, list[LogFile]] = {}
    for _, _, log in held(config):
        by_name.setdefault(log.name, []).append(log)
    for name, _ in kit.logs(server)[:-1]:
        epochs = [log.epoch for log in by_name[name]]
        assert epochs in ([0], [0, 1], [1]), "the time before stays as it was; what differs was shipped anew, once"
    entry, manifest, log = [each for each in held(config) if each[2].name == last.name][-1]
    assert log.epoch == 1 and data(config, entry, manifest) == kit.own_bytes(server, last.name)
    assert run(config).shipped == []


def test_a_killed_run_loses_nothing_and_doubles_nothing(server: DatabaseServer, config: SiteConfig) -> None:
    rng = random.Random(7)
    argv = [sys.executable, "-m", "tests.functional.binlog.shipping"]
    given = json.dumps(_plain(config)).encode()
    for _ in range(6):
        write(server, 4)
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
            assert process.stdin and process.stdout
            process.stdin.write(given)
            process.stdin.close()
            assert process.stdout.readline() == b"begins\n"
            time.sleep(rng.uniform(0, 0.25))
            os.killpg(process.pid, signal.SIGKILL)
    with Site(config) as site:
        site.sweep()
    run(config)
    check_all(config, server)
    assert run(config).shipped == []


def _plain(config: SiteConfig) -> Any:
    """With its secrets, for the standard input of a process of ours."""

    def secret(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: secret(each) for key, each in value.items()}
        if isinstance(value, list):
            return [secret(each) for each in value]
        return value.get_secret_value() if hasattr(value, "get_secret_value") else value

    return secret(config.model_dump())


def test_two_runs_at_once_are_refused(server: DatabaseServer, config: SiteConfig) -> None:
    with Site(config) as site:
        site.vault.check()
        with site.vault.lock("mysql", LOCK), pytest.raises(LockHeld):
            run(config)
    assert held(config) == []


def test_missing_grants_are_named_and_nothing_is_begun(server: DatabaseServer, tmp_path: Path) -> None:
    server.sql("CREATE USER 'ships'@'%' IDENTIFIED BY 'fake-secret-ships'; GRANT SELECT ON *.* TO 'ships'@'%'")
    config = kit.site_config(server, tmp_path / "vault", user="ships", password="fake-secret-ships")
    try:
        before = kit.logs(server)
        with pytest.raises(MissingGrant) as told:
            run(config)
        assert kit.logs(server) == before
        statement = told.value.remedy.partition(": ")[2]
        assert "REPLICATION SLAVE" in statement and "RELOAD" in statement
        server.sql(statement)
        assert run(config).shipped
    finally:
        server.sql("DROP USER 'ships'@'%'")


def test_a_server_that_keeps_its_logs_too_briefly_is_warned_of(server: DatabaseServer, config: SiteConfig) -> None:
    kept = server.sql("SELECT @@global.binlog_expire_logs_seconds")[0][0]
    try:
        server.sql("SET GLOBAL binlog_expire_logs_seconds = 7200")
        assert any("purges its binary logs after 7,200 s" in each for each in run(config).warnings)
    finally:
        server.sql(f"SET GLOBAL binlog_expire_logs_seconds = {kept}")
    assert run(config).warnings == []


def test_a_server_without_a_binary_log_is_told_what_to_set(mariadb_factory: Factory, tmp_path: Path) -> None:
    server = mariadb_factory("--skip-log-bin")
    try:
        with pytest.raises(ConfigError, match="writes no binary log") as told:
            run(kit.site_config(server, tmp_path / "vault"))
        assert "log_bin" in told.value.remedy
    finally:
        server.stop()


def test_logs_of_a_server_that_was_killed_are_shipped_whole(own_mariadb: DatabaseServer, tmp_path: Path) -> None:
    server = own_mariadb
    kit.reset(server)
    server.sql(
        "CREATE DATABASE IF NOT EXISTS ships; CREATE TABLE IF NOT EXISTS ships.t (a INT AUTO_INCREMENT PRIMARY KEY)"
    )
    config = kit.site_config(server, tmp_path / "vault", databases=[])
    run(config)
    for _ in range(2):
        with closing(server.connect("ships")) as connection, connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("INSERT INTO t VALUES ()")
            server.sql("INSERT INTO ships.t VALUES ()")
            server.kill()
        server.start()
    run(config)
    check_all(config, server)


def test_an_encrypted_servers_logs_are_shipped_readable(mariadb_factory: Factory, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("1;" + "ab" * 32 + "\n")
    keys.chmod(0o644)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    server = mariadb_factory(
        "--plugin-load-add=file_key_management", f"--file-key-management-filename={keys}", "--encrypt-binlog=ON"
    )
    try:
        server.sql("CREATE DATABASE ships; CREATE TABLE ships.t (a INT AUTO_INCREMENT PRIMARY KEY)")
        config = kit.site_config(server, tmp_path / "vault", databases=["ships"])
        write(server, 2)
        report = run(config)
        assert sum(log.transactions for log in report.shipped) == 4
        entry, manifest, log = held(config)[0]
        assert b"CREATE TABLE ships.t" in data(config, entry, manifest)
        assert b"CREATE TABLE ships.t" not in kit.own_bytes(server, log.name)
        with pytest.raises(IntegrityError, match="encrypted by its server"):
            list(Reader([kit.own_bytes(server, log.name)]))
        (tmp_path / log.name).write_bytes(data(config, entry, manifest))
        read = subprocess.run(["mariadb-binlog", "--no-defaults", tmp_path / log.name], capture_output=True, text=True)
        assert read.returncode == 0 and "CREATE TABLE ships.t" in read.stdout, read.stderr
    finally:
        server.stop()

"""WAL shipping on real servers: what the vault holds is what the server wrote, once, and nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from engine import logs
from engine.backup import verify
from engine.errors import (
    ConfigError,
    CredentialsRefused,
    IntegrityError,
    LockHeld,
    LogChainBroken,
    LogGap,
    MissingGrant,
)
from engine.postgres import slots, wal_plan
from engine.postgres.base_backup import base_backup
from engine.postgres.wal import lsn, parse_lsn
from engine.postgres.wal_ship import ship
from engine.site import Site
from tests.functional.postgres.shipping import (
    content,
    drop_slots,
    equal_to_the_server,
    ledger,
    program,
    restart_lsn,
    segment_names,
    site_on,
)
from tests.functional.vault_helpers import flip
from tests.servers.databases import DatabaseServer
from tests.servers.fixtures import Factory

pytestmark = pytest.mark.sampled

ROOT = Path(__file__).parents[3]
DYING = """
import os, signal, sys
from pathlib import Path
from engine.config import SiteConfig
from engine.postgres.replication import Replication
from engine.postgres.wal_ship import ship
from engine.site import Site
left = [int(sys.argv[2])]
def confirm(self, position):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return before(self, position)
before, Replication.confirm = Replication.confirm, confirm
with Site(SiteConfig.model_validate_json(Path(sys.argv[1]).read_text())) as site:
    ship(site, "postgres")
"""


@pytest.fixture(scope="module")
def own_server(postgres_factory: Factory) -> DatabaseServer:
    """A server of this module's own: its slots, settings and WAL are played with."""
    return postgres_factory("max_slot_wal_keep_size=-1")


@pytest.fixture(params=["own_server", "postgres17_container"])
def server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    one: DatabaseServer = request.getfixturevalue(request.param)
    yield one
    drop_slots(one)


@pytest.fixture
def local(own_server: DatabaseServer) -> Iterator[DatabaseServer]:
    yield own_server
    drop_slots(own_server)


def write(server: DatabaseServer, rows: int = 10) -> None:
    server.sql("CREATE TABLE IF NOT EXISTS shipped (n int, x text)")
    server.sql(f"INSERT INTO shipped SELECT n, repeat('x', 500) FROM generate_series(1, {rows}) n")


def test_shipped_segments_are_the_servers_own_and_follow_each_other(server: DatabaseServer, tmp_path: Path) -> None:
    with site_on(tmp_path / "vault", server) as site:
        write(server)
        first = ship(site, "postgres")
        assert first.rotated and first.covers_until is not None
        write(server, 60_000)  # more than two segments
        second = ship(site, "postgres")
        found = [each.number for each in (*first.shipped, *second.shipped)]
        assert len(second.shipped) >= 3 and found == list(range(found[0], found[0] + len(found)))
        assert equal_to_the_server(site, server) == len(found)
        assert [each.covers_until for each in second.shipped[:-1]] == [None] * (len(second.shipped) - 1)
        assert second.shipped[-1].covers_until == second.covers_until
        assert restart_lsn(server) == lsn(second.shipped[-1].end)
        system = server.sql("SELECT system_identifier FROM pg_control_system()")[0][0]
        assert {each.chain for each in second.shipped} == {system}
        manifest, log = logs.load_log(site.vault, ledger(site)[-1])
        assert log == second.shipped[-1] and manifest.dump_format == manifest.kind == "wal"
        for entry in ledger(site):
            assert verify(site, entry).rows is None


def test_stock_pg_waldump_reads_what_was_shipped_and_finds_the_commit(local: DatabaseServer, tmp_path: Path) -> None:
    with site_on(tmp_path / "vault", local) as site:
        ship(site, "postgres")
        local.sql("CREATE TABLE IF NOT EXISTS seen (n int)")
        xid = local.sql("INSERT INTO seen VALUES (1) RETURNING xmin")[0][0]
        report = ship(site, "postgres")
        assert len(report.shipped) == 1
        path = tmp_path / report.shipped[0].name
        path.write_bytes(content(site, ledger(site)[-1]))
        dumped = subprocess.run([program("pg_waldump"), str(path)], capture_output=True, text=True).stdout
        commits = [line for line in dumped.splitlines() if "COMMIT" in line]
        assert any(f"tx: {xid:>10}" in line or f"tx:{xid:>11}" in line for line in commits), commits
        # The tick is the last commit: a recovery to any covered moment finds a commit after it.
        stamp = commits[-1].split("COMMIT ")[1].split(" UTC")[0]
        assert report.covers_until is not None
        assert f"{report.covers_until:%Y-%m-%d %H:%M:%S.%f}" < stamp


def test_an_idle_run_ships_nothing_and_still_covers_more_time(server: DatabaseServer, tmp_path: Path) -> None:
    with site_on(tmp_path / "vault", server) as site:
        write(server)
        first = ship(site, "postgres")
        before = server.sql("SELECT pg_current_wal_lsn()")
        server.sql("CHECKPOINT")  # the server's own WAL is no activity
        server.sql("SELECT count(*) FROM shipped")
        second = ship(site, "postgres")
        assert not second.shipped and not second.rotated
        assert first.covers_until is not None and second.covers_until is not None
        assert second.covers_until > first.covers_until
        assert len(segment_names(site)) == len(first.shipped)
        write(server, 1)
        assert len(ship(site, "postgres").shipped) == 1, before


def test_a_commit_after_the_switch_of_a_transaction_begun_before_it_is_activity(
    local: DatabaseServer, tmp_path: Path
) -> None:
    write(local)
    with site_on(tmp_path / "vault", local) as site, local.connect() as slow:
        slow.execute("BEGIN")
        slow.execute("INSERT INTO shipped VALUES (-1, 'late')")
        ship(site, "postgres")
        assert not ship(site, "postgres").shipped
        slow.execute("COMMIT")
        assert len(ship(site, "postgres").shipped) == 1


def test_after_an_idle_hour_a_new_segment_is_shipped(
    local: DatabaseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site_on(tmp_path / "vault", local) as site:
        ship(site, "postgres")
        assert not ship(site, "postgres").shipped
        monkeypatch.setattr(wal_plan, "AT_LEAST_EVERY", timedelta(0))
        report = ship(site, "postgres")
        assert len(report.shipped) == 1 and report.shipped[0].covers_until == report.covers_until


def test_many_segments_after_an_outage_are_caught_up_with_in_one_run(local: DatabaseServer, tmp_path: Path) -> None:
    with site_on(tmp_path / "vault", local) as site:
        ship(site, "postgres")
        for _ in range(12):
            write(local, 10)
            local.sql("SELECT pg_switch_wal()")
        local.sql("CHECKPOINT")
        assert len(ship(site, "postgres").shipped) >= 12
        assert equal_to_the_server(site, local) >= 12


@pytest.mark.parametrize("publishings", [1, 2])
def test_a_run_killed_between_publishing_and_confirming_loses_nothing_and_ships_nothing_twice(
    local: DatabaseServer, tmp_path: Path, publishings: int
) -> None:
    with site_on(tmp_path / "vault", local) as site:
        first = ship(site, "postgres")
        write(local, 60_000)
        path = tmp_path / "site.json"
        path.write_text(_with_secrets(site))
        argv = [sys.executable, "-c", DYING, str(path), str(publishings)]
        done = subprocess.run(argv, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        assert len(segment_names(site)) == len(first.shipped) + publishings
        confirmed = restart_lsn(local)
        assert confirmed is not None and parse_lsn(confirmed) < logs.load_log(site.vault, ledger(site)[-1])[1].end
        site.sweep()
        _until_free(local)
        ship(site, "postgres")
        found = segment_names(site)
        assert len(found) == len(set(found)) >= len(first.shipped) + 3
        numbers = [logs.load_log(site.vault, entry)[1].number for entry in ledger(site)]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert equal_to_the_server(site, local) >= 3


def _with_secrets(site: Site) -> str:
    def plain(value: object) -> object:
        if isinstance(value, SecretStr):
            return value.get_secret_value()
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items()}
        return [plain(each) for each in value] if isinstance(value, list) else value

    return json.dumps(plain(site.config.model_dump()))


def _until_free(server: DatabaseServer) -> None:
    deadline = time.monotonic() + 20
    while server.sql("SELECT 1 FROM pg_replication_slots WHERE active") and time.monotonic() < deadline:
        time.sleep(0.1)


def test_a_dead_run_that_confirmed_nothing_is_made_up_for_by_an_idle_run(local: DatabaseServer, tmp_path: Path) -> None:
    with site_on(tmp_path / "vault", local) as site:
        report = ship(site, "postgres")
        name = slots.slot_name("workbench", "postgres")
        drop_slots(local)
        # A slot that stands where it stood before anything was confirmed.
        local.sql(f"SELECT pg_create_physical_replication_slot('{name}', true)")
        ship(site, "postgres")
        assert restart_lsn(local) == lsn(report.shipped[-1].end)


def test_a_slot_that_was_dropped_is_made_anew_and_wal_that_is_still_there_closes_the_gap(
    local: DatabaseServer, tmp_path: Path
) -> None:
    with site_on(tmp_path / "vault", local) as site:
        ship(site, "postgres")
        drop_slots(local)
        write(local)
        report = ship(site, "postgres")
        assert any("made anew" in each for each in report.warnings)
        numbers = [logs.load_log(site.vault, entry)[1].number for entry in ledger(site)]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_wal_that_went_is_a_gap_told_by_name_until_a_base_backup_is_there(
    postgres_factory: Factory, tmp_path: Path
) -> None:
    server = postgres_factory("max_wal_size=32MB", "min_wal_size=32MB", "wal_recycle=off")
    with site_on(tmp_path / "vault", server) as site:
        last = ship(site, "postgres").shipped[-1]
        drop_slots(server)
        for _ in range(6):
            write(server)
            server.sql("SELECT pg_switch_wal()")
        server.sql("CHECKPOINT")
        server.sql("CHECKPOINT")
        for _ in range(2):  # it is told again by a run that has nothing else to do
            with pytest.raises(LogGap) as caught:
                ship(site, "postgres")
            assert f"{1:08X}{0:08X}{last.number + 1:08X}" in caught.value.message
        assert len(segment_names(site)) > 1  # what was there was shipped
        damaged, _ = base_backup(site, "postgres")
        flip(site.vault.root / damaged.key, 1000)
        with pytest.raises(IntegrityError):
            verify(site, damaged)
        with pytest.raises(LogGap):  # no recovery begins with that one
            ship(site, "postgres")
        base_backup(site, "postgres")
        write(server)
        assert not [each for each in ship(site, "postgres").warnings if "base backup" in each]


def test_a_lost_slot_is_told_and_a_base_backup_makes_it_anew(postgres_factory: Factory, tmp_path: Path) -> None:
    server = postgres_factory("max_wal_size=32MB", "min_wal_size=32MB")
    with site_on(tmp_path / "vault", server) as site:
        ship(site, "postgres")
        server.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
        server.sql("SELECT pg_reload_conf()")
        for _ in range(6):
            write(server)
            server.sql("SELECT pg_switch_wal()")
        server.sql("CHECKPOINT")
        assert server.sql("SELECT wal_status FROM pg_replication_slots") == [("lost",)]
        shipped = segment_names(site)
        with pytest.raises(LogChainBroken, match="given up") as caught:
            ship(site, "postgres")
        assert "base backup" in caught.value.remedy and segment_names(site) == shipped
        server.sql("ALTER SYSTEM RESET max_slot_wal_keep_size")
        server.sql("SELECT pg_reload_conf()")
        base_backup(site, "postgres")
        write(server)
        report = ship(site, "postgres")
        assert report.shipped and not [each for each in report.warnings if "base backup" in each]


def test_a_slot_that_is_about_to_be_lost_and_an_unlimited_one_are_warned_of(
    local: DatabaseServer, postgres_factory: Factory, tmp_path: Path
) -> None:
    with site_on(tmp_path / "a", local) as site:
        assert any("max_slot_wal_keep_size is not set" in each for each in ship(site, "postgres").warnings)
    tight = postgres_factory("max_slot_wal_keep_size=64MB")
    with site_on(tmp_path / "b", tight) as site:
        assert not [each for each in ship(site, "postgres").warnings if "about to be lost" in each]
        for _ in range(5):
            write(tight)
            tight.sql("SELECT pg_switch_wal()")
        assert any("about to be lost" in each for each in ship(site, "postgres").warnings)


def test_a_promoted_server_ships_its_history_and_demands_a_base_backup(
    postgres_factory: Factory, tmp_path: Path
) -> None:
    server = postgres_factory()
    with site_on(tmp_path / "vault", server) as site:
        ship(site, "postgres")
        _promote(server)
        write(server)
        with pytest.raises(LogChainBroken, match="timeline 2"):
            ship(site, "postgres")
        names = [entry.name.name for entry in ledger(site)]
        assert "00000002.history" in names and any(each.startswith("00000002") and len(each) == 24 for each in names)
        assert equal_to_the_server(site, server) >= 2
        base_backup(site, "postgres")
        write(server)
        assert ship(site, "postgres").shipped
        again = [entry.name.name for entry in ledger(site)]
        assert again.count("00000002.history") == 1


def _promote(server: DatabaseServer) -> None:
    """Put the server through a recovery that ends in a new timeline, on its own data."""
    assert server.data_directory is not None
    server.stop()
    signal_file = server.data_directory / "standby.signal"
    signal_file.touch()
    if os.geteuid() == 0:
        shutil.chown(signal_file, "postgres", "postgres")
    server.start()
    server.sql("SELECT pg_promote()")
    assert server.sql("SELECT pg_is_in_recovery()") == [("f",)]
    server.sql("CHECKPOINT")


def test_a_slot_in_other_hands_is_refused_and_not_touched(local: DatabaseServer, tmp_path: Path) -> None:
    name = slots.slot_name("workbench", "postgres")
    with site_on(tmp_path / "vault", local) as site:
        receiver = [program("pg_receivewal"), "-D", str(tmp_path), "-S", name, "-d",
                    f"host={local.host} port={local.port} user={local.user}"]  # fmt: skip
        environment = {**os.environ, "PGPASSWORD": local.password}
        subprocess.run([*receiver, "--create-slot"], check=True, env=environment, capture_output=True)
        with subprocess.Popen(receiver, env=environment, stderr=subprocess.DEVNULL) as other:
            try:
                while not local.sql("SELECT 1 FROM pg_replication_slots WHERE active"):
                    assert other.poll() is None
                with pytest.raises(LockHeld, match="pg_receivewal"):
                    ship(site, "postgres")
            finally:
                other.terminate()
        assert segment_names(site) == []


def test_a_logical_slot_of_our_name_is_refused(postgres_factory: Factory, tmp_path: Path) -> None:
    server = postgres_factory("wal_level=logical")
    name = slots.slot_name("workbench", "postgres")
    with site_on(tmp_path / "vault", server) as site:
        server.sql(f"SELECT pg_create_logical_replication_slot('{name}', 'test_decoding')")
        with pytest.raises(ConfigError, match="logical, of the plugin test_decoding"):
            ship(site, "postgres")
        assert server.sql("SELECT slot_type FROM pg_replication_slots") == [("logical",)]


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (("wal_level=minimal", "max_wal_senders=0"), "ALTER SYSTEM SET wal_level = replica"),
        (("max_wal_senders=0",), "ALTER SYSTEM SET max_wal_senders = 10"),
        (("max_replication_slots=0",), "ALTER SYSTEM SET max_replication_slots = 10"),
    ],
)
def test_a_server_that_cannot_is_told_which_setting(
    postgres_factory: Factory, tmp_path: Path, options: tuple[str, ...], remedy: str
) -> None:
    server = postgres_factory(*options)
    with site_on(tmp_path / "vault", server) as site:
        for what in (ship, base_backup):
            with pytest.raises(ConfigError) as caught:
                what(site, "postgres")
            assert remedy in caught.value.remedy
    server.stop()


def test_a_user_who_may_not_is_told_which_grant(local: DatabaseServer, tmp_path: Path) -> None:
    local.sql("DROP ROLE IF EXISTS shipper; CREATE ROLE shipper LOGIN PASSWORD 'fake-shipper-password'")
    me = {"user": "shipper", "password": "fake-shipper-password"}
    with site_on(tmp_path / "vault", local, **me) as site:
        with pytest.raises(MissingGrant) as caught:
            ship(site, "postgres")
        assert caught.value.remedy == 'ALTER ROLE "shipper" REPLICATION;'
        local.sql(caught.value.remedy)
        with pytest.raises(MissingGrant) as caught:
            ship(site, "postgres")
        assert "pg_switch_wal() TO" in caught.value.remedy
        local.sql(caught.value.remedy)
        write(local)
        assert ship(site, "postgres").shipped
        base_backup(site, "postgres")
    local.sql("REVOKE EXECUTE ON FUNCTION pg_switch_wal() FROM shipper; DROP ROLE shipper")


def test_a_pg_hba_that_refuses_is_told_with_the_line_to_add(postgres_factory: Factory, tmp_path: Path) -> None:
    server = postgres_factory()
    assert server.data_directory is not None
    hba = server.data_directory / "pg_hba.conf"
    hba.write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    server.sql("SELECT pg_reload_conf()")
    with site_on(tmp_path / "vault", server) as site:
        with pytest.raises(CredentialsRefused) as caught:
            ship(site, "postgres")
        assert 'host replication "postgres" 127.0.0.1/32 scram-sha-256' in caught.value.remedy
    server.stop()


@pytest.mark.parametrize("rows", [10, 200_000])
def test_a_server_put_back_to_an_earlier_state_is_told_before_anything_is_mixed(
    postgres_factory: Factory, tmp_path: Path, rows: int
) -> None:
    """As by a snapshot of its disk; with many rows it has written more again than the vault has of it."""
    server = postgres_factory()
    assert server.data_directory is not None
    saved = server.data_directory.with_name("saved")
    with site_on(tmp_path / "vault", server) as site:
        ship(site, "postgres")
        server.stop()
        subprocess.run(["cp", "-a", str(server.data_directory), str(saved)], check=True)
        server.start()
        write(server, 100_000)
        ship(site, "postgres")
        shipped = segment_names(site)
        server.stop()
        shutil.rmtree(server.data_directory)
        saved.rename(server.data_directory)
        server.start()
        write(server, rows)
        with pytest.raises(LogChainBroken, match="put back to an earlier state"):
            ship(site, "postgres")
        assert segment_names(site) == shipped
    server.stop()


def test_two_runs_at_once_do_not_meet(local: DatabaseServer, tmp_path: Path) -> None:
    with site_on(tmp_path / "vault", local) as site, site.vault.lock("postgres", "wal shipping"):
        with pytest.raises(LockHeld):
            ship(site, "postgres")


def test_a_flipped_bit_in_a_shipped_segment_is_found(local: DatabaseServer, tmp_path: Path) -> None:
    with site_on(tmp_path / "vault", local) as site:
        ship(site, "postgres")
        entry = ledger(site)[-1]
        flip(tmp_path / "vault" / entry.key, entry.size // 2)
        with pytest.raises(IntegrityError):
            verify(site, entry)

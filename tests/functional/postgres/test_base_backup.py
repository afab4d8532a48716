"""Base backups of real servers, proven by the stock pg_verifybackup and by a server started on one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments import embedded
from engine.backup import verify
from engine.catalog import Entry
from engine.errors import ConfigError, IntegrityError, LockHeld, Unreachable
from engine.manifest import Manifest
from engine.postgres.base_backup import base_backup
from engine.postgres.base_facts import BaseFacts, base_facts
from engine.postgres.base_verify import verify as verify_parts
from engine.postgres.replication import Replication
from engine.postgres.wal import lsn, parse_lsn
from engine.postgres.wal_ship import ship
from engine.site import Site
from tests.functional.postgres.shipping import content, drop_slots, program, site_on
from tests.functional.vault_helpers import files, flip
from tests.servers.databases import DatabaseServer
from tests.servers.fixtures import Factory

pytestmark = pytest.mark.sampled

PLACE = "/var/tmp"
ODD = 'spacé \\ "x"'


@pytest.fixture(scope="module")
def own_server(postgres_factory: Factory) -> DatabaseServer:
    return postgres_factory()


@pytest.fixture(params=["own_server", "postgres17_container"])
def server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    one: DatabaseServer = request.getfixturevalue(request.param)
    yield one
    drop_slots(one)


@pytest.fixture
def local(own_server: DatabaseServer) -> Iterator[DatabaseServer]:
    yield own_server
    drop_slots(own_server)


@pytest.fixture
def with_tablespace(own_server: DatabaseServer) -> Iterator[DatabaseServer]:
    """A table that lives outside the data directory, in a place with an odd name."""
    assert own_server.data_directory is not None
    place = own_server.data_directory.parent / ODD
    place.mkdir()
    if os.geteuid() == 0:
        shutil.chown(place, "postgres", "postgres")
    own_server.sql(f"CREATE TABLESPACE aside LOCATION '{place}'")
    own_server.sql("CREATE TABLE elsewhere TABLESPACE aside AS SELECT n FROM generate_series(1, 50000) n")
    yield own_server
    own_server.sql("DROP TABLE elsewhere")
    own_server.sql("DROP TABLESPACE aside")
    shutil.rmtree(place)
    drop_slots(own_server)


def unpack(site: Site, entry: Entry, manifest: Manifest, into: Path) -> Path:
    """As by hand: base.tar into an empty directory, tablespaces where links in pg_tblspc point."""
    data = into / "data"
    _untar(content(site, entry), data)
    for each in base_facts(manifest).tablespaces:
        _untar(content(site, entry, f"tablespace-{each.oid}"), into / f"space{each.oid}")
        (data / "pg_tblspc" / str(each.oid)).symlink_to(into / f"space{each.oid}")
    (data / "backup_manifest").write_bytes(content(site, entry, "backup-manifest"))
    return data


def _untar(raw: bytes, into: Path) -> None:
    into.mkdir(mode=0o700)
    subprocess.run(["tar", "-xf", "-", "-C", str(into), "--no-same-owner"], input=raw, check=True)


def test_a_base_backup_is_what_pg_verifybackup_calls_whole(with_tablespace: DatabaseServer, tmp_path: Path) -> None:
    server = with_tablespace
    with site_on(tmp_path / "vault", server) as site:
        entry, manifest = base_backup(site, "postgres")
        facts = base_facts(manifest)
        assert [each.path for each in facts.tablespaces] == [str(Path(server.data_directory or "").with_name(ODD))]
        data = unpack(site, entry, manifest, tmp_path)
        done = subprocess.run([program("pg_verifybackup"), str(data)], capture_output=True, text=True)
        assert (done.returncode, "successfully verified" in done.stdout) == (0, True), done.stderr
        report = verify(site, entry)
        assert "the server's own manifest" in report.checks
        listed = json.loads((data / "backup_manifest").read_bytes())["Files"]
        assert any(each["Path"].startswith(f"pg_tblspc/{facts.tablespaces[0].oid}/") for each in listed)


def test_a_server_starts_on_a_base_backup_alone_and_has_every_row(
    with_tablespace: DatabaseServer, tmp_path: Path
) -> None:
    server = with_tablespace
    with site_on(tmp_path / "vault", server) as site:
        entry, manifest = base_backup(site, "postgres")
        home = Path(embedded_directory(tmp_path))
        try:
            data = unpack(site, entry, manifest, home)
            (data / "tablespace_map").unlink()  # the links are made already
            assert _rows(data, home) == "50000"
        finally:
            shutil.rmtree(home)


def embedded_directory(near: Path) -> str:
    """A directory that the user postgres may pass into."""
    path = Path(PLACE) / f"bf-base-{os.getpid()}-{near.name}"
    path.mkdir()
    return str(path)


def _rows(data: Path, home: Path) -> str:
    """Start the stock server on the copy, as its own user, and count."""
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "postgres:postgres", str(home)], check=True)
    identity = {"user": "postgres"} if os.geteuid() == 0 else {}
    programs = embedded.postgres_programs()
    settings = f"-c listen_addresses= -c unix_socket_directories={home} -c port=5999 -c fsync=off"
    start = [str(programs / "pg_ctl"), "-D", str(data), "-w", "-l", str(home / "log"), "-o", settings, "start"]
    subprocess.run(start, check=True, cwd="/", stdout=subprocess.DEVNULL, **identity)  # type: ignore[call-overload]
    try:
        query = ["psql", "-X", "-At", "-h", str(home), "-p", "5999", "-U", "postgres", "-c"]
        done = subprocess.run([*query, "SELECT count(*) FROM elsewhere"], check=True, capture_output=True, text=True)
        return done.stdout.strip()
    finally:
        stop = [str(programs / "pg_ctl"), "-D", str(data), "-w", "-m", "immediate", "stop"]
        subprocess.run(stop, check=True, cwd="/", stdout=subprocess.DEVNULL, **identity)  # type: ignore[call-overload]


def test_its_facts_are_the_servers(server: DatabaseServer, tmp_path: Path) -> None:
    with site_on(tmp_path / "vault", server) as site:
        before = server.sql("SELECT clock_timestamp()::text, pg_current_wal_lsn()")[0]
        entry, manifest = base_backup(site, "postgres")
        after = server.sql("SELECT clock_timestamp()::text, pg_current_wal_lsn()")[0]
        facts = base_facts(manifest)
        assert (entry.tier, manifest.tier, manifest.database) == ("base", "base", "postgres")
        assert facts.system_id == server.sql("SELECT system_identifier FROM pg_control_system()")[0][0]
        assert parse_lsn(str(before[1])) <= facts.start < facts.stop <= parse_lsn(str(after[1]))
        assert manifest.log.lsn == lsn(facts.stop) and facts.timeline == manifest.log.timeline == 1
        inside = server.sql(
            f"SELECT '{before[0]}'::timestamptz <= '{facts.started_at}'::timestamptz AND "
            f"'{facts.started_at}'::timestamptz < '{facts.consistent_at}'::timestamptz AND "
            f"'{facts.consistent_at}'::timestamptz <= '{after[0]}'::timestamptz"
        )
        assert inside == [("t",)]
        assert facts.databases.keys() == {str(row[0]) for row in server.sql(
            "SELECT datname FROM pg_database WHERE NOT datistemplate")}  # fmt: skip
        assert min(facts.databases.values()) > 1_000_000
        assert str(facts.version_num) == server.sql("SHOW server_version_num")[0][0]
        report = verify(site, entry)
        assert report.plain_bytes > 20_000_000


def test_the_wal_after_it_is_kept_and_shipped_without_a_hole(server: DatabaseServer, tmp_path: Path) -> None:
    with site_on(tmp_path / "vault", server) as site:
        _, manifest = base_backup(site, "postgres")
        server.sql("CREATE TABLE IF NOT EXISTS after_base (n int)")
        report = ship(site, "postgres")
        facts = base_facts(manifest)
        assert report.shipped[0].number <= facts.stop // facts.segment_size <= report.shipped[-1].number
        assert not [each for each in report.warnings if "base backup" in each]


def test_a_file_that_changed_is_named(local: DatabaseServer, tmp_path: Path) -> None:
    """Checked on the parts themselves: the stored ones are protected by digests of their own."""
    with site_on(tmp_path / "vault", local) as site:
        entry, manifest = base_backup(site, "postgres")
        parts = {part.role: content(site, entry, part.role) for part in manifest.files}
        assert verify_parts(manifest, lambda role: [parts[role]]) > 500

        at, name, size = next(
            (member.offset_data, member.name, member.size)
            for member in _members(parts["data"], tmp_path)
            if member.name.startswith("base/") and member.size >= 8192
        )
        flipped = bytearray(parts["data"])
        flipped[at + size // 2] ^= 1
        with pytest.raises(IntegrityError, match=name):
            verify_parts(manifest, lambda role: [bytes(flipped) if role == "data" else parts[role]])
        for cut in (at, len(parts["data"]) // 2):
            with pytest.raises(IntegrityError):
                verify_parts(manifest, lambda role, cut=cut: [parts[role][:cut] if role == "data" else parts[role]])
        listed = parts["backup-manifest"]
        for broken in (listed.replace(b'"Size": 8192', b'"Size": 8193', 1), listed[:-10], b""):
            with pytest.raises(IntegrityError, match="manifest"):
                verify_parts(manifest, lambda role, broken=broken: [broken if role != "data" else parts[role]])


def test_a_tar_with_a_file_less_or_more_or_without_its_wal_is_refused(local: DatabaseServer, tmp_path: Path) -> None:
    with site_on(tmp_path / "vault", local) as site:
        entry, manifest = base_backup(site, "postgres")
        parts = {part.role: content(site, entry, part.role) for part in manifest.files}
        source = tmp_path / "whole"
        source.mkdir()
        subprocess.run(["tar", "-xf", "-", "-C", str(source)], input=parts["data"], check=True)

        def refused(words: str) -> None:
            raw = subprocess.run(["tar", "-C", str(source), "-cf", "-", "."], check=True, capture_output=True).stdout
            with pytest.raises(IntegrityError, match=words):
                verify_parts(manifest, lambda role: [raw if role == "data" else parts[role]])

        control = (source / "global/pg_control").read_bytes()
        (source / "global/pg_control").unlink()
        refused("global/pg_control")
        (source / "global/pg_control").write_bytes(control)
        (source / "surplus").touch()
        refused("surplus")
        (source / "surplus").unlink()
        segment = next(path for path in (source / "pg_wal").iterdir() if len(path.name) == 24)
        segment.unlink()
        refused(segment.name)


def _members(raw: bytes, directory: Path) -> list[tarfile.TarInfo]:
    path = directory / "whole.tar"
    path.write_bytes(raw)
    with tarfile.open(path) as tar:
        return tar.getmembers()


@pytest.mark.parametrize("role", ["data", "backup-manifest"])
def test_a_flipped_bit_in_a_stored_part_is_found(local: DatabaseServer, tmp_path: Path, role: str) -> None:
    with site_on(tmp_path / "vault", local) as site:
        entry, manifest = base_backup(site, "postgres")
        stored = next(part for part in manifest.files if part.role == role)
        flip(tmp_path / "vault" / entry.beside(stored.file), stored.size // 2)
        with pytest.raises(IntegrityError):
            verify(site, entry)
        assert any(mark["kind"] == "broken" for mark in site.vault.marks(entry))


def test_a_backup_that_breaks_off_leaves_nothing(
    local: DatabaseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Replication.base_backup

    def cut(self: Replication, label: str) -> Iterator[object]:
        for number, event in enumerate(whole(self, label)):
            if number == 50:
                local.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
            yield event

    monkeypatch.setattr(Replication, "base_backup", cut)
    with site_on(tmp_path / "vault", local) as site:
        with pytest.raises(Unreachable):
            base_backup(site, "postgres")
        assert [name for name in files(tmp_path / "vault") if "base" in name and ".lock" not in name] == []


def test_two_at_once_and_another_kind_of_source_are_refused(local: DatabaseServer, tmp_path: Path) -> None:
    with site_on(tmp_path / "vault", local) as site:
        with site.vault.lock("postgres", "base backup"), pytest.raises(LockHeld):
            base_backup(site, "postgres")
        with pytest.raises(ConfigError):
            base_backup(site, "mysql")


def test_facts_survive_a_release_that_adds_some() -> None:
    known = {
        "system_id": "1", "timeline": 1, "start": 0, "stop": 1, "segment_size": 16, "version_num": 150000,
        "started_at": "2026-01-01T00:00:00Z", "consistent_at": "2026-01-01T00:00:00Z", "of tomorrow": 1,
    }  # fmt: skip
    assert BaseFacts.model_validate(known).stop == 1

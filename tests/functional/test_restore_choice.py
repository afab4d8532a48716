"""Which backup a restore takes: never the safety copy of the damage, never one known to be broken."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import pytest

from engine import backup, restore
from engine.catalog import Entry
from engine.config import SiteConfig
from engine.drill.choose import find_pieces
from engine.errors import ConfirmationNeeded, IntegrityError, NotFound
from engine.names import SAFETY
from engine.recoverable import recoverable
from engine.restore import RestoreRequest
from engine.site import Site, Target
from engine.status import status
from tests.functional.bad_files import bad_sector
from tests.servers import DatabaseServer, S3Server


@pytest.fixture
def s3(request: pytest.FixtureRequest) -> S3Server:
    """The replica's server: rclone's, unless a test asks for another by name."""
    found: S3Server = request.getfixturevalue(getattr(request, "param", "rclone_s3"))
    return found


@pytest.fixture
def site(tmp_path: Path, mariadb: DatabaseServer, s3: S3Server) -> Iterator[Site]:
    """A site with one small database, a local vault and a replica."""
    with mariadb.database("choice") as name:
        mariadb.sql("CREATE TABLE t (a INT PRIMARY KEY); INSERT INTO t SELECT seq FROM seq_1_to_1000", name)
        server = {"host": mariadb.host, "port": mariadb.port, "user": mariadb.user, "password": mariadb.password}
        replica = {
            "name": "s3", "bucket": s3.new_bucket(), "endpoint_url": s3.endpoint, "addressing": "path",
            "access_key": s3.access_key, "secret_key": s3.secret_key,
        }  # fmt: skip
        keys = {"current": "main", "keys": {"main": "FAKE-key-of-the-choice-tests-0123456789"}}
        config = {
            "site": "choice",
            "vault": {"root": str(tmp_path / "vault"), "keys": keys, "replicas": [replica]},
            "mysql": [{**server, "databases": [name]}],
        }
        with Site(SiteConfig.model_validate(config)) as opened:
            yield opened
        for left in mariadb.sql("SHOW DATABASES"):
            if str(left[0]).startswith(f"{name}_"):
                mariadb.sql(f"DROP DATABASE `{left[0]}`")


@pytest.fixture
def target(site: Site) -> Target:
    return site.targets()[0]


def replacing(target: Target, **wanted: str) -> RestoreRequest:
    return RestoreRequest(database=target.database, source=target.source, into=target.database, **wanted)


def test_a_restore_that_is_run_again_does_not_bring_back_the_damage(
    site: Site, target: Target, mariadb: DatabaseServer
) -> None:
    backup.backup_one(site, target, tier="daily")
    for _ in range(2):
        mariadb.sql("DELETE FROM t WHERE a > 10", target.database)
        done = restore.run(site, restore.make_plan(site, replacing(target)), approved=True)
        assert done.safety is not None and done.safety.tier == SAFETY
        assert mariadb.sql("SELECT count(*) FROM t", target.database) == [("1000",)]


def test_a_safety_copy_is_restored_when_it_is_named(site: Site, target: Target, mariadb: DatabaseServer) -> None:
    backup.backup_one(site, target, tier="daily")
    mariadb.sql("DELETE FROM t WHERE a > 10", target.database)
    done = restore.run(site, restore.make_plan(site, replacing(target)), approved=True)
    assert done.safety is not None
    back = restore.run(site, restore.make_plan(site, replacing(target, backup=done.safety.file)), approved=True)
    assert back.rows == 10 and mariadb.sql("SELECT count(*) FROM t", target.database) == [("10",)]


def test_a_backup_found_broken_is_passed_over_and_named(site: Site, target: Target) -> None:
    good = backup.backup_one(site, target, tier="daily").entry
    bad = backup.backup_one(site, target, tier="daily").entry
    flip(site, bad.key)
    with pytest.raises(IntegrityError):
        backup.verify(site, bad)
    plan = restore.make_plan(site, replacing(target))
    assert plan.manifest.file == good.file
    assert any(bad.file in note and "broken" in note for note in plan.notes)


def test_a_damaged_local_copy_is_replaced_by_the_replicas(site: Site, target: Target, mariadb: DatabaseServer) -> None:
    entry = backup.backup_one(site, target, tier="daily").entry
    site.vault.replicate(entry, "s3")
    flip(site, entry.key)
    mariadb.sql("DROP TABLE t", target.database)
    done = restore.run(site, restore.make_plan(site, replacing(target)), approved=True)
    assert done.entry.location == "s3" and any("local" in note for note in done.notes)
    assert mariadb.sql("SELECT count(*), sum(a) FROM t", target.database) == [("1000", "500500")]


@pytest.mark.parametrize("damage", ["flipped", "gone"])
def test_a_copy_with_a_damaged_companion_is_not_whole(
    site: Site, target: Target, mariadb: DatabaseServer, damage: str
) -> None:
    made = backup.backup_one(site, target, tier="daily")
    (companion,) = (site.vault.root / made.entry.beside(each.file) for each in made.manifest.files[1:])
    if damage == "flipped":
        flip(site, str(companion.relative_to(site.vault.root)))
    else:
        companion.unlink()
    request = RestoreRequest(database=target.database, source=target.source, into=f"{target.database}_beside")
    before = mariadb.sql("SHOW DATABASES")
    with pytest.raises((IntegrityError, NotFound)) as error:
        restore.run(site, restore.make_plan(site, request))
    assert companion.name in error.value.message and error.value.kept
    assert error.value.remedy and mariadb.sql("SHOW DATABASES") == before


@pytest.mark.parametrize(("damage", "part"), [("flipped", 1), ("unreadable", 0), ("unreadable", 1)])
def test_a_damaged_part_sends_a_restore_to_the_replica(site: Site, target: Target, damage: str, part: int) -> None:
    made = backup.backup_one(site, target, tier="daily")
    site.vault.replicate(made.entry, "s3")
    key = made.entry.beside(made.manifest.files[part].file)
    if damage == "flipped":
        flip(site, key)
    else:
        bad_sector(site.vault.root / key)
    request = RestoreRequest(database=target.database, source=target.source, into=f"{target.database}_beside")
    done = restore.run(site, restore.make_plan(site, request))
    assert done.entry.location == "s3" and done.rows == 1000
    assert any("local is not usable" in note for note in done.notes)


@pytest.mark.parametrize("s3", ["rclone_s3", "moto_s3"], indirect=True)
def test_with_the_local_root_gone_the_bucket_is_enough(site: Site, target: Target, mariadb: DatabaseServer) -> None:
    entry = backup.backup_one(site, target, tier="daily").entry
    site.vault.replicate(entry, "s3")
    shutil.rmtree(site.vault.root)
    mariadb.sql("DROP TABLE t", target.database)
    with Site(site.config) as afresh:
        done = restore.run(afresh, restore.make_plan(afresh, replacing(target)), approved=True)
    assert done.entry.location == "s3" and done.entry.file == entry.file
    assert mariadb.sql("SELECT count(*), sum(a) FROM t", target.database) == [("1000", "500500")]


def test_a_replacement_that_nobody_approved_changes_nothing(
    site: Site, target: Target, mariadb: DatabaseServer
) -> None:
    backup.backup_one(site, target, tier="daily")
    mariadb.sql("DELETE FROM t WHERE a > 10", target.database)
    with pytest.raises(ConfirmationNeeded, match=target.database):
        restore.run(site, restore.make_plan(site, replacing(target)))
    assert mariadb.sql("SELECT count(*) FROM t", target.database) == [("10",)]


def test_the_plan_of_a_partial_replacement_speaks_of_that_part(
    site: Site, target: Target, mariadb: DatabaseServer
) -> None:
    mariadb.sql("CREATE TABLE other (a INT PRIMARY KEY); INSERT INTO other VALUES (1), (2)", target.database)
    backup.backup_one(site, target, tier="daily")
    request = RestoreRequest(database=target.database, source=target.source, into=target.database, tables=("other",))
    text = "\n".join(restore.make_plan(site, request).lines())
    assert f"REPLACES only the tables other of {target.database!r}, which now holds 1 tables, 2 rows" in text
    assert "It was never proven by a drill." in text


def test_a_safety_copy_is_neither_a_good_backup_nor_are_leftovers_sources(
    site: Site, target: Target, mariadb: DatabaseServer
) -> None:
    backup.backup_one(site, target, tier="daily")
    done = restore.run(site, restore.make_plan(site, replacing(target)), approved=True)
    assert done.safety is not None and done.swap is not None
    row = next(each for each in status(site).rows if each.target == target)
    # The full that is made after the exchange, for the logs from then on.
    assert row.newest is not None and f"{row.newest.file} is a new full" in "".join(done.notes)
    assert row.newest.file != done.safety.file
    config = site.config.model_copy(deep=True)
    config.mysql[0].databases = []
    with Site(config) as open_ended:
        found = open_ended.source(target.source).databases()
    assert target.database in found and done.swap.kept_as not in found


def flip(site: Site, key: str) -> None:
    """Turn one bit over in the middle of a stored file."""
    path = site.vault.root / key
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def emptied(site: Site, target: Target, mariadb: DatabaseServer) -> tuple[Entry, Entry]:
    """A good backup, in the replica too; and one after its tables were emptied, which is suspiciously small."""
    fill = "CREATE TABLE orders (a INT PRIMARY KEY, b TEXT); INSERT INTO orders SELECT seq, SHA2(seq, 256)"
    mariadb.sql(f"{fill} FROM seq_1_to_5000", target.database)
    good = backup.backup_one(site, target, tier="daily").entry
    site.vault.replicate(good, "s3")
    mariadb.sql("TRUNCATE orders; TRUNCATE t", target.database)
    with pytest.raises(IntegrityError, match="suspiciously small"):
        backup.backup_one(site, target, tier="daily")
    bad = next(site.vault.catalog().entries(source=target.source, database=target.database))
    assert bad.file != good.file
    return good, bad


def test_a_backup_that_is_suspiciously_small_is_never_copied(
    site: Site, target: Target, mariadb: DatabaseServer
) -> None:
    good, bad = emptied(site, target, mariadb)
    assert site.vault.lacking("s3") == [] and backup.replicate_all(site) == []
    assert [each.file for each in site.vault.catalog("s3").entries()] == [good.file]
    site.vault.mark(bad, "verified", sha256="")  # somebody looked: it may be copied now
    assert [copy.file for copy in backup.replicate_all(site)] == [bad.file]


def test_what_is_wrong_in_its_content_is_taken_from_no_place_by_restores_windows_and_drills(
    site: Site, target: Target, mariadb: DatabaseServer
) -> None:
    good, bad = emptied(site, target, mariadb)
    site.vault.replicate(bad, "s3")  # as releases before this did
    for location in ("auto", "local", "s3"):
        plan = restore.make_plan(site, replacing(target, location=location))
        assert plan.manifest.file == good.file, location
        assert any(bad.file in note and "broken" in note for note in plan.notes)
        assert list(recoverable(site, target.source, target.database, location=location).anchors) == [good.file]
        (piece,) = find_pieces(site, target.source, target.database, "latest", location)
        assert {manifest.file for _, manifest in piece.copies} == {good.file}
    done = restore.run(site, restore.make_plan(site, replacing(target)), approved=True)
    assert done.entry.file == good.file and mariadb.sql("SELECT count(*) FROM orders", target.database) == [("5000",)]


def test_a_copy_that_got_damaged_after_it_was_found_whole_is_no_reason_against_the_replicas(
    site: Site, target: Target, mariadb: DatabaseServer
) -> None:
    backup.backup_one(site, target, tier="daily")
    entry = backup.backup_one(site, target, tier="daily").entry
    site.vault.replicate(entry, "s3")
    flip(site, entry.key)
    with pytest.raises(IntegrityError):
        backup.verify(site, entry)
    plan = restore.make_plan(site, replacing(target))
    assert (plan.manifest.file, plan.entry.location) == (entry.file, "s3")
    assert [copy.location for copy, _ in recoverable(site, *astuple(target)).anchors[entry.file]] == ["s3"]


def test_where_every_backup_was_found_broken_none_is_the_latest_and_a_named_one_is_taken(
    site: Site, target: Target
) -> None:
    entry = backup.backup_one(site, target, tier="daily").entry
    site.config.source(target.source).floor_bytes = 10**9
    with pytest.raises(IntegrityError, match="below the floor"):
        backup.verify(site, entry)
    with pytest.raises(IntegrityError, match="was found broken") as refused:
        restore.make_plan(site, replacing(target))
    assert entry.file in refused.value.remedy
    assert restore.make_plan(site, replacing(target, backup=entry.file)).manifest.file == entry.file

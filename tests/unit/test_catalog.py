"""The catalogue: names first, manifests only where names leave something open, foreign files ignored."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.catalog import Catalog, Entry
from engine.codec import KeyRing
from engine.errors import ConfigError, IntegrityError, NotFound, UnknownName
from engine.layout import Layout
from engine.manifest import Cipher, Manifest, StoredFile, sign
from engine.names import BackupName
from engine.stores import LocalStore

KEYS = KeyRing({"main": "fake-key-for-tests-" * 3}, "main")
AT = datetime(2025, 1, 16, 2, 0, 0, tzinfo=UTC)


class Shelf:
    """A local store with backups that hold nothing but their names and manifests."""

    def __init__(
        self, root: Path, template: str = "{site}/{source}/{tier}", sources: tuple[str, ...] = ("mysql",)
    ) -> None:
        self.store = LocalStore(root, root / ".backup-flows" / "shop")
        self.layout = Layout("shop", template, {}, sources)
        self.catalog = Catalog(self.store, self.layout, KEYS)

    def add(
        self,
        hours: float = 0,
        *,
        source: str = "mysql",
        tier: str = "daily",
        database: str = "app",
        site: str = "shop",
        at_tier: str = "",
    ) -> str:
        name = BackupName(AT + timedelta(hours=hours), database, "sql.gz.enc")
        key = self.layout.key(source, at_tier or tier, name.taken_at, name.file)
        data = StoredFile(file=name.file, size=4, sha256="", plain_size=4, cipher=Cipher(key_id="main"))
        manifest = Manifest(
            site=site,
            source=source,
            kind="mysql",
            tier=tier,
            database=database,
            file=name.file,
            started_at=name.taken_at,
            finished_at=name.taken_at,
            files=[data],
        )
        self.store.put(key, b"data")
        self.store.put(key + ".json", sign(manifest, KEYS))
        return key

    def files(self, **wanted: str) -> list[str]:
        return [f"{entry.tier or '?'} {entry.file}" for entry in self.catalog.entries(**wanted)]


def test_names_that_tell_all_cost_no_manifest(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, sources=("mysql", "crm"))
    for hours, (source, tier) in enumerate(itertools.product(("mysql", "crm"), ("daily", "hourly"))):
        shelf.add(hours, source=source, tier=tier)
    assert len(shelf.files()) == 4
    assert len(shelf.files(source="crm")) == 2 and len(shelf.files(source="crm", tier="daily", database="app")) == 1
    assert {entry.source for entry in shelf.catalog.entries(tier="hourly")} == {"mysql", "crm"}
    assert shelf.catalog.manifests_read == 0


def test_the_newest_comes_first_across_folders_and_databases(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    for hours, tier, database in ((1, "daily", "z"), (3, "hourly", "a"), (2, "daily", "a")):
        shelf.add(hours, tier=tier, database=database)
    assert shelf.files() == [
        "hourly a_20250116_050000.sql.gz.enc",
        "daily a_20250116_040000.sql.gz.enc",
        "daily z_20250116_030000.sql.gz.enc",
    ]


def test_a_shared_folder_costs_manifests_only_when_a_tier_is_asked_for_and_once(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, "{yyyy}/{mm}/{dd}")
    for hours in range(6):
        shelf.add(hours, tier="daily" if hours % 2 else "hourly")
    assert {line.split()[0] for line in shelf.files(source="mysql")} == {"?"}
    assert shelf.catalog.manifests_read == 0
    assert {line.split()[0] for line in shelf.files(tier="daily")} == {"daily"}
    assert shelf.catalog.manifests_read == 6
    assert len(shelf.files(tier="hourly")) == 3
    assert shelf.catalog.manifests_read == 6


def test_only_as_many_manifests_are_read_as_the_caller_takes(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, "{directory}", sources=("mysql", "crm"))
    for hours in range(10):
        shelf.add(hours, source="crm" if hours % 2 else "mysql", database="a" if hours % 2 else "b")
    assert next(shelf.catalog.entries(source="crm")).name.name == "a"
    assert shelf.catalog.manifests_read == 1


def test_a_data_file_without_manifest_and_a_manifest_without_data_are_no_backups(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    with_both, without_manifest, without_data = shelf.add(0), shelf.add(1), shelf.add(2)
    (tmp_path / f"{without_manifest}.json").unlink()
    (tmp_path / without_data).unlink()
    assert [entry.key for entry in shelf.catalog.entries()] == [with_both]


def test_foreign_files_companions_and_marks_are_no_backups(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    key = shelf.add()
    for name in (
        "README.md",
        "app_20250116_020000.accounts.sql.gz.enc",
        "app_20250116_020000.sql.gz.enc-old",
        "app_20250116_020000.sql.gz.enc.json~",
        "mysql-bin.000001.20250116_020000.gz.enc",
        "mysql-bin.000001.20250116_020000.gz.enc.json",
        "x.json",
        "old/app_20240116_020000.sql.gz.enc",
        "old/app_20240116_020000.sql.gz.enc.json",
    ):
        path = (tmp_path / key).parent / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"foreign")
    shelf.store.put(f"shop/marks/mysql/daily/{key.rsplit('/', 1)[-1]}.verified.20250116_020512-3f9a1c20.json", b"{}")
    assert [entry.key for entry in shelf.catalog.entries()] == [key]


def test_a_data_file_followed_by_names_that_sort_before_its_manifest_is_still_paired(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    key = shelf.add()
    for tail in ("-copy", "+", "!", ".gz", ".j"):
        (tmp_path / (key + tail)).write_bytes(b"foreign")
    assert [entry.key for entry in shelf.catalog.entries()] == [key]


def test_find_gives_the_latest_one_by_name_and_the_newest_before_a_time(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    keys = [shelf.add(hours) for hours in range(4)]
    shelf.add(9, database="other")
    find = shelf.catalog.find
    assert find("mysql", "app")[0].key == keys[3]
    file = keys[1].rsplit("/", 1)[-1]
    for which in (file, file + ".json", file.removesuffix(".sql.gz.enc"), keys[1]):
        assert find("mysql", "app", which)[0].key == keys[1]
    assert find("mysql", "app", "before 2025-01-16T04:59:59+01:00")[0].key == keys[1]
    assert find("mysql", "app", "before 2025-01-16T04:00:00Z")[0].key == keys[2]
    assert shelf.catalog.newest_before("mysql", "app", AT - timedelta(seconds=1)) is None


def test_find_says_what_there_is_when_there_is_no_such_backup(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    key = shelf.add()
    with pytest.raises(UnknownName, match="no backup of mysql/app that is") as error:
        shelf.catalog.find("mysql", "app", "app_20250116_020001.sql.gz.enc")
    assert f"Did you mean '{key.rsplit('/', 1)[-1]}'?" in error.value.remedy
    with pytest.raises(UnknownName) as error:
        shelf.catalog.find("mysql", "app", "before 2020-01-01T00:00:00Z")
    assert "The oldest is app_20250116_020000.sql.gz.enc" in error.value.remedy
    with pytest.raises(UnknownName) as error:
        shelf.catalog.find("mysql", "ap")
    assert "mysql has backups of: app" in error.value.remedy
    with pytest.raises(ConfigError, match="has no zone"):
        shelf.catalog.find("mysql", "app", "before 2025-01-16T02:00:00")


def test_an_empty_place_says_that_it_is_empty(tmp_path: Path) -> None:
    with pytest.raises(UnknownName) as error:
        Shelf(tmp_path / "none").catalog.find("mysql", "app")
    assert "there is no backup of mysql there at all" in error.value.remedy


def test_a_backup_moved_to_another_tiers_folder_is_refused(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.add(tier="hourly", at_tier="daily")
    (entry,) = shelf.catalog.entries()
    with pytest.raises(IntegrityError, match="does not belong at"):
        shelf.catalog.load(entry)


def test_a_manifest_of_another_site_is_refused(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.add(site="other")
    with pytest.raises(IntegrityError, match="belongs to site 'other'"):
        shelf.catalog.find("mysql", "app")


def test_a_manifest_is_read_afresh_so_that_an_edit_is_noticed(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    key = shelf.add()
    entry, _ = shelf.catalog.find("mysql", "app")
    path = tmp_path / f"{key}.json"
    path.write_text(path.read_text().replace('"database": "app"', '"database": "apq"'))
    with pytest.raises(IntegrityError, match="altered after it was written"):
        shelf.catalog.load(entry)


def test_a_damaged_manifest_is_not_hidden_by_a_filter(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, "{yyyy}/{mm}/{dd}")
    good, bad = shelf.add(0), shelf.add(1)
    (tmp_path / f"{bad}.json").write_text("{}")
    assert [entry.key for entry in shelf.catalog.entries(source="mysql", tier="daily")] == [bad, good]
    with pytest.raises(IntegrityError, match="is damaged"):
        shelf.catalog.find("mysql", "app")


def test_a_manifest_gone_since_the_listing_is_not_found(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    key = shelf.add()
    entry: Entry = next(shelf.catalog.entries())
    (tmp_path / f"{key}.json").unlink()
    with pytest.raises(NotFound):
        shelf.catalog.load(entry)

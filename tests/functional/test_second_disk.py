"""A second disk of the machine as a replica: whole copies, judged by itself, and refused while it is not mounted."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from engine import backup, names
from engine.config import ObjectStoreConfig
from engine.errors import Unreachable
from engine.prune import look
from engine.site import Site
from engine.status import status
from tests.functional.test_archives import DAY, assert_whole, config, made


@pytest.fixture
def disk() -> Iterator[Path]:
    """A directory on a disk of its own: the one in memory that every Linux has."""
    folder = Path(tempfile.mkdtemp(prefix="bf-test-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_a_second_disk_gets_every_backup_and_restores_when_the_first_is_gone(tmp_path: Path, disk: Path) -> None:
    replica = {"name": "usb", "directory": str(disk), "path": "{site}/{tier}", "bandwidth": "500MB"}
    with Site(config(tmp_path, replica)) as site:
        entries = [made(site.vault, names.now() - night * DAY) for night in (1, 2)]
        assert [each.error for each in backup.replicate_all(site)] == [None, None]
        assert all(row.lacking == {} for row in status(site).rows)
        assert (
            site.vault.lacking("usb") == [] and (disk / "shop" / "daily" / entries[0].file).stat().st_mode & 0o77 == 0
        )
        shutil.rmtree(tmp_path / "shop")
        assert_whole(site, "usb")
        for entry in site.vault.catalog("usb").entries():
            assert backup.verify(site, entry).checks
        assert site.sweep().problems == []


@pytest.mark.parametrize("how", ["gone", "unmounted"])
def test_a_disk_that_is_not_mounted_is_out_of_reach_and_nothing_is_judged_or_written(tmp_path: Path, how: str) -> None:
    place = tmp_path / "mnt"
    if how == "unmounted":
        place.mkdir()
    with Site(config(tmp_path / "v", {"name": "usb", "directory": str(place)})) as site:
        entry = made(site.vault, names.now() - DAY)
        for attempt in (
            lambda: site.vault.replicate(entry, "usb"),
            lambda: list(site.vault.catalog("usb").entries()),
            lambda: site.vault.store("usb").check(),
        ):
            with pytest.raises(Unreachable, match="is its disk mounted"):
                attempt()
        plan = next(each for each in look(site) if each.location == "usb")
        assert isinstance(plan.error, Unreachable) and plan.planned == []
        assert "usb" in status(site).unseen
    assert not place.exists() or list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "needs a bucket, or the directory of another disk"),
        ({"bucket": "b", "directory": "/mnt"}, "and not both"),
        ({"directory": "mnt"}, "is not absolute"),
        ({"directory": "/mnt", "lock": "governance", "lock_days": 3}, "lock, lock_days say nothing there"),
        ({"bucket": "b", "bandwidth": "fast"}, "is no bandwidth: write it as 500kB"),
    ],
)
def test_a_place_that_is_none_or_two_is_refused(settings: dict[str, str], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        ObjectStoreConfig(name="copy", **settings)

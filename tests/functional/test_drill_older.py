"""Drills of older backups: the oldest that is kept, and one from cold storage, which is asked for and waited for."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engine import names
from engine.drill.run import DrillRequest, drill
from engine.errors import Thawing, UnknownName
from tests.functional.test_cold import cooling, look_often, slow_thaws
from tests.functional.test_cold_restores import LOOKS, Command, copied, host
from tests.functional.test_cold_restores import backups as backups
from tests.servers.s3 import S3Server


def files(told: Any) -> dict[str, str]:
    return {piece.source: piece.file for piece in told.pieces()}


@pytest.mark.parametrize("broken", [False, True])
def test_the_oldest_kept_backup_is_drilled_and_one_known_to_be_broken_is_passed_over(
    tmp_path: Path, moto_s3: S3Server, broken: bool
) -> None:
    shop = host(tmp_path, moto_s3)
    with shop.open() as site:
        for number in range(3):
            (tmp_path / "etc/app.conf").write_text(f"number {number}\n")
            shop.back_up(site, "daily", ("etc",) if number else ("etc", "opt"))
        entries = list(site.vault.catalog().entries(source="etc"))
        if broken:
            site.vault.mark(entries[-1], "broken", reason="a test")
        result = drill(site, DrillRequest(backup="oldest"))
        assert result.verdict == "proven", result.trouble()
        found = files(result)
        assert found["etc"] == entries[1 if broken else 2].file and set(found) == {"etc", "opt"}, "no bucket is kept"
        assert result.asked["backup"] == "oldest"
        with pytest.raises(UnknownName, match="There is no backup of media/"):
            drill(site, DrillRequest(source="media", backup="oldest"))


def test_a_backup_in_cold_storage_is_asked_for_once_and_drilled_from_there_when_it_is_thawed(
    tmp_path: Path, moto_s3: S3Server, backups: Command
) -> None:
    shop = host(tmp_path, moto_s3, cooling(moto_s3))
    with shop.open() as site, slow_thaws(moto_s3, LOOKS):
        shop.back_up(site, "monthly", ("etc",))
        copied(site)
        store = site.vault.store("copy")
        (entry,) = site.vault.catalog("copy").entries()
        with pytest.raises(UnknownName, match="There is no backup of etc/etc in cold storage"):
            drill(site, DrillRequest(source="etc", backup="cold"))
        assert store.freeze(entry.key, "GLACIER")
        look_often(site, entry, LOOKS)
        shop.back_up(site, "daily", ("etc",))
        lone = drill(site, DrillRequest(source="etc", backup="cold"))
        assert lone.verdict == "could not verify" and "cold storage" in lone.sentence(), "nobody asked for its thaw"
        asked = backups("drill", "-f", str(shop.file), "--backup", "cold", code=6)["error"]
        assert asked["class"] == Thawing.__name__
        how = store.cold(entry.key)
        assert how is not None and how.state == "thawing"
        told = backups("drill", "-f", str(shop.file), "--backup", "cold", "--wait")["drill"]
        (source,) = told["sources"]
        (piece,) = source["databases"]
        assert told["verdict"] == "proven" and (piece["file"], piece["location"]) == (entry.file, "copy")
        newest = backups("drill", "-f", str(shop.file), "--source", "etc")["drill"]["sources"][0]["databases"][0]
        assert newest["location"] == "local" and newest["file"] != entry.file
        assert names.now() - entry.name.taken_at < timedelta(days=1)

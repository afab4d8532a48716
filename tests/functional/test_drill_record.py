"""What a drill leaves in the vault: its signed record and JUnit XML beside it, which nothing takes for a backup's."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest

from engine import names
from engine.backup import backup_one
from engine.config import SiteConfig
from engine.drill.record import keep, listed, records
from engine.drill.run import DrillRequest, drill
from engine.keyring.strangers import strangers
from engine.prune import prune
from engine.site import Site, Target
from engine.status import status
from engine.vault_check import Request, Share, verify_vault
from tests.functional.drilling import KEY


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Another disk."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("path", ["{site}/{source}/{tier}", "backups/{directory}", "backups/all"])
def test_a_drill_leaves_junit_xml_beside_its_record_and_nobody_takes_it_for_anything_else(
    tmp_path: Path, disk: Path, path: str
) -> None:
    (tmp_path / "app.conf").write_text("listen 80;\n")
    vault = {
        "root": str(tmp_path / "vault"), "path": path, "keys": {"current": "main", "keys": {"main": KEY}},
        "replicas": [{"name": "disk", "directory": str(disk)}],
    }  # fmt: skip
    paths = {"paths": [str(tmp_path / "app.conf")]}
    with Site(SiteConfig.model_validate({"site": "told", "vault": vault, "config": paths})) as site:
        made = backup_one(site, Target("config", "config"), tier="daily")
        site.vault.replicate(made.entry, "disk")
        result = drill(site, DrillRequest())
        key = keep(site, result)
        for root in (tmp_path / "vault", disk):
            assert (root / key).is_file()
            document = ElementTree.parse((root / key).with_suffix(".xml")).getroot()
            cases = [case.get("name") for case in document.iter("testcase")]
            assert "opens: restore" in cases and result.verdict == "proven"
            old = time.time() - timedelta(days=5).total_seconds()
            for file in (root / key).parent.iterdir():
                os.utime(file, (old, old))

        before = {str(each): each.read_bytes() for each in tmp_path.rglob("drills/*")}
        assert len(before) == 4
        problems: list[str] = []
        assert [each["id"] for each in records(site.vault, problems)] == [result.id] and problems == []
        assert status(site).problems == []
        for location in ("local", "disk"):
            assert list(listed(site.vault, location)) == [key]
            assert list(strangers(site.vault, location)) == []
            assert len(list(site.vault.catalog(location).entries())) == 1
        later = names.now() + timedelta(days=3)
        for report in verify_vault(site, Request(share=Share(1.0), settle=0.05, set_aside=True), now=later):
            assert (report.error, [str(each) for each in report.findings], report.documents) == (None, [], 1)
        assert site.sweep().problems == []
        assert all(plan.error is None for plan in prune(site, confirmed=True, now=later))
        assert {str(each): each.read_bytes() for each in tmp_path.rglob("drills/*")} == before

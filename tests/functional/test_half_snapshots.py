"""Half a snapshot is none: who names no certain one never means it, and it lets no whole one go."""

from __future__ import annotations

import json
import shlex
from datetime import timedelta
from pathlib import Path

import pytest

from deployments.cli.main import run as backups
from engine import names, releases
from engine.catalog import Entry
from engine.errors import UnknownName
from engine.keyring.reencrypt import re_encrypt
from engine.prune import prune
from engine.site import Site
from engine.snapshots import DEPLOY, PARTS, Deploy, snapshots, state_of
from engine.source import Facts
from tests.functional.test_archives import SERVER, dump
from tests.functional.test_keys import BOTH, config, rotated
from tests.functional.vault_helpers import replica
from tests.servers.s3 import S3Server

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
WHOLE = ("mysql/app", "mysql/crm")


def taken(
    site: Site, age: timedelta, release: str, *databases: str, wanted: tuple[str, ...] = WHOLE, key: str = ""
) -> list[Entry]:
    """A verified snapshot of these databases, of those that it was to have; ``wanted`` empty: as earlier releases."""
    at = names.now() - age
    deploy = Deploy(release, key=key).facts()
    facts = Facts(
        server=SERVER, rows={"t": 50}, contents={DEPLOY: {**deploy, PARTS: list(wanted)} if wanted else deploy}
    )
    made = []
    for database in databases or ("app", "crm"):
        point = f"{at:%Y%m%d_%H%M%S}-{release}"
        with site.vault._begin("mysql", "mysql", "pre-deployment", database, "sql.gz.enc", at, "", point) as writer:
            writer.data().write(dump(50))
            entry, manifest = writer.publish(facts)
        site.vault.mark(entry, "verified", sha256=manifest.data.sha256)
        made.append(entry)
    return made


def pruned(site: Site) -> None:
    """Expired, and gone a day later."""
    for day in (0, 1):
        prune(site, now=names.now() + HOUR + day * DAY, confirmed=True)


def left(site: Site, location: str = "local") -> list[tuple[str, str]]:
    """Release and database of every part that a place holds."""
    catalog = site.vault.catalog(location)
    found = catalog.entries(tier="pre-deployment")
    return sorted((str(catalog.load(each).contents[DEPLOY]["release"]), each.name.name) for each in found)


def halves(site: Site) -> dict[str, list[str]]:
    return {each.deploy.release: [str(one) for one in each.lacking] for each in snapshots(site.vault)}


@pytest.mark.sampled
def test_latest_is_the_newest_whole_snapshot_and_half_a_one_lets_none_go(tmp_path: Path, rclone_s3: S3Server) -> None:
    with Site(config(tmp_path, replica(rclone_s3, "copy"))) as site:
        for entry in [*taken(site, 9 * HOUR, "v0"), *taken(site, 5 * HOUR, "v1"), *taken(site, HOUR, "v2", "app")]:
            site.vault.replicate(entry, "copy")
        assert halves(site) == {"v2": ["mysql/crm"], "v1": [], "v0": []}
        done = releases.release(site, "latest")
        assert done.snapshot.deploy.release == "v1" and [each.deploy.release for each in done.older] == ["v0"]
        assert done.warnings == [
            f"Snapshot {done.passed_over[0].title} is newer, and half of one: it lacks mysql/crm."
        ]  # fmt: skip
        assert [state_of(site.vault, each) for each in snapshots(site.vault)] == ["waiting", "released", "released"]
        pruned(site)
        for location in ("local", "copy"):
            assert left(site, location) == [("v1", "app"), ("v1", "crm"), ("v2", "app")]
        # whoever names it means it: its deployment succeeded, and still the newest whole one stays
        assert "half of one: it lacks mysql/crm" in releases.release(site, "v2").warnings[0]
        pruned(site)
        for location in ("local", "copy"):
            assert left(site, location) == [("v1", "app"), ("v1", "crm"), ("v2", "app")]
        taken(site, timedelta(0), "v3")
        releases.release(site, "latest")
        pruned(site)
        assert left(site) == [("v3", "app"), ("v3", "crm")]


@pytest.mark.sampled
def test_where_a_part_is_broken_or_missing_in_one_place_the_whole_one_before_stays_there(
    tmp_path: Path, rclone_s3: S3Server
) -> None:
    with Site(config(tmp_path, replica(rclone_s3, "copy"))) as site:
        for entry in (*taken(site, 5 * HOUR, "v1"), *taken(site, 3 * HOUR, "v2")[:1]):
            site.vault.replicate(entry, "copy")
        releases.release(site, "v2")
        pruned(site)
        assert left(site) == [("v2", "app"), ("v2", "crm")]
        assert left(site, "copy") == [("v1", "app"), ("v1", "crm"), ("v2", "app")]
        app, _ = taken(site, HOUR, "v3")
        site.vault.mark(app, "broken", reason="a test")
        assert halves(site)["v3"] == ["mysql/app"]
        releases.release(site, "v3")
        pruned(site)
        assert left(site)[:2] == [("v2", "app"), ("v2", "crm")]


def test_of_several_of_one_name_the_whole_one_is_meant_and_only_halves_are_no_latest(tmp_path: Path) -> None:
    with Site(config(tmp_path)) as site:
        taken(site, 3 * HOUR, "v1", "crm", key="k")
        with pytest.raises(UnknownName, match=r"no whole snapshot: .*v1.* is half of one, it lacks mysql/app"):
            releases.release(site, "latest")
        assert releases.withhold(site, "k").snapshot.lacks == "it lacks mysql/app"
        whole = taken(site, 2 * HOUR, "v1", key="k")
        taken(site, HOUR, "v1", "app", key="k")
        for name in ("k", "v1", "latest"):
            assert releases.withhold(site, name).snapshot.parts[0][0].key in {each.key for each in whole}


def test_what_an_earlier_release_took_and_a_snapshot_of_one_database_are_whole(tmp_path: Path) -> None:
    with Site(config(tmp_path)) as site:
        taken(site, 5 * HOUR, "v1", "app", wanted=())
        taken(site, 3 * HOUR, "v2")
        taken(site, HOUR, "v3", "app", wanted=("mysql/app",))
        assert halves(site) == {"v3": [], "v2": [], "v1": []}
        assert releases.release(site, "latest").snapshot.deploy.release == "v3"
        pruned(site)
        assert left(site) == [("v2", "app"), ("v2", "crm"), ("v3", "app")], "what is whole stays whole"


def test_the_commands_tell_half_a_snapshot_from_a_whole_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Site(config(tmp_path / "v")) as site:
        taken(site, 3 * HOUR, "v1")
        taken(site, HOUR, "v2", "app")
    path = tmp_path / "shop.yaml"
    keys = f"{{main: {BOTH['main']}, current: main}}"
    path.write_text(f"site: shop\nvault: {{root: {tmp_path / 'v'}, keys: {keys}}}\nmysql: {{databases: [app, crm]}}\n")
    assert backups(["snapshots", "-f", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "half, waiting" in shown and "mysql/app, no mysql/crm" in shown
    assert backups(["release", "-f", str(path), "latest", "--failed", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["snapshot"]["release"] == "v1" and "is newer, and half of one" in told["warnings"][0]
    assert told["way_back"].count("backups restore") == 2
    assert backups(["release", "-f", str(path), "v2", "--failed"]) == 0
    both = capsys.readouterr()
    assert "it lacks mysql/crm. Gone back with it" in both.out + both.err


def test_the_way_back_of_a_snapshot_that_was_encrypted_anew_restores_each_database_once(tmp_path: Path) -> None:
    configured = config(tmp_path)
    with Site(configured) as site:
        old = [each.file for each in taken(site, 3 * HOUR, "v1")]
    with Site(rotated(configured)) as site:
        new = sorted(each.new for each in re_encrypt(site).done)
        for after in (False, True):
            (found,) = snapshots(site.vault)
            assert [str(each) for each in found.targets] == ["mysql/app", "mysql/crm"] and not found.lacking
            commands = [shlex.split(each) for each in found.way_back("shop").split(" && ")]
            assert [each[each.index("--backup") + 1] for each in commands] == new
            assert all(found.is_called(each) for each in (*new, *([] if after else old)))
            pruned(site)
        assert len(releases.release(site, "latest").snapshot.parts) == 2

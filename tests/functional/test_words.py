"""A person's word on real vaults: it outlives re-encryption in whatever order, and stands above the rules."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engine import marks, names, pins, releases
from engine.catalog import Entry
from engine.keyring.reencrypt import re_encrypt
from engine.pins import pin, unpin
from engine.prune import prune
from engine.prune.contents import KEEP, claims_of
from engine.site import Site
from engine.snapshots import DEPLOY, Deploy, snapshots, state_of
from engine.source import Facts
from tests.functional.test_archives import SERVER, dump, made
from tests.functional.test_keys import config, key_of, rotated
from tests.functional.vault_helpers import replica
from tests.servers.s3 import S3Server

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def standing(site: Site, location: str = "local") -> list[str]:
    return sorted(each.file for each in site.vault.catalog(location).entries())


def snapshot(site: Site, age: timedelta, release: str) -> None:
    """A verified snapshot of two databases."""
    at = names.now() - age
    facts = Facts(server=SERVER, rows={"t": 50}, contents={DEPLOY: Deploy(release).facts()})
    for database in ("app", "crm"):
        point = f"{at:%Y%m%d_%H%M%S}-{release}"
        with site.vault._begin(
            "mysql", "mysql", "pre-deployment", database, "sql.gz.enc", at, "", point
        ) as writer:  # fmt: skip
            writer.data().write(dump(50))
            entry, manifest = writer.publish(facts)
        site.vault.mark(entry, "verified", sha256=manifest.data.sha256)


def pruned(site: Site, after: timedelta = timedelta(0)) -> None:
    """Expired, and gone a day later."""
    for day in (0, 1):
        prune(site, now=names.now() + after + day * DAY, confirmed=True)


@pytest.mark.sampled
@pytest.mark.parametrize("which", ["old", "new"])
def test_a_pin_of_either_file_of_a_backup_that_was_encrypted_anew_keeps_it_and_unpinned_it_goes(
    tmp_path: Path, rclone_s3: S3Server, which: str
) -> None:
    configured = config(tmp_path / "v", replica(rclone_s3, "copy"))
    with Site(configured) as site:
        old = made(site.vault, names.now() - 25 * DAY)
        last = made(site.vault, names.now() - HOUR)
        for each in (old, last):
            site.vault.replicate(each, "copy")
    with Site(rotated(configured)) as site:
        vault = site.vault
        (new,) = [each.new for each in re_encrypt(site).done if each.old == old.file]
        entry, manifest = vault.catalog().find("mysql", "app", old.file if which == "old" else new)
        said = pin(vault, entry, manifest, reason="court order")
        assert [each.changed for each in said] == [True, True]
        assert not any(each.changed for each in pin(vault, entry, manifest))
        pruned(site, 6 * DAY)  # the older file goes, and the newer one is past its thirty days
        for location in ("local", "copy"):
            assert new in standing(site, location) and old.file not in standing(site, location)
        entry, manifest = vault.catalog().find("mysql", "app", new)
        unpin(vault, entry, manifest)
        pruned(site, 8 * DAY)
        assert new not in standing(site) and new not in standing(site, "copy")


def test_a_word_that_only_the_older_file_heard_keeps_that_and_the_next_one_reaches_both(tmp_path: Path) -> None:
    """As an earlier release pinned what was superseded; or a person did while it was being written anew."""
    configured = config(tmp_path)
    with Site(configured) as site:
        old = made(site.vault, names.now() - 25 * DAY)
        made(site.vault, names.now() - HOUR)
    with Site(rotated(configured)) as site:
        (new,) = [each.new for each in re_encrypt(site).done if each.old == old.file]
        pins.say(site.vault, old, "pinned", {})
        pruned(site, 6 * DAY)
        assert old.file in standing(site) and new not in standing(site)
        unpin(site.vault, *site.vault.catalog().find("mysql", "app", old.file))
        pruned(site, 8 * DAY)
        assert old.file not in standing(site)


def test_a_word_that_is_said_while_a_backup_is_written_anew_goes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured = config(tmp_path)
    with Site(configured) as site:
        old = made(site.vault, names.now() - 25 * DAY)
    with Site(rotated(configured)) as site:
        add: Any = marks.add

        def slow(store: object, layout: object, keys: object, entry: Entry, kind: str, *rest: object) -> object:
            if kind == "superseded":
                pins.say(site.vault, old, "pinned", {"reason": "court order"})
            return add(store, layout, keys, entry, kind, *rest)

        monkeypatch.setattr(marks, "add", slow)
        re_encrypt(site)
        new = next(each for each in site.vault.catalog().entries() if key_of(site.vault, each) != "main")
        assert claims_of(site.vault, new).pinned == "pinned"


def test_a_deployment_that_failed_after_its_snapshot_was_encrypted_anew_keeps_it(tmp_path: Path) -> None:
    configured = config(tmp_path)
    with Site(configured) as site:
        snapshot(site, 3 * HOUR, "v1")
        snapshot(site, 2 * HOUR, "v2")
        releases.release(site, "v2")
    with Site(rotated(configured)) as site:
        assert len(re_encrypt(site).done) == 4
        releases.withhold(site, "v1")
        pruned(site)
        found = {each.deploy.release: each for each in snapshots(site.vault)}
        assert {release: state_of(site.vault, each) for release, each in found.items()} == {
            "v1": "failed", "v2": "released",
        }  # fmt: skip
        assert {key_of(site.vault, entry) for each in found.values() for entry, _ in each.parts} == {"k20260301"}


def test_a_day_that_was_given_with_a_manual_backup_stands_above_the_sites_rule_both_ways(tmp_path: Path) -> None:
    configured = config(tmp_path)
    configured.vault.retention = {"manual": "30d"}
    with Site(configured) as site:
        vault = site.vault
        long, short, plain = (made(vault, names.now() - age * DAY, tier="manual") for age in (40, 5, 41))
        pins.keep_until(vault, long, long.name.taken_at + 365 * DAY)
        pins.keep_until(vault, short, short.name.taken_at + DAY)
        last = made(vault, names.now() - HOUR)
        assert claims_of(vault, long).limited and KEEP == "keep-until"
        pruned(site)
        assert standing(site) == sorted([long.file, last.file]), plain.file
        pruned(site, 326 * DAY)
        assert standing(site) == [last.file]

"""A backup that went from the local root with all that belonged to it is told and brought back; what is gone rightly is
not."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engine import names
from engine.catalog import Entry
from engine.config import SiteConfig
from engine.keyring.reencrypt import re_encrypt
from engine.pins import pin
from engine.prune import prune
from engine.site import Site
from engine.source import Facts
from engine.vault_check import Request, Share, outcome_of, verify_vault
from tests.functional.damaged_vault import COPY, DAY, LATER, NOW, SERVER, Bucket, Folder, digests, dump, vault_site
from tests.functional.test_archives import dump as dumped
from tests.functional.test_vault_check import ALL, assert_clean, found, ring, told
from tests.functional.vault_helpers import PASSPHRASE, replica
from tests.servers.s3 import S3Server


def of(folder: Folder, entry: Entry) -> list[str]:
    """All that is called after it, marks too."""
    return [key for key in folder.listed() if entry.name.stem in key]


def delete_wholly(folder: Folder, entry: Entry) -> None:
    keys = of(folder, entry)
    assert len(keys) >= 4, "data, companion, manifest, mark"
    for key in keys:
        folder.delete(key)


def copied(site: Site, *entries: Entry) -> list[Entry]:
    for entry in entries:
        site.vault.replicate(entry, COPY)
    return list(entries)


def judged(site: Site) -> str:
    """What a verification of the local root has to say."""
    return told(verify_vault(site, ALL, location="local", now=LATER))


@pytest.mark.parametrize("rules", [{"daily": "60d"}, {"daily": "12"}, {"daily": "forever"}])
def test_backups_that_went_with_all_that_belonged_to_them_are_told_and_brought_back(
    rules: dict[str, str], tmp_path: Path, rclone_s3: S3Server
) -> None:
    with Site(vault_site(tmp_path / "vault", rclone_s3, retention=rules)) as site:
        entries = copied(site, *(dump(site.vault, days * DAY) for days in range(1, 8)))
        folder = Folder(tmp_path / "vault")
        whole = digests(folder)
        pin(site.vault, entries[0], site.vault.catalog().load(entries[0]), reason="of a test")
        for number in (0, 2, 3):
            delete_wholly(folder, entries[number])
        reports = verify_vault(site, Request(share=Share(0.01), settle=0.05), now=LATER)
        assert {(each.kind, each.what, each.healed) for each in found(reports)} == {
            ("lost", entries[number].key, f"from {COPY}") for number in (0, 2, 3)
        }, told(reports)
        assert outcome_of(reports) == "healed" and digests(folder) == whole
        assert "pinned" in {each["kind"] for each in site.vault.marks(entries[0])}
        assert_clean(verify_vault(site, ALL, now=LATER))


def test_one_that_is_gone_here_and_damaged_there_is_told_and_not_healed(tmp_path: Path, rclone_s3: S3Server) -> None:
    config = vault_site(tmp_path / "vault", rclone_s3)
    with Site(config) as site:
        entries = copied(site, *(dump(site.vault, days * DAY) for days in range(1, 4)))
        delete_wholly(Folder(tmp_path / "vault"), entries[0])
        Bucket(rclone_s3, config.vault.replicas[0].bucket).write(entries[0].key, b"nothing like it")
        reports = verify_vault(site, ALL, location="local", now=LATER)
        assert [(each.kind, each.what, each.open) for each in found(reports)] == [("lost", entries[0].key, True)]


def test_of_the_oldest_one_of_a_series_nobody_can_tell(tmp_path: Path, rclone_s3: S3Server) -> None:
    with Site(vault_site(tmp_path / "vault", rclone_s3)) as site:
        entries = copied(site, *(dump(site.vault, days * DAY) for days in range(1, 4)))
        copied(site, dump(site.vault, 2 * DAY, "weekly"))
        delete_wholly(Folder(tmp_path / "vault"), entries[-1])
        assert judged(site) == ""


def kept_for(config: SiteConfig, daily: str) -> SiteConfig:
    vault = config.vault.model_copy(update={"retention": {"daily": daily}})
    return config.model_copy(update={"vault": vault})


@pytest.mark.parametrize("pinned", [False, True])
def test_what_a_prune_removed_here_and_not_there_is_not_lost_also_when_the_policy_is_changed_afterwards(
    pinned: bool, tmp_path: Path, rclone_s3: S3Server
) -> None:
    given = {**replica(rclone_s3, COPY), "retention": {"daily": "60d"}}
    config = vault_site(tmp_path / "vault", rclone_s3, replicas=[given], retention={"daily": "5d", "binlogs": "3d"})
    with Site(config) as site:
        entries = copied(site, *(dump(site.vault, days * DAY) for days in range(1, 15)))
        if pinned:
            pin(site.vault, entries[-1], site.vault.catalog().load(entries[-1]), reason="of a test")
        for days in (0, 1):
            prune(site, location="local", confirmed=True, now=NOW + days * DAY)
        left = len(list(site.vault.catalog().entries()))
        assert left == 5 + pinned and len(list(site.vault.catalog(COPY).entries())) == 14
        assert judged(site) == ""
    with Site(kept_for(config, "60d")) as site:
        assert judged(site) == ""


def test_a_root_set_up_anew_lacks_nothing_also_when_an_old_dump_was_taken_in(
    tmp_path: Path, rclone_s3: S3Server
) -> None:
    root = tmp_path / "vault"
    config = vault_site(root, rclone_s3)
    with Site(config) as site:
        copied(site, *(dump(site.vault, days * DAY) for days in range(2, 9)))
    shutil.rmtree(root)
    with Site(config) as site:
        copied(site, dump(site.vault, DAY))
        assert judged(site) == ""
        path = tmp_path / f"app_{NOW - 20 * DAY:{names.STAMP}}.sql.gz.enc"
        command = ["openssl", "enc", "-aes-256-cbc", "-pbkdf2", "-salt", "-pass", f"pass:{PASSPHRASE}"]
        path.write_bytes(
            subprocess.run(command, input=gzip.compress(dumped(50)), check=True, capture_output=True).stdout
        )
        entry, _ = site.vault.adopt(
            path, source="mysql", kind="mysql", tier="daily", database="app", facts=Facts(server=SERVER, rows={"t": 50})
        )
        assert entry.name.taken_at == NOW - 20 * DAY and judged(site) == ""


def test_what_stands_at_a_replica_by_another_way_than_from_here_is_not_lost(
    tmp_path: Path, rclone_s3: S3Server
) -> None:
    config = vault_site(tmp_path / "vault", rclone_s3)
    there = Bucket(rclone_s3, config.vault.replicas[0].bucket)
    with Site(config) as site:
        entries = copied(site, *(dump(site.vault, days * DAY) for days in range(1, 5)))
        delete_wholly(Folder(tmp_path / "vault"), entries[1])
        for key in [each for each in there.listed() if entries[1].file in each and "/marks/" in each]:
            there.delete(key)
        assert judged(site) == "", "no word there says that it came from here"
    with Site(vault_site(tmp_path / "other", rclone_s3, replicas=config.model_dump()["vault"]["replicas"])) as other:
        with pytest.MonkeyPatch.context() as elsewhere:
            elsewhere.setattr("tests.functional.damaged_vault.SERVER", SERVER.model_copy(update={"uuid": "another"}))
            dump(other.vault, 30 * DAY)
        assert judged(other) == "", "another machine shares the replica"


def test_what_was_encrypted_anew_or_has_expired_there_is_not_lost(tmp_path: Path, rclone_s3: S3Server) -> None:
    config = vault_site(tmp_path / "vault", rclone_s3)
    old = config.model_copy(update={"vault": config.vault.model_copy(update={"keys": ring("old")})})
    folder = Folder(tmp_path / "vault")
    with Site(old) as site:
        entries = copied(site, *(dump(site.vault, days * DAY) for days in range(1, 6)))
    with Site(config) as site:
        assert len(re_encrypt(site, count=3).done) == 3
        for days in (0, 1):
            prune(site, location="local", confirmed=True, now=names.now() + days * DAY)
        assert of(folder, entries[0]) == []
        assert judged(site) == ""
        there = Bucket(rclone_s3, config.vault.replicas[0].bucket)
        for key in [each for each in there.listed() if ".superseded." in each]:
            there.delete(key)
        assert judged(site) == "", "also where the replica has not heard of it"
        delete_wholly(folder, entries[3])
        (expired,) = [each for each in site.vault.catalog(COPY).entries() if each.file == entries[3].file]
        site.vault.mark(expired, "expired", reason="of a test")
        assert judged(site) == ""


def test_a_backup_that_comes_or_goes_meanwhile_is_not_lost(
    tmp_path: Path, rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Site(vault_site(tmp_path / "vault", rclone_s3)) as site:
        copied(site, *(dump(site.vault, days * DAY) for days in range(2, 5)))
        store = site.vault.store(COPY)
        listing, made = store.list, []

        def one_comes(prefix: str = "") -> Any:
            """The local root was listed; before the replica is, a backup is made and copied."""
            if not made:
                made.append(copied(site, dump(site.vault, timedelta(hours=5))))
            return listing(prefix)

        monkeypatch.setattr(store, "list", one_comes)
        assert judged(site) == "" and made

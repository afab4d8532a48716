"""Contents of buckets and the key ring, on a real S3 server: what still needs an old key is counted, proven and told,
and re-encryption leaves nothing behind that does."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from deployments.cli.main import run as backups
from engine import backup, names
from engine.backup import BackupResult
from engine.buckets import record
from engine.errors import IntegrityError, WrongKey
from engine.keyring.proof import prove
from engine.keyring.reencrypt import re_encrypt
from engine.keyring.uses import uses
from engine.prune import prune
from engine.prune.contents import SignedEvidence, contents
from engine.site import Site
from tests.functional.bucket_machine import SOURCE, Machine, machine, put, source
from tests.functional.test_archives import Dying
from tests.functional.vault_helpers import PASSPHRASE, flip
from tests.servers.s3 import S3Server
from tests.soak import trials

NEW = "fake-new-passphrase-of-a-test-" + "n" * 16
BOTH = {"main": PASSPHRASE, "k2": NEW}
OBJECTS = {"a": b"a" * 300, "same": b"a" * 300, "b": b"b" * 300, "large": b"c" * 2_000_000}


@pytest.fixture
def shop(moto_s3: S3Server, tmp_path: Path) -> Iterator[Machine]:
    with machine(moto_s3, tmp_path / "vault", moto_s3) as made:
        put(made.server, made.bucket, OBJECTS)
        yield made


def ringed(shop: Machine, keys: dict[str, str], current: str) -> Machine:
    """The same bucket and vault with another ring."""
    vault = shop.config.vault
    ring = type(vault.keys).model_validate({"current": current, "keys": keys})
    config = shop.config.model_copy(update={"vault": vault.model_copy(update={"keys": ring})})
    return Machine(shop.server, shop.bucket, config, Site(config))


def listed(shop: Machine, made: BackupResult) -> dict[str, record.Record]:
    plain = shop.site.vault.read_part(made.entry, made.manifest)
    return {each.key: each for each in record.records(plain, made.entry.file)}


def site_file(shop: Machine, path: Path, keys: dict[str, str], current: str) -> str:
    """The site as a file, without its replica."""
    document = {
        "site": "shop",
        "vault": {"root": str(shop.site.vault.root), "keys": {"current": current, **keys}},
        "buckets": source(shop.server, shop.bucket),
    }
    path.write_text(yaml.safe_dump(document))
    path.chmod(0o600)
    return str(path)


def test_a_snapshot_that_leans_on_contents_of_an_old_key_says_so_and_the_ring_is_held_against_it(
    shop: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.back_up()
    two = ringed(shop, BOTH, "k2")
    put(shop.server, shop.bucket, {"new": b"new"})
    leaning = two.back_up()
    assert leaning.manifest.key_ids == {"main", "k2"} and leaning.manifest.contents["copied"] == 1
    found = uses(two.site.vault).by_key
    assert (found["main"].count, found["main"].leaning, found["k2"].count) == (2, 2, 1)
    assert prove(two.site.vault, "k2").opened[0].file == leaning.entry.file

    lost = ringed(shop, {"k2": NEW}, "k2").site.vault
    evidence = SignedEvidence(lost, contents(lost, "local"))
    judged = {each.file: evidence.proven(each) for each in contents(lost, "local").items}
    assert judged[leaning.entry.file] is False, "retention keeps nothing less for its sake"
    assert all(SignedEvidence(two.site.vault, contents(two.site.vault, "local")).proven(each)
               for each in contents(two.site.vault, "local").items)  # fmt: skip
    without = site_file(shop, tmp_path / "shop.yaml", {"k2": NEW}, "k2")
    assert backups(["key", "list", "-f", without, "--json"]) == 5
    told = json.loads(capsys.readouterr().out)
    states = {each["id"]: (each["state"], each["backups"], each["leaning"]) for each in told["keys"]}
    assert states["main"] == ("NOT IN THE RING", 1, 1), "the older list does not open at all"
    assert any("put 'main' back into the ring" in str(each) for each in told["errors"])
    assert backups(["key", "rotate", "-f", without]) == 5
    assert backups(["verify", "-f", without, "--backup", leaning.entry.file]) == 5
    assert "'main'" in capsys.readouterr().err


@pytest.mark.sampled
@pytest.mark.parametrize("keys", [{"k2": NEW}, {"main": PASSPHRASE + "another", "k2": NEW}])
def test_no_snapshot_leans_on_a_content_that_the_ring_does_not_open(shop: Machine, keys: dict[str, str]) -> None:
    shop.back_up()
    both = ringed(shop, BOTH, "k2").back_up()
    assert both.manifest.contents["keys"] == ["main"] and both.manifest.data.cipher.key_id == "k2"
    one = ringed(shop, keys, "k2")
    with pytest.raises(WrongKey, match="main"):
        prove(one.site.vault, "k2")
    made = one.back_up()
    assert (made.manifest.contents["copied"], made.manifest.key_ids) == (len(OBJECTS), {"k2"})
    backup.verify(one.site, made.entry)
    if "main" in keys:  # another one than it was is told as long as something needs that
        with pytest.raises(WrongKey, match="The key 'main' is another one than it was"):
            prove(one.site.vault, "k2")
    else:
        assert prove(one.site.vault, "k2").opened[0].file == made.entry.file


def days_ago(days: int, shop: Machine, monkeypatch: pytest.MonkeyPatch) -> BackupResult:
    """A snapshot that is dated so long before: those of one second get names out of order when they are anew."""
    now = names.now
    with monkeypatch.context() as patched:
        patched.setattr(names, "now", lambda: now() - timedelta(days=days))
        return shop.back_up()


def stored_with(shop: Machine, location: str = "local") -> dict[str, str]:
    """By the name of every content that a list in a place names: the key that wrote it."""
    vault = shop.site.vault
    found = {}
    for entry in vault.catalog(location).entries():
        plain = vault.read_part(entry, vault.catalog(location).load(entry))
        found |= {each.content.stored: each.content.key_id for each in record.records(plain, entry.file)}
    return found


def test_after_re_encryption_and_prunes_nothing_needs_the_old_key_and_every_snapshot_is_whole_without_it(
    shop: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = days_ago(2, shop, monkeypatch)
    put(shop.server, shop.bucket, {"a": b"changed"})
    second = days_ago(1, shop, monkeypatch)
    two = ringed(shop, BOTH, "k2")
    put(two.server, two.bucket, {"new": b"new"})
    leaning = two.back_up()
    assert all(each.error is None for each in backup.replicate_all(two.site))
    report = re_encrypt(two.site, count=1)
    assert ([each.old for each in report.done], report.left) == ([leaning.entry.file], 2), "its contents are of both"
    assert report.left_bytes >= second.manifest.contents["bytes"], "contents count, not only lists"
    report = re_encrypt(two.site)
    assert [each.old for each in report.done] == [second.entry.file, first.entry.file] and report.left == 0
    assert report.failed == {} and re_encrypt(two.site).done == []
    for location in ("local", "copy0"):
        ids = list(stored_with(two, location).values())
        assert sorted(set(ids)) == ["k2", "main"] and ids.count("k2") == 5, "each content once, beside the old one"
        assert two.contents(location) == set(stored_with(two, location))
    for day in (0, 1):
        assert all(each.error is None for each in prune(two.site, now=names.now() + timedelta(days=day, hours=1)))
    assert "main" not in uses(two.site.vault).by_key
    file = site_file(two, tmp_path / "shop.yaml", BOTH, "k2")
    assert backups(["key", "list", "-f", file, "--json"]) == 0
    assert {each["id"]: each["backups"] for each in json.loads(capsys.readouterr().out)["keys"]} == {"main": 0, "k2": 3}

    alone = ringed(two, {"k2": NEW}, "k2")
    for location in ("local", "copy0"):
        entries = list(alone.site.vault.catalog(location).entries())
        assert len(entries) == 3
        for entry in entries:
            backup.verify(alone.site, entry)
        assert set(stored_with(alone, location).values()) == {"k2"}
        assert alone.contents(location) == set(stored_with(alone, location)), "the old contents are gone"
    after = alone.back_up()
    assert (after.manifest.contents["copied"], after.manifest.contents["keys"]) == (0, ["k2"]), "it leans on the new"


@pytest.mark.sampled
def test_a_snapshot_with_a_damaged_content_keeps_its_old_keys_and_is_named(
    shop: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = days_ago(1, shop, monkeypatch)  # of one second both would be the first to store it, and read it
    damaged = listed(shop, old)["b"].content.stored
    flip(shop.file_of(damaged), 50)
    two = ringed(shop, BOTH, "k2")
    report = re_encrypt(two.site)
    assert list(report.failed) == [old.entry.file] and "content of 'b'" in report.failed[old.entry.file].message
    assert [each.file for each in two.site.vault.catalog().entries()] == [old.entry.file]
    assert uses(two.site.vault).by_key["main"].leaning == 1
    made = two.back_up()
    assert made.manifest.contents["copied"] == 0, "nobody has noted the damage yet"
    with pytest.raises(IntegrityError):
        backup.verify(two.site, made.entry)
    assert two.back_up().manifest.contents["copied"] == 1


@pytest.mark.sampled
def test_re_encryption_that_is_interrupted_publishes_nothing_and_goes_on_later(shop: Machine) -> None:
    old = shop.back_up()
    two = ringed(shop, BOTH, "k2")

    def interrupted(step: str, done: int, total: int | None = None) -> None:
        if step.startswith("re-encrypt contents"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        re_encrypt(two.site, progress=interrupted)
    two.site.sweep()
    assert [each.file for each in two.site.vault.catalog().entries()] == [old.entry.file]
    backup.verify(two.site, old.entry)
    assert [each.old for each in re_encrypt(two.site).done] == [old.entry.file]
    assert two.contents() == set(stored_with(two)), "what had been stored was taken up"


def die(configured: Machine, step: int) -> bool:
    """Re-encrypt in a process that is killed at its n-th change of any store; True when it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            site = Site(configured.config)
            countdown = [step]
            for location in site.vault.locations():
                store = site.vault.store(location)
                site.vault._stores[location] = Dying(store, countdown)  # type: ignore[assignment]
            re_encrypt(site)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFEXITED(status)


@pytest.mark.soak
def test_re_encryption_of_a_bucket_killed_at_any_step_loses_nothing_and_the_next_run_finishes(
    moto_s3: S3Server, tmp_path: Path
) -> None:
    root, kept = tmp_path / "vault", tmp_path / "before"
    with machine(moto_s3, root) as shop:
        put(shop.server, shop.bucket, OBJECTS)
        olds = [shop.back_up().entry, shop.back_up().entry]
        shutil.copytree(root, kept)
        step, ended = trials(5, 0), False
        while not ended:
            step += trials(9, 1)
            shutil.rmtree(root)
            shutil.copytree(kept, root)
            two = ringed(shop, BOTH, "k2")
            ended = die(two, step)
            two = ringed(shop, BOTH, "k2")
            two.site.sweep()
            entries = list(two.site.vault.catalog().entries())
            assert {each.file for each in entries} >= {each.file for each in olds}
            for entry in entries:
                backup.verify(two.site, entry)
            done = re_encrypt(two.site)
            assert (done.failed, done.left) == ({}, 0)
            assert len(list(two.site.vault.catalog().entries())) == 4
            assert len([each for each in stored_with(two).values() if each == "k2"]) == 3
            assert two.contents() == set(stored_with(two)), "what the killed run had stored was taken up"
            assert list(two.site.vault.contents("local", SOURCE, two.bucket).strays()) == []
    assert step > 15, "each content, list, manifest and mark"

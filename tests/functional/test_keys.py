"""Keys on real stores: proven before they are current, re-encryption that loses nothing, a ring sealed for offline."""

from __future__ import annotations

import json
import logging
import os
import pty
import shutil
import stat
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import tasks.keys
from deployments.cli.main import run as backups
from engine import backup, names
from engine.catalog import Entry
from engine.config import SiteConfig
from engine.errors import ConfigError, UnknownName, WrongKey
from engine.keyring.births import FILE, new_key, note, reminder
from engine.keyring.changed import _few
from engine.keyring.escrow import OPEN_COMMAND, open_ring, seal_ring
from engine.keyring.proof import prove
from engine.keyring.reencrypt import re_encrypt
from engine.keyring.uses import uses
from engine.pins import pin
from engine.promotion import promote
from engine.prune import prune
from engine.prune.contents import claims_of
from engine.sealed import seal_site
from engine.site import Site
from engine.source import Facts
from engine.vault import Vault
from tasks.base import SiteHandle
from tests.functional.test_archives import SERVER, Dying, assert_nothing_stray, dump, made
from tests.functional.vault_helpers import files, flip, replica
from tests.servers.s3 import S3Server
from tests.soak import trials

OLD = "fake-old-passphrase-of-a-test-" + "o" * 16
NEW = "fake-new-passphrase-of-a-test-" + "n" * 16
BOTH = {"main": OLD, "k20260301": NEW}
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def config(root: Path, *replicas: dict[str, Any], keys: dict[str, str] = BOTH, current: str = "main") -> SiteConfig:
    vault = {"root": str(root), "keys": {"current": current, "keys": keys}, "replicas": list(replicas)}
    return SiteConfig.model_validate({"site": "shop", "vault": vault, "mysql": {"databases": ["app", "crm"]}})


def rotated(configured: SiteConfig) -> SiteConfig:
    """The same site after ``k20260301`` was made current."""
    changed = configured.model_copy(deep=True)
    changed.vault.keys.current = "k20260301"
    return changed


def key_of(vault: Vault, entry: Entry) -> str:
    return vault.catalog(entry.location).load(entry).data.cipher.key_id


def test_a_key_is_proven_by_what_it_writes_and_by_what_the_ring_opens(tmp_path: Path) -> None:
    with Site(config(tmp_path)) as site:
        made(site.vault, names.now() - DAY)
        newest = [made(site.vault, names.now() - HOUR, database=each) for each in ("app", "crm")]
        proof = prove(site.vault, "k20260301")
        assert sorted(each.file for each in proof.opened) == sorted(each.file for each in newest)
        assert {each.key_id for each in proof.opened} == {"main"} and proof.unseen == {}


@pytest.mark.parametrize(
    ("keys", "key", "kind", "reason"),
    [
        (BOTH, "k2026", UnknownName, "has no key 'k2026'"),
        ({"main": OLD, "new": "too-short"}, "new", ConfigError, "fewer than 32"),
        ({"main": OLD, "new": OLD}, "new", ConfigError, "the same as 'main'"),
        ({"main": NEW + "x", "new": NEW}, "new", WrongKey, "does not open the newest backup"),
        ({"other": OLD + "x", "new": NEW}, "new", WrongKey, "no key 'main'"),
    ],
)
def test_a_key_that_is_no_good_or_loses_the_newest_backup_is_refused(
    tmp_path: Path, keys: dict[str, str], key: str, kind: type[Exception], reason: str
) -> None:
    with Site(config(tmp_path)) as site:
        made(site.vault, names.now() - HOUR)
    with Site(config(tmp_path, keys=keys, current=next(iter(keys)))) as site, pytest.raises(kind, match=reason):
        prove(site.vault, key)


def test_re_encryption_proves_copies_and_then_replaces_within_its_limits(tmp_path: Path, rclone_s3: S3Server) -> None:
    configured = config(tmp_path / "v", replica(rclone_s3, "copy"))
    with Site(configured) as site:
        olds = [made(site.vault, names.now() - HOUR - night * DAY, database="app") for night in (0, 1)]
        archive, manifest = promote(site.vault, olds[1], site.vault.catalog().load(olds[1]), "weekly")
        site.vault.mark(archive, "verified", sha256=manifest.data.sha256)
        pin(site.vault, olds[1], site.vault.catalog().load(olds[1]), reason="of a test")
        for entry in [*olds, archive]:
            site.vault.replicate(entry, "copy")
    with Site(rotated(configured)) as site:
        vault = site.vault
        first = re_encrypt(site, count=2)
        assert ([len(first.done), first.left], first.failed) == ([2, 1], {})
        assert re_encrypt(site, most_bytes=1).left == 0, "the first is taken whatever its size"
        assert re_encrypt(site).done == [] and uses(vault).unreadable == {}
        for location in ("local", "copy"):
            assert_nothing_stray(site, location)
            entries = list(vault.catalog(location).entries())
            assert sorted(key_of(vault, each) for each in entries) == ["k20260301"] * 3 + ["main"] * 3
            for entry in entries:
                backup.verify(site, entry)  # old ones are whole as well, until they are gone
        new = {(m.origin.file, m.tier): e for e, m in _news(vault) if m.origin}
        assert set(new) == {(olds[0].file, "daily"), (olds[1].file, "daily"), (archive.file, "weekly")}
        assert claims_of(vault, new[olds[1].file, "daily"]).pinned == "pinned", "a person's word goes along"
        assert _opened_by_hand(tmp_path / "v" / new[olds[0].file, "daily"].key) == dump(50)
        prune(site)
        assert sorted(key_of(vault, each) for each in vault.catalog("copy").entries()).count("main") == 3
        prune(site, now=names.now() + DAY)
        assert vault.lacking("copy") == []
    alone = config(tmp_path / "v", *(_bare(each) for each in configured.vault.replicas), keys={"k20260301": NEW})
    alone.vault.keys.current = "k20260301"
    with Site(alone) as site:
        for location in ("local", "copy"):
            entries = list(site.vault.catalog(location).entries())
            assert len(entries) == 3, "the old ones are gone, though one was pinned: its new one is"
            for entry in entries:
                backup.verify(site, entry)


def _news(vault: Vault) -> list[Any]:
    catalog = vault.catalog()
    found = [(entry, catalog.load(entry)) for entry in catalog.entries()]
    return [each for each in found if each[1].data.cipher.key_id != "main"]


def _bare(store: Any) -> dict[str, Any]:
    told = store.model_dump(exclude_none=True)
    told["access_key"], told["secret_key"] = store.access_key.get_secret_value(), store.secret_key.get_secret_value()
    return dict(told)


def _opened_by_hand(path: Path) -> bytes:
    command = f"openssl enc -d -aes-256-cbc -pbkdf2 -pass env:KEY -in '{path}' | gunzip"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, env={**os.environ, "KEY": NEW}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.sampled
def test_what_only_a_replica_has_is_written_anew_there_and_what_is_damaged_is_told(
    tmp_path: Path, rclone_s3: S3Server
) -> None:
    configured = config(tmp_path / "v", replica(rclone_s3, "copy"))
    with Site(configured) as site:
        elsewhere, damaged = (made(site.vault, names.now() - each * DAY) for each in (1, 2))
        site.vault.replicate(elsewhere, "copy")
        for file in (tmp_path / "v" / "shop").rglob(f"{elsewhere.name.stem}*"):
            file.unlink()
        flip(tmp_path / "v" / damaged.key, 100)
    with Site(rotated(configured)) as site:
        report = re_encrypt(site)
        assert [each.locations for each in report.done] == [["copy"]]
        assert list(report.failed) == [damaged.file] and report.left == 1
        assert "damaged" in report.failed[damaged.file].message
        keys = [key_of(site.vault, each) for each in site.vault.catalog("copy").entries()]
        assert sorted(keys) == ["k20260301", "main"]
        assert [each.file for each in site.vault.catalog().entries()] == [damaged.file], "half of one is no backup"
        assert_nothing_stray(site, "local")


def test_what_is_passed_over_is_named_and_does_not_hold_up_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = "fake-lost-passphrase-of-a-test-" + "l" * 16
    with Site(config(tmp_path / "v", keys={**BOTH, "lost": lost}, current="lost")) as site:
        of_lost = made(site.vault, names.now() - 9 * DAY)
    with Site(config(tmp_path / "v")) as site:
        olds = [made(site.vault, names.now() - days * DAY) for days in range(1, 7)]
        for damaged in olds[:2]:
            flip(tmp_path / "v" / damaged.key, 60)
        site.vault.mark(olds[2], "broken", reason="of a test")
        unsigned = tmp_path / "v" / olds[3].manifest_key
        unsigned.write_text(unsigned.read_text().replace('"tier": "daily"', '"tier": "weekly"'))
    monkeypatch.setenv("OLD_KEY", OLD)
    monkeypatch.setenv("NEW_KEY", NEW)
    path = tmp_path / "shop.yaml"
    path.write_text(SITE.format(root=tmp_path / "v").replace("current: main", "current: k20260301"))
    again = ["key", "rotate", "-f", str(path), "--re-encrypt", "--count", "1"]
    passed = {f"local: {each.key}" for each in (of_lost, olds[2], olds[3])}
    for sound, left in ((olds[4], 3), (olds[5], 2), (None, 2)):
        assert backups([*again, "--json"]) == 3
        told = json.loads(capsys.readouterr().out)["re_encryption"]
        assert [each["old"] for each in told["done"]] == ([sound.file] if sound else [])
        assert (told["left"], told["left_bytes"] > 0, set(told["passed_over"])) == (left, True, passed)
    assert set(told["failed"]) == {each.file for each in olds[:2]}
    for each in olds[:2]:
        (tmp_path / "v" / each.manifest_key).unlink()
    assert backups(again) == 3
    shown = capsys.readouterr()
    assert "nothing is left" not in shown.out and "3 could not be done" in shown.out
    assert f"{olds[2].file} is marked as broken in local" in " ".join(shown.err.split())


def test_backups_of_a_source_that_the_site_file_no_longer_names_need_their_key_and_are_told_of(
    tmp_path: Path, moto_s3: S3Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, there = tmp_path / "v", replica(moto_s3, "copy")
    for site_name in ("shop", "other"):  # another site in the same root, of another ring
        vault = {"root": str(root), "keys": {"current": "main", "keys": {"main": OLD}}}
        if site_name == "other":
            vault["keys"] = {"current": "theirs", "keys": {"theirs": "fake-passphrase-of-another-site-" + "t" * 8}}
        else:
            vault["replicas"] = [there]
        named = [{"name": "mysql", "databases": ["app"]}, {"name": "crm", "databases": ["app"]}]
        both = SiteConfig.model_validate({"site": site_name, "vault": vault, "mysql": named})
        with Site(both) as site:
            with site.vault.begin(source="crm", kind="mysql", tier="manual", database="app", ext="sql") as writer:
                writer.data().write(dump(5))
                gone, _ = writer.publish(Facts(server=SERVER, rows={"t": 5}))
            for location in site.vault.locations()[1:]:
                site.vault.replicate(gone, location)
    with Site(rotated(config(root, there))) as site:
        made(site.vault, names.now() - DAY)
        found = uses(site.vault)
        assert (found.by_key["main"].count, found.by_key["main"].locations) == (1, {"local", "copy"})
        keys = [next(info.key for info in site.vault.store(each).list("shop/crm/")) for each in ("local", "copy")]
        assert found.strangers == {f"local: {keys[0]}": "crm", f"copy: {keys[1]}": "crm"}
        assert found.unreadable == {} and "theirs" not in found.by_key
        report = re_encrypt(site)
        assert (report.done, report.left, set(report.passed)) == ([], 0, set(found.strangers))
        assert "'crm', which the site file does not name" in report.passed[f"local: {keys[0]}"].message
    monkeypatch.setenv("OLD_KEY", OLD)
    monkeypatch.setenv("NEW_KEY", NEW)
    path = tmp_path / "shop.yaml"
    path.write_text(SITE.format(root=root).replace("current: main", "current: k20260301"))
    assert backups(["key", "list", "-f", str(path)]) == 0
    assert "1 of these are of sources that the site file does not name" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setenv("OLD_KEY", OLD + "another")
    assert backups(["key", "list", "-f", str(path)]) == 5
    with Site(config(root, keys={"k20260301": NEW}, current="k20260301")) as site:
        assert [type(each) for each in uses(site.vault).unreadable.values()] == [WrongKey], "never: nothing needs it"


def test_a_sealed_site_file_counts_for_the_key_that_opens_it(tmp_path: Path) -> None:
    point = "20260301_020000-0badcafe"
    with Site(config(tmp_path)) as site:
        made(site.vault, names.now() - DAY)
        key = seal_site(site.vault, "site: shop\n", point)
    with Site(rotated(config(tmp_path))) as site:
        assert re_encrypt(site).left == 0
        for day in (0, 1):
            prune(site, now=names.now() + day * DAY)
        use = uses(site.vault).by_key["main"]
        assert (use.count, use.site_files) == (0, 1), "it alone says what the machine was, and needs the old key"
        assert (tmp_path / key).is_file()


def test_a_place_that_cannot_be_asked_is_told_of_after_re_encryption_too(tmp_path: Path) -> None:
    """Its copies keep the old key, and nothing may say that none is left."""
    nowhere = {
        "name": "away", "bucket": "vault", "endpoint_url": "http://127.0.0.1:1", "region": "us-east-1",
        "access_key": "fake-access-key", "secret_key": "fake-secret-key", "addressing": "path",
    }  # fmt: skip
    with Site(config(tmp_path / "v", nowhere)) as site:
        made(site.vault, names.now() - DAY)
    with Site(rotated(config(tmp_path / "v", nowhere))) as site:
        report = re_encrypt(site)
        assert (len(report.done), report.left, list(report.unseen)) == (1, 0, ["away"])
        assert list(report.problems) == ["away could not be asked"] and report.standing == "away could not be asked"


def test_what_was_superseded_by_a_backup_that_broke_is_encrypted_anew_again(tmp_path: Path) -> None:
    configured = config(tmp_path)
    with Site(configured) as site:
        old = made(site.vault, names.now() - DAY)
    with Site(rotated(configured)) as site:
        (first,) = re_encrypt(site).done
        assert re_encrypt(site).done == []
        new = next(each for each in site.vault.catalog().entries() if each.file == first.new)
        site.vault.mark(new, "broken", reason="of a test")
        (second,) = re_encrypt(site).done
        assert (second.old, second.new != first.new) == (old.file, True)


def test_a_superseded_backup_stays_where_its_new_one_is_not_whole(tmp_path: Path) -> None:
    configured = config(tmp_path)
    with Site(configured) as site:
        old = made(site.vault, names.now() - 40 * DAY)
        made(site.vault, names.now() - HOUR)
    with Site(rotated(configured)) as site:
        (done,) = [each for each in re_encrypt(site).done if each.old == old.file]
        (tmp_path / old.key).with_name(done.new + ".json").unlink()
        (plan,) = prune(site, confirmed=True)
        reasons = {each.item.file: each.reason for each in plan.planned}
        assert "encrypted anew" not in reasons[old.file], "it is judged like any other"


def die(configured: SiteConfig, step: int) -> bool:
    """Re-encrypt in a process that is killed at its n-th change of any store; True when it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            site = Site(configured)
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
def test_re_encryption_killed_at_any_step_leaves_a_clean_vault_and_the_next_run_finishes(
    tmp_path: Path, rclone_s3: S3Server
) -> None:
    before = config(tmp_path / "v", replica(rclone_s3, "copy"))
    with Site(before) as site:
        olds = [made(site.vault, names.now() - HOUR, database=each) for each in ("app", "crm")]
    shutil.copytree(tmp_path / "v", tmp_path / "before")
    step, ended = 0, False
    while not ended:
        step += trials(13, 1)
        shutil.rmtree(tmp_path / "v")
        shutil.copytree(tmp_path / "before", tmp_path / "v")
        configured = rotated(config(tmp_path / "v", replica(rclone_s3, "copy")))
        with Site(configured) as site:
            for entry in olds:
                site.vault.replicate(entry, "copy")
        ended = die(configured, step)
        with Site(configured) as site:
            site.sweep()
            for location in ("local", "copy"):
                entries = list(site.vault.catalog(location).entries())
                assert {each.file for each in entries} >= {each.file for each in olds}, "no old one is gone"
                for entry in entries:
                    backup.verify(site, entry)
                assert_nothing_stray(site, location)
            assert re_encrypt(site).failed == {}
            assert site.sweep().done == [] and re_encrypt(site).left == 0
            for location in ("local", "copy"):
                entries = list(site.vault.catalog(location).entries())
                assert sorted(key_of(site.vault, each) for each in entries) == ["k20260301"] * 2 + ["main"] * 2
                assert_nothing_stray(site, location)
        assert [name for name in files(tmp_path / "v") if "publishing" in name or "staging" in name] == []
    assert step > 12, "before and after each file, manifest and mark"


@pytest.mark.sampled
def test_the_sealed_ring_opens_with_openssl_alone_and_says_when_it_is_behind(tmp_path: Path) -> None:
    path, word = tmp_path / "ring.enc", "fake passphrase of six words"
    with Site(config(tmp_path / "v")) as site:
        keys = site.vault.keys
        for bad, why in (
            ("short", "fewer than 16"),
            ("line one is long\nline two is long", "one line"),
            ("a tab\tor a bell\x07 and more", "control character"),
            ("bytes that are no text \udcff\udcfe", "control character"),
            ("ä" * 251, "502 bytes"),
        ):
            with pytest.raises(ConfigError, match=why):
                seal_ring(path, "shop", keys, bad)
        assert not path.exists()
        seal_ring(path, "shop", keys, word)
        with pytest.raises(ConfigError, match="there already"):
            seal_ring(path, "shop", keys, word)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and OLD.encode() not in path.read_bytes()
    command = [*OPEN_COMMAND.split(), str(path), "-pass", "env:WORD"]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "WORD": word})
    assert json.loads(done.stdout)["keys"] == BOTH
    assert json.loads(_typed([*OPEN_COMMAND.split(), str(path)], word))["keys"] == BOTH
    long = " " + "ü" * 249 + " "  # as long as may be, with a space at each end
    with Site(config(tmp_path / "v")) as site:
        seal_ring(tmp_path / "long.enc", "shop", site.vault.keys, long)
    assert json.loads(_typed([*OPEN_COMMAND.split(), str(tmp_path / "long.enc")], long))["keys"] == BOTH
    assert open_ring(path, word).keys.passphrase("main") == OLD
    with pytest.raises(WrongKey, match="does not open"):
        open_ring(path, word + "x")
    flip(path, len(path.read_bytes()) - 20)
    with pytest.raises(WrongKey, match="damaged"):
        open_ring(path, word)


def _typed(command: list[str], word: str) -> str:
    """What a program prints that asks for a passphrase on a terminal; without what it says while it asks."""
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(command[0], command)
    shown, given = b"", False
    while True:
        try:
            some = os.read(terminal, 65536)
        except OSError:  # so a terminal ends on Linux
            break
        shown += some
        if not some:
            break
        if not given and b"password" in shown:
            given = True
            os.write(terminal, word.encode() + b"\n")
    os.waitpid(child, 0)
    os.close(terminal)
    return shown[shown.find(b"{") :].decode()


def test_an_escrow_file_is_refused_in_every_directory_that_holds_backups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OLD_KEY", OLD)
    monkeypatch.setenv("NEW_KEY", NEW)
    monkeypatch.setenv("BACKUPS_ESCROW_PASSPHRASE", "fake passphrase of six words")
    (tmp_path / "real").mkdir()
    (tmp_path / "v").symlink_to(tmp_path / "real")
    disk = tmp_path / "disk"
    (disk / "shop").mkdir(parents=True)
    (tmp_path / "link").symlink_to(disk)
    path = tmp_path / "shop.yaml"
    told = SITE.format(root=tmp_path / "v").replace("mysql:", f"  replicas: [{{name: usb, directory: {disk}}}]\nmysql:")
    path.write_text(told)
    for inside, what in (
        ("v/x.enc", "the vault"), ("real/x.enc", "the vault"), ("disk/x.enc", "the replica usb"),
        ("link/shop/x.enc", "the replica usb"),
    ):  # fmt: skip
        assert backups(["key", "escrow", "-f", str(path), "-o", str(tmp_path / inside)]) == 2
        assert f"is inside of {what}" in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / inside).exists()
    assert backups(["key", "escrow", "-f", str(path), "-o", str(tmp_path / "beside.enc")]) == 0


def test_another_value_under_a_keys_id_is_told_by_check_backup_status_and_rotation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edited .env: what is made from then on is whole, and nothing older opens."""
    monkeypatch.setenv("KEY", OLD)
    (tmp_path / "app.conf").write_text("port = 1\n")
    path = tmp_path / "shop.yaml"
    lines = ["site: shop", f"vault: {{root: {tmp_path / 'v'}, keys: {{current: main, main: '${{KEY}}'}}}}"]
    path.write_text("\n".join([*lines, f"config: {{paths: [{tmp_path / 'app.conf'}]}}"]))

    def ran(*args: str) -> int:
        return backups([*args, "-f", str(path)])

    for _ in range(3):
        assert ran("backup") == 0
    assert (ran("check"), ran("status"), ran("key", "rotate")) == (0, 0, 0)
    monkeypatch.setenv("KEY", NEW)
    capsys.readouterr()
    assert ran("check") == 5
    assert "The key 'main' is another one than it was" in capsys.readouterr().err
    for _ in range(3):
        assert ran("backup", "--json") == 3
        told = json.loads(capsys.readouterr().out)
        assert len(told["backups"]) == 1 and "another one than it was" in told["error"]["message"]
    assert ran("status") == 1
    assert "another one than it was" in capsys.readouterr().err
    assert ran("key", "rotate") == 5
    monkeypatch.setenv("KEY", OLD)
    assert ran("check") == 5, "now the newest show it"


def test_of_many_backups_few_are_looked_at_and_each_in_its_turn() -> None:
    assert [_few(list(range(count))) for count in (1, 2, 10)] == [[0], [0, 1], [0, 1, 2, 4, 8, 9]]


def test_a_new_key_is_long_free_of_odd_characters_and_called_after_its_day(tmp_path: Path) -> None:
    now = names.parse_moment("2026-11-22T23:30:00-03:00")
    made_keys = {new_key(now).passphrase for _ in range(50)}
    assert len(made_keys) == 50 and all(len(each) >= 64 for each in made_keys)
    assert all(each.replace("-", "").replace("_", "").isalnum() and each[0].isalpha() for each in made_keys)
    assert (new_key(now).id, new_key(now, ("k20261123",)).id) == ("k20261123", "kb20261123")


def test_a_key_over_a_year_old_is_reminded_of_by_its_name_or_since_it_was_first_used(tmp_path: Path) -> None:
    keys = Site(config(tmp_path)).vault.keys
    born = names.parse_moment("2025-11-20T00:00:00Z")
    assert reminder(tmp_path, keys) == "", "nobody knows how old it is"
    note(tmp_path, keys, born)
    note(tmp_path, keys, born + 300 * DAY)
    assert reminder(tmp_path, keys, born + 365 * DAY) == ""
    assert "366 days old (since 2025-11-20)" in reminder(tmp_path, keys, born + 366 * DAY)
    other = Site(config(tmp_path, keys={**BOTH, "main": OLD + "other"})).vault.keys
    assert reminder(tmp_path, other, born + 366 * DAY) == "", "another key under that name"
    dated = Site(config(tmp_path, current="k20260301")).vault.keys
    assert "backups key new" in reminder(tmp_path, dated, names.parse_moment("2027-03-02T00:00:00Z"))


def test_the_daily_run_tells_of_an_old_key_by_an_event_once_it_is_over_a_year_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[dict[str, Any]] = []
    monkeypatch.setattr(tasks.keys, "emit_event", lambda **event: events.append(event))
    monkeypatch.setattr(tasks.keys, "get_run_logger", lambda: logging.getLogger("test"))
    configured = config(tmp_path)
    with Site(configured) as site:
        site.vault.check()
        note(site.vault.state, site.vault.keys, names.now() - 364 * DAY)
    tasks.keys.remind_of_its_age(SiteHandle(configured))
    assert events == []
    (tmp_path / ".backup-flows/shop" / FILE).unlink()
    with Site(configured) as site:
        note(site.vault.state, site.vault.keys, names.now() - 367 * DAY)
    tasks.keys.remind_of_its_age(SiteHandle(configured))
    (event,) = events
    assert event["event"] == "backup-flows.key.aged"
    assert event["resource"]["prefect.resource.id"] == "backup-flows.shop.keys"
    assert "367 days old" in event["payload"]["message"] and event["payload"]["key"] == "main"


SITE = """\
# our shop
site: shop
vault:
  root: {root}
  keys: {{current: main, main: "${{OLD_KEY}}", k20260301: "${{NEW_KEY}}"}}  # two of them
mysql: {{host: 127.0.0.1, port: 1, databases: [app]}}
"""


@pytest.mark.sampled
def test_the_command_rotates_in_the_file_and_goes_on_re_encrypting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLD_KEY", OLD)
    monkeypatch.setenv("NEW_KEY", NEW)
    monkeypatch.setenv("BACKUPS_ESCROW_PASSPHRASE", "fake passphrase of six words")
    path = tmp_path / "shop.yaml"
    path.write_text(SITE.format(root=tmp_path / "v"))
    path.chmod(0o640)
    with Site(config(tmp_path / "v")) as site:
        made(site.vault, names.now() - HOUR)
    assert backups(["key", "rotate", "-f", str(path), "--to", "k20260301", "--dry-run"]) == 0
    assert "current: main" in path.read_text()
    assert backups(["key", "rotate", "-f", str(path), "--to", "k2026030"]) == 2
    assert "Did you mean 'k20260301'?" in capsys.readouterr().err
    assert backups(["key", "rotate", "-f", str(path), "--to", "k20260301", "--re-encrypt", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["before"], told["current"], told["opened"]) == ("main", "k20260301", 1)
    assert (len(told["re_encryption"]["done"]), told["re_encryption"]["left"]) == (1, 0)
    text = SITE.format(root=tmp_path / "v").replace("current: main", "current: k20260301")
    assert path.read_text() == text and stat.S_IMODE(path.stat().st_mode) == 0o640
    assert backups(["key", "list", "-f", str(path), "--json"]) == 0
    listed = {each["id"]: (each["state"], each["backups"]) for each in json.loads(capsys.readouterr().out)["keys"]}
    assert listed == {"main": ("kept", 1), "k20260301": ("current", 1)}
    inside = ["key", "escrow", "-f", str(path), "-o"]
    assert backups([*inside, str(tmp_path / "v" / "ring.enc")]) == 2
    assert backups([*inside, str(tmp_path / "ring.enc")]) == 0
    assert backups(["key", "escrow", "-f", str(path), "--check", str(tmp_path / "ring.enc")]) == 0
    shown = capsys.readouterr()
    assert OLD not in shown.out + shown.err and NEW not in shown.out + shown.err
    monkeypatch.setenv("NEW_KEY", NEW + "changed")
    assert backups(["key", "escrow", "-f", str(path), "--check", str(tmp_path / "ring.enc")]) == 5
    assert "does not hold k20260301" in capsys.readouterr().err


def test_a_site_file_that_names_its_key_otherwise_is_left_alone(tmp_path: Path) -> None:
    from deployments.ring_file import set_current

    path = tmp_path / "shop.yaml"
    for text in (
        'vault: {keys: {current: "${K}", a: b}}\n',
        "vault: {keys: {a: b}}\n",
        "x: &x a\nvault: {keys: {current: *x}}\n",
        "vault: {keys: {current: &x a, path: *x}}\n",
        "vault:\n  keys:\n    current: >-\n      a\n    a: b\n",
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match="current: new"):
            set_current(path, "new")
        assert path.read_text() == text


@pytest.mark.parametrize(
    ("before", "key_id", "after"),
    [
        ("current: main  # ours", "k2", "current: k2  # ours"),
        ("current: main", "k: 2", "current: 'k: 2'"),
        ("current: main", "it's #1", "current: 'it''s #1'"),
        ("current: main", "a #b", "current: 'a #b'"),
        ("current: main", "null", "current: 'null'"),
        ("current: 'main'", "it's", "current: 'it''s'"),
        ('current: "main"', 'a "b" \\', 'current: "a \\"b\\" \\\\"'),
        ("current: &c main", "k2", "current: &c k2"),
        ("current: !!str main", "k2", "current: !!str k2"),
    ],
)
@pytest.mark.parametrize(("start", "end"), [("", "\n"), ("", "\r\n"), ("\ufeff", "\r\n")])
def test_one_value_of_a_site_file_is_exchanged_and_every_other_byte_stays(
    tmp_path: Path, before: str, key_id: str, after: str, start: str, end: str
) -> None:
    from deployments.ring_file import set_current

    path = tmp_path / "shop.yaml"
    rest = ["vault:", "  keys:", "    {}", "    ünïcode: 'x'", "mysql: {{databases: [app]}}", ""]
    text = start + end.join(rest)
    path.write_bytes(text.format(before).encode())
    assert set_current(path, key_id)
    assert path.read_bytes() == text.format(after).encode()
    assert not set_current(path, key_id)

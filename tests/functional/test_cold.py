"""Cold storage on moto: old months move there by the rule, are refused when cold, thawed, and restored."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deployments.cli import run as cli_run
from deployments.cli.main import run as backups
from engine import backup, names
from engine.catalog import Entry
from engine.cold.classes import coldness_of
from engine.cold.move import move_all
from engine.cold.thaw import Thaw
from engine.config import ObjectStoreConfig
from engine.errors import Cold, Thawing
from engine.prune import look
from engine.restore_plan import find_copies
from engine.site import Site, Target
from engine.stores import S3Store
from engine.stores.multipart import MIB
from engine.stores.s3_copy import CopySizes
from tests.functional.test_archives import _written, config, dump, made
from tests.functional.vault_helpers import replica
from tests.servers.s3 import S3Server

DAY = timedelta(days=1)


def cooling(server: S3Server, **more: Any) -> dict[str, Any]:
    return {**replica(server, "copy"), "cold_class": "GLACIER", "cold_after": "60d", **more}


def months(site: Site, *ago: int) -> list[Entry]:
    """Monthly archives of so many days ago, at the replica alone."""
    entries = []
    for days in ago:
        entry = made(site.vault, (names.now() - days * DAY).replace(microsecond=0), tier="monthly")
        stored = site.vault.replicate(entry, "copy")
        entries.append(Entry("copy", stored.key, entry.name, entry.source, entry.tier, entry.size))
    return entries


def forget_locally(site: Site) -> None:
    for path in (site.vault.root / "shop").rglob("*"):
        if path.is_file():
            path.unlink()


@contextlib.contextmanager
def slow_thaws(server: S3Server, looks: int) -> Iterator[None]:
    """A thaw is over after so many looks at the object, not at once."""

    def say(what: str, body: dict[str, Any]) -> None:
        url = f"{server.endpoint}/moto-api/state-manager/{what}-transition"
        data = json.dumps({"model_name": "s3::keyrestore", **body}).encode()
        request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
        urllib.request.urlopen(request).close()

    say("set", {"transition": {"progression": "manual", "times": looks}})
    try:
        yield
    finally:
        say("unset", {})


def look_often(site: Site, entry: Entry, looks: int) -> None:
    """moto counts the looks from an object's birth, and is only then ready to be slow."""
    for part in site.vault.catalog("copy").load(entry).files:
        for _ in range(looks):
            site.vault.store("copy").stat(entry.beside(part.file))


def class_of(server: S3Server, site: Site, key: str) -> str:
    head = server.client().head_object(Bucket=site.config.vault.replicas[0].bucket, Key=key)
    return str(head.get("StorageClass", "STANDARD"))


def test_old_months_move_by_the_rule_and_their_manifests_and_the_newest_stay_warm(
    tmp_path: Path, moto_s3: S3Server
) -> None:
    with Site(config(tmp_path, cooling(moto_s3))) as site:
        new, old, older = months(site, 61, 70, 100)
        (done,) = move_all(site)
        assert (sorted(done.moved), done.stood, done.error) == (sorted([old.file, older.file]), 0, None)
        for entry, storage_class in ((new, "STANDARD"), (old, "GLACIER"), (older, "GLACIER")):
            assert class_of(moto_s3, site, entry.key) == storage_class
            companion = entry.beside(entry.name.companion("accounts", "sql.gz.enc"))
            assert class_of(moto_s3, site, companion) == storage_class
            assert class_of(moto_s3, site, entry.manifest_key) == "STANDARD"
            site.vault.catalog("copy").load(entry)
        (again,) = move_all(site)
        assert (again.moved, again.stood) == ([], 2)
        assert [mark["facts"] for mark in site.vault.marks(old) if mark["kind"] == "cooled"] == [{"class": "GLACIER"}]
        plan = next(each for each in look(site) if each.location == "copy")
        assert plan.count("keep") == 3 and plan.error is None, "retention reads no cold byte"


def test_what_is_cold_is_refused_until_its_thaw_was_asked_for_and_is_there(tmp_path: Path, moto_s3: S3Server) -> None:
    with Site(config(tmp_path, cooling(moto_s3))) as site, slow_thaws(moto_s3, 6):
        _, old = months(site, 1, 70)
        move_all(site)
        look_often(site, old, 6)
        manifest = site.vault.catalog("copy").load(old)
        with pytest.raises(Cold, match="cold storage") as refused:
            b"".join(site.vault.read_part(old, manifest))
        assert not isinstance(refused.value, Thawing) and f"backups thaw {old.file}" in refused.value.remedy
        with pytest.raises(Cold):
            backup.verify(site, old)
        assert not any(mark["kind"] == "broken" for mark in site.vault.marks(old)), "cold is not broken"
        site.vault.thaw = Thaw()
        with pytest.raises(Thawing, match="asked for now.*3 to 5 hours.*standard retrieval.*3 days"):
            b"".join(site.vault.read_part(old, manifest))
        with pytest.raises(Thawing, match="under way"):
            backup.verify(site, old)
        for _ in range(6):
            with contextlib.suppress(Thawing):
                site.vault.require_readable(old, manifest)
        assert b"".join(site.vault.read_part(old, manifest)) == dump(50)
        assert backup.verify(site, old).checks


@pytest.mark.sampled
def test_a_warm_copy_is_taken_before_a_cold_one_and_a_plan_names_the_wait(tmp_path: Path, moto_s3: S3Server) -> None:
    with Site(config(tmp_path, cooling(moto_s3), {**replica(moto_s3, "warm")})) as site:
        _, old = months(site, 1, 70)
        local = next(each for each in site.vault.catalog().entries() if each.file == old.file)
        site.vault.replicate(local, "warm")
        move_all(site)
        forget_locally(site)
        notes: list[str] = []
        target = Target("mysql", "app")
        found = find_copies(site, target, old.file, "auto", notes)
        assert [entry.location for entry, _ in found] == ["warm", "copy"] and notes == []
        find_copies(site, target, old.file, "copy", notes)
        assert "has to be thawed first (3 to 5 hours; standard retrieval" in notes[0]


def test_the_commands_say_run_again_or_wait(
    tmp_path: Path, moto_s3: S3Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_run, "THAW_POLL_SECONDS", 0.01)
    configured = config(tmp_path / "v", cooling(moto_s3))
    with Site(configured) as site:
        _, old = months(site, 1, 70)
        move_all(site)
        look_often(site, old, 12)
    path = tmp_path / "shop.yaml"
    path.write_text(json.dumps(_written(configured)))
    with slow_thaws(moto_s3, 12):
        verify = ["verify", "-f", str(path), "--backup", old.file, "--location", "copy"]
        assert backups([*verify, "--json"]) == 6
        told = json.loads(capsys.readouterr().out)
        assert told["error"]["class"] == "Thawing" and "run the same again" in told["error"]["remedy"]
        output = ["-f", str(path), old.file, "--location", "copy", "--output", str(tmp_path / "dump")]
        assert backups(["thaw", "-f", str(path), old.file, "--location", "copy", "--speed", "Fast"]) == 2
        assert backups([*verify, "--wait"]) == 0
        assert "waiting: " in capsys.readouterr().err
        assert backups(["decrypt", *output]) == 0
        assert (tmp_path / "dump").read_bytes() == dump(50)


@pytest.mark.sampled
def test_a_large_archive_moves_in_parts(tmp_path: Path, moto_s3: S3Server) -> None:
    store = S3Store(ObjectStoreConfig(**replica(moto_s3, "copy")), copies=CopySizes(limit=6 * MIB, part=5 * MIB))
    body = os.urandom(11 * MIB)
    with store.stage("a.enc") as staged:
        staged.write(body)
        staged.commit()
    assert store.cold("a.enc") is None
    assert store.freeze("a.enc", "GLACIER")
    how = store.cold("a.enc")
    assert how is not None and (how.storage_class, how.state) == ("GLACIER", "cold")
    with pytest.raises(Cold, match="thaw"):
        store.get("a.enc")
    store.thaw("a.enc", 2, "Standard")
    assert b"".join(store.read("a.enc")) == body


def test_a_store_that_keeps_no_classes_says_so_and_nothing_is_lost(tmp_path: Path, rclone_s3: S3Server) -> None:
    with Site(config(tmp_path, cooling(rclone_s3))) as site:
        _, old = months(site, 1, 70)
        (done,) = move_all(site)
        assert done.moved == [] and "is not in GLACIER after it was moved" in str(done.error)
        backup.verify(site, old)


@pytest.mark.sampled
def test_killed_while_it_moves_the_next_run_finishes(tmp_path: Path, moto_s3: S3Server) -> None:
    with Site(config(tmp_path, cooling(moto_s3))) as site:
        months(site, 1, 70, 80)
        for step in (1, 2):
            assert not _dies(site, step)
        assert sum(len(each.moved) for each in move_all(site)) in (1, 2)
        (done,) = move_all(site)
        assert done.moved == [] and done.stood == 2 and done.error is None


def _dies(site: Site, step: int) -> bool:
    """Move in a process that is killed right after its n-th copy in place; True when it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            fresh = Site(site.config)
            store = fresh.vault.store("copy")
            countdown = [step]

            def freeze(key: str, storage_class: str, real: Any = store.freeze) -> bool:
                done = bool(real(key, storage_class))
                countdown[0] -= 1
                if not countdown[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                return done

            store.freeze = freeze  # type: ignore[method-assign]
            move_all(fresh)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFEXITED(status)


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ({}, None),
        ({"StorageClass": "GLACIER_IR"}, None),
        ({"StorageClass": "GLACIER"}, "cold"),
        ({"StorageClass": "DEEP_ARCHIVE", "Restore": 'ongoing-request="true"'}, "thawing"),
        (
            {
                "StorageClass": "GLACIER",
                "Restore": 'ongoing-request="false", expiry-date="Fri, 21 Dec 2029 00:00:00 GMT"',
            },
            "thawed",
        ),
    ],
)
def test_a_head_tells_how_cold_an_object_is(told: dict[str, str], state: str | None) -> None:
    how = coldness_of(told)
    assert (how.state if how else None) == state
    if state == "thawed":
        assert how is not None and how.until is not None and how.until.year == 2029


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"cold_class": "STANDARD_IA"}, "is no cold storage; there are GLACIER and DEEP_ARCHIVE"),
        ({"cold_class": "GLACIER", "cold_after": "1h"}, "less than a day"),
        ({"cold_class": "GLACIER", "cold_after": "soon"}, "write it as"),
        ({"archive_class": "GLACIER"}, "have old ones move later: cold_class"),
    ],
)
def test_a_rule_that_cannot_be_kept_is_refused_when_it_is_read(settings: dict[str, str], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        ObjectStoreConfig(name="copy", bucket="bucket", **settings)

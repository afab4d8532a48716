"""Verification: every kind of damage is found and named, and leaves its mark."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.catalog import Entry
from engine.errors import IntegrityError, Unreachable, WrongKey
from engine.manifest import Manifest, sign
from engine.removal import remove
from engine.source import Facts
from engine.vault import Vault
from engine.verify import Gone, check_size, recent_sizes, verify_backup
from tests.functional.vault_helpers import DUMP, END, FACTS, files, flip, inspect, make, site
from tests.servers.s3 import S3Server


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(site(tmp_path / "root"))


def kinds(vault: Vault, entry: Entry) -> list[str]:
    return [mark["kind"] for mark in vault.marks(entry)]


def refused(vault: Vault, entry: Entry, says: str, **options: int) -> IntegrityError:
    """Verification fails with these words, and the mark gives the reason."""
    with pytest.raises(IntegrityError, match=says) as error:
        verify_backup(vault, entry.location, entry, inspect, **options)
    assert kinds(vault, entry)[-1] == "broken"
    assert vault.marks(entry)[-1]["facts"]["reason"] == error.value.message
    return error.value


def test_a_whole_backup_is_proven_and_marked(vault: Vault) -> None:
    entry, manifest = make(vault)
    told: list[int] = []
    report = verify_backup(vault, "local", entry, inspect, progress=lambda step, done, total=None: told.append(done))
    assert report.rows == {"t": 30_000} and report.manifest == manifest and report.warnings == []
    assert report.plain_bytes == len(DUMP + END) + len(b"CREATE USER app;\n")
    assert report.checks == [
        "signature",
        "digest",
        "decrypted and unpacked",
        "end marker and rows",
        "companions",
        "size",
    ]
    assert kinds(vault, entry) == ["verified"]
    assert told[-1] == entry.size


@pytest.mark.parametrize("at", [0, 9, 20, 60_000, -20, -1])
def test_one_flipped_bit_is_named_as_damage_of_the_stored_bytes(vault: Vault, at: int) -> None:
    entry, _ = make(vault)
    flip(vault.root / entry.key, at)
    refused(vault, entry, "is damaged: its bytes have SHA-256")


@pytest.mark.parametrize("cut", [1, 16, 4096])
def test_a_missing_end_is_named_as_truncation(vault: Vault, cut: int) -> None:
    entry, _ = make(vault)
    path = vault.root / entry.key
    path.write_bytes(path.read_bytes()[:-cut])
    refused(vault, entry, "is truncated")


def test_one_byte_missing_in_the_middle_is_found(vault: Vault) -> None:
    entry, _ = make(vault)
    path = vault.root / entry.key
    data = path.read_bytes()
    path.write_bytes(data[:5000] + data[5001:])
    refused(vault, entry, "is truncated")


def test_a_hand_edited_manifest_is_named(vault: Vault) -> None:
    entry, _ = make(vault)
    path = vault.root / entry.manifest_key
    path.write_text(path.read_text().replace("30000", "29999"))
    refused(vault, entry, "fails its signature: it was altered")


def test_a_swapped_manifest_is_named(vault: Vault) -> None:
    one, two = make(vault)[0], make(vault)[0]
    (vault.root / one.manifest_key).write_bytes((vault.root / two.manifest_key).read_bytes())
    refused(vault, one, "the two were swapped")


def test_a_wrong_key_is_no_damage_and_leaves_no_mark(vault: Vault) -> None:
    entry, _ = make(vault)
    other = Vault(site(vault.root, keys={"main": "another-fake-passphrase-" * 2}))
    with pytest.raises(WrongKey):
        verify_backup(other, "local", entry, inspect)
    assert kinds(vault, entry) == []


def test_a_dump_without_its_end_is_refused_though_every_digest_fits(vault: Vault) -> None:
    entry, _ = make(vault, DUMP)
    refused(vault, entry, "the end marker is missing")


def test_one_row_less_than_the_manifest_says_is_refused(vault: Vault) -> None:
    entry, _ = make(vault, DUMP[DUMP.index(b"\n") + 1 :] + END)
    refused(vault, entry, "t has 29999 rows, its manifest says 30000")


def test_damage_in_a_companion_is_found(vault: Vault) -> None:
    entry, manifest = make(vault)
    flip(vault.root / entry.beside(manifest.files[1].file), 20)
    with pytest.raises(IntegrityError, match="accounts"):
        verify_backup(vault, "local", entry, inspect)
    assert kinds(vault, entry) == ["broken"]


@pytest.mark.parametrize("gone", ["data", "companion", "manifest"])
def test_a_missing_file_is_found(vault: Vault, gone: str) -> None:
    entry, manifest = make(vault)
    key = {"data": entry.key, "companion": entry.beside(manifest.files[1].file), "manifest": entry.manifest_key}[gone]
    (vault.root / key).unlink()
    refused(vault, entry, "is not whole")


def test_what_retention_removes_meanwhile_is_neither_whole_nor_broken_and_leaves_no_mark(vault: Vault) -> None:
    entry, _ = make(vault)
    vault.mark(entry, "expired")

    def removed(manifest: Manifest, chunks: Iterable[bytes]) -> dict[str, int]:
        parts = [entry.key, entry.beside(manifest.files[1].file)]
        remove(vault.removals, vault.store("local"), vault.layout("local"), entry.key, parts)
        return dict(manifest.rows)

    with pytest.raises(Gone, match="removed from local by retention"):
        verify_backup(vault, "local", entry, removed)
    with pytest.raises(Gone):
        verify_backup(vault, "local", entry, inspect)
    assert files(vault.root) == []
    entry, _ = make(vault)
    vault.mark(entry, "expired")
    (vault.root / entry.manifest_key).unlink()  # its removal has just begun
    with pytest.raises(Gone):
        verify_backup(vault, "local", entry, inspect)
    assert kinds(vault, entry) == ["expired"]


def test_an_inspection_that_stops_early_does_not_hide_damage_behind_it(vault: Vault) -> None:
    entry, _ = make(vault, os.urandom(5_000_000), facts=Facts(server=FACTS.server))
    flip(vault.root / entry.key, -40)

    def first_chunk(manifest: Manifest, chunks: Iterable[bytes]) -> None:
        next(iter(chunks))

    with pytest.raises(IntegrityError, match="is damaged"):
        verify_backup(vault, "local", entry, first_chunk)


def test_a_manifest_signed_with_a_digest_that_does_not_fit_is_refused(vault: Vault) -> None:
    entry, manifest = make(vault)
    part = manifest.data.model_copy(update={"plain_size": manifest.data.plain_size - 1})
    forged = manifest.model_copy(update={"files": [part, manifest.files[1]]})
    (vault.root / entry.manifest_key).write_bytes(sign(forged, vault.keys))
    refused(vault, entry, "its manifest says")


def test_a_passing_trouble_is_no_damage(vault: Vault) -> None:
    entry, _ = make(vault)

    def unreachable(manifest: Manifest, chunks: Iterable[bytes]) -> None:
        raise Unreachable("down for tests")

    with pytest.raises(Unreachable):
        verify_backup(vault, "local", entry, unreachable)
    assert kinds(vault, entry) == []


def test_a_backup_below_the_floor_is_refused(vault: Vault) -> None:
    entry, _ = make(vault)
    verify_backup(vault, "local", entry, inspect, floor_bytes=entry.size)
    refused(vault, entry, "below the floor", floor_bytes=entry.size + 1)


def test_sizes_are_held_against_recent_ones_of_the_same_tier_only(vault: Vault) -> None:
    facts = replace(FACTS, rows={})
    for number in range(12):
        make(vault, os.urandom(100_000 + number), facts=facts)
    make(vault, b"x", tier="hourly", facts=facts)
    make(vault, b"x", database="other", facts=facts)
    entry, manifest = make(vault, os.urandom(1000), facts=facts)
    sizes = recent_sizes(vault, entry, manifest)
    assert len(sizes) == 10 and all(100_000 <= size <= 100_200 for size in sizes)
    with pytest.raises(IntegrityError, match="suspiciously small"):
        verify_backup(vault, "local", entry, lambda manifest, chunks: None)
    assert kinds(vault, entry) == ["broken"]


def test_bad_sizes_never_become_the_usual_one_until_a_person_accepts_one(vault: Vault) -> None:
    facts = replace(FACTS, rows={})

    def whole(entry: Entry, **options: bool) -> None:
        verify_backup(vault, "local", entry, lambda manifest, chunks: None, **options)

    for _ in range(4):
        whole(make(vault, os.urandom(100_000), facts=facts)[0])
    for _ in range(11):  # one an hour, and nobody looks
        small, _ = make(vault, os.urandom(1000), facts=facts)
        with pytest.raises(IntegrityError, match="suspiciously small") as error:
            whole(small)
        assert f"--backup {small.file} --accept-size" in error.value.remedy
    whole(small, accept_size=True)
    assert kinds(vault, small) == ["broken", "size-accepted", "verified"]
    whole(small)
    after, manifest = make(vault, os.urandom(1100), facts=facts)
    assert recent_sizes(vault, after, manifest) == [small.size]
    whole(after)
    large, _ = make(vault, os.urandom(100_000), facts=facts)
    whole(large)
    with pytest.raises(IntegrityError, match="suspiciously small"):
        whole(make(vault, b"x", facts=facts)[0])
    forged, manifest = make(vault, os.urandom(1000), facts=facts)
    for mark in vault.store("local").list(vault.layout("local").marks_prefix(small.key)):
        if "size-accepted" in mark.key:
            name = mark.key.replace(small.key, forged.key)
            vault.store("local").put(name, vault.store("local").get(mark.key))
    assert recent_sizes(vault, forged, manifest) != [], "nobody signed that"


@pytest.mark.parametrize(
    ("size", "found"), [(1000, []), (501, []), (499, ["small"]), (101, ["small"]), (3000, []), (3001, ["large"])]
)
def test_unusual_sizes_are_told(vault: Vault, size: int, found: list[str]) -> None:
    _, manifest = make(vault)
    sized = manifest.model_copy(update={"files": [manifest.data.model_copy(update={"size": size})]})
    warnings = check_size(sized, [990, 1000, 1010, 1, 1_000_000])
    assert [word for word in ("small", "large") for warning in warnings if f"unusually {word}" in warning] == found


def test_below_a_tenth_of_the_median_is_a_failure_and_without_history_nothing_is(vault: Vault) -> None:
    _, manifest = make(vault)
    sized = manifest.model_copy(update={"files": [manifest.data.model_copy(update={"size": 99})]})
    with pytest.raises(IntegrityError, match="has 99 bytes; the last 1 had 1,000"):
        check_size(sized, [1000])
    assert check_size(sized, []) == []


def test_a_replica_is_verified_where_it_stands(tmp_path: Path, rclone_s3: S3Server) -> None:
    vault = Vault(site(tmp_path, rclone_s3))
    entry, _ = make(vault)
    vault.replicate(entry, "copy0")
    (there,) = vault.catalog("copy0").entries()
    assert verify_backup(vault, "copy0", there, inspect).rows == {"t": 30_000}
    assert kinds(vault, there) == ["copied", "verified"] and kinds(vault, entry) == []
    store = vault.store("copy0")
    data = bytearray(store.get(there.key))
    data[5000] ^= 1
    store.delete(there.key)
    with store.stage(there.key) as staged:
        staged.write(bytes(data))
        staged.commit()
    with pytest.raises(IntegrityError, match="is damaged"):
        verify_backup(vault, "copy0", there, inspect)
    assert kinds(vault, there)[-1] == "broken"
    verify_backup(vault, "local", entry, inspect)


def test_verification_leaves_nothing_but_its_mark(vault: Vault) -> None:
    entry, _ = make(vault)
    before = files(vault.root)
    verify_backup(vault, "local", entry, inspect)
    (new,) = set(files(vault.root)) - set(before)
    assert new.startswith(f"shop/marks/mysql/daily/{entry.file}.verified.")

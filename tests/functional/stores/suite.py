"""What every store must do. One suite; each store inherits it and brings its fixtures.

``store`` is the store under test, empty. ``outside`` looks at the same place by other means.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest

from engine.errors import NotFound, StoreError, StoreRefused
from engine.stores import Store

ODD_KEYS = [
    "A/1.enc",
    "a b/c d.enc",
    "a&b=c.enc",
    "a'b\"c.enc",
    "a+b/1+1.enc",
    "a.b",
    "a/b",
    "a/b#c",
    "a0",
    "a~",
    "p%20q/%41.enc",
    "q?x=y.enc",
    "workset/database/workset_20250116_020000.sql.gz.enc",
    "workset/database/workset_20250116_020000.sql.gz.enc.json",
    "ünï/日本語_😀.enc",
]


class Outside(Protocol):
    """The same place seen without the store under test."""

    def keys(self) -> list[str]:
        """Every visible object."""
        ...

    def content(self, key: str) -> bytes: ...

    def unfinished(self) -> list[str]:
        """Whatever a write leaves before its commit: staged files, uploads."""
        ...


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that no compression or mistake of place would leave equal."""
    return random.Random(seed).randbytes(size)


def pieces(data: bytes, seed: int = 2) -> Iterator[memoryview]:
    """The same bytes in pieces of uneven length, as a pipe gives them."""
    lengths = random.Random(seed)
    at = 0
    while at < len(data):
        length = lengths.choice([1, 17, 4096, 65_536, 300_000, 1_048_577])
        yield memoryview(data)[at : at + length]
        at += length


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class StoreSuite:
    """The tests. Each states one promise of ``engine.stores.base``."""

    may_lack_copies = False
    """May this place be unable to copy what is large?"""

    def test_check_passes_and_leaves_nothing_behind(self, store: Store, outside: Outside) -> None:
        store.check()
        assert outside.keys() == []
        assert outside.unfinished() == []

    def test_a_staged_write_shows_only_after_its_commit(self, store: Store, outside: Outside) -> None:
        data = noise(300_000)
        with store.stage("a/b.enc") as staged:
            for piece in pieces(data):
                staged.write(piece)
            assert outside.keys() == []
            assert list(store.list()) == []
            assert store.stat("a/b.enc") is None
            stored = staged.commit()
        assert (stored.key, stored.size, stored.sha256) == ("a/b.enc", len(data), digest(data))
        assert stored.proof in {"read-back", "server-sha256"}
        assert outside.content("a/b.enc") == data
        assert outside.unfinished() == []

    def test_an_empty_object_can_be_stored_and_read(self, store: Store) -> None:
        with store.stage("empty.enc") as staged:
            assert staged.commit().size == 0
        assert store.get("empty.enc") == b""
        assert list(store.read("empty.enc", 5, 10)) == []

    @pytest.mark.parametrize("size", [1000, 12_000_000])
    def test_an_aborted_write_leaves_nothing(self, store: Store, outside: Outside, size: int) -> None:
        with store.stage("a/b.enc") as staged:
            staged.write(noise(size))
        staged.abort()
        staged.abort()
        assert outside.keys() == []
        assert outside.unfinished() == []

    def test_an_exception_in_the_middle_leaves_nothing(self, store: Store, outside: Outside) -> None:
        with pytest.raises(KeyboardInterrupt), store.stage("a/b.enc") as staged:
            staged.write(noise(12_000_000))
            raise KeyboardInterrupt
        assert outside.keys() == []
        assert outside.unfinished() == []

    def test_nothing_can_be_written_after_the_end(self, store: Store) -> None:
        with store.stage("a.enc") as staged:
            staged.write(b"x")
            staged.commit()
        with pytest.raises(StoreError, match="ended"):
            staged.write(b"y")
        with pytest.raises(StoreError, match="ended"):
            staged.commit()
        assert store.get("a.enc") == b"x"

    @pytest.mark.parametrize("size", [1000, 12_000_000])
    def test_a_commit_over_an_existing_key_is_refused_and_the_old_one_stays(
        self, store: Store, outside: Outside, size: int
    ) -> None:
        store.put("a/b.enc", b"the last good one")
        with store.stage("a/b.enc") as staged:
            staged.write(noise(size))
            with pytest.raises(StoreRefused, match=r"a/b\.enc.* exists already") as caught:
                staged.commit()
        assert "not touched" in caught.value.kept
        assert outside.content("a/b.enc") == b"the last good one"
        assert outside.unfinished() == []

    def test_putting_the_same_bytes_twice_is_success(self, store: Store, outside: Outside) -> None:
        first = store.put("m.json", b"{}")
        assert store.put("m.json", b"{}") == first
        assert (first.size, first.sha256, first.proof) == (2, digest(b"{}"), "read-back")
        assert outside.content("m.json") == b"{}"

    @pytest.mark.parametrize("other", [b"[]", b"{ }", b""])
    def test_putting_other_bytes_under_a_key_is_refused(self, store: Store, outside: Outside, other: bytes) -> None:
        store.put("m.json", b"{}")
        with pytest.raises(StoreRefused, match="something else"):
            store.put("m.json", other)
        assert outside.content("m.json") == b"{}"

    @pytest.mark.parametrize("size", [0, 1000, 12_000_001])
    def test_a_second_name_for_an_object_holds_the_same_bytes_and_outlives_the_first(
        self, store: Store, outside: Outside, size: int
    ) -> None:
        """Where the store cannot do that it says so, and has changed nothing."""
        data = noise(size)
        with store.stage("daily/a.enc") as staged:
            staged.write(data)
            staged.commit()
        if not store.duplicate("daily/a.enc", "weekly/b.enc", archive=True):
            assert outside.keys() == ["daily/a.enc"] and outside.unfinished() == []
            assert self.may_lack_copies
            return
        store.delete("daily/a.enc")
        assert outside.keys() == ["weekly/b.enc"]
        assert outside.content("weekly/b.enc") == data
        assert outside.unfinished() == []

    def test_a_second_name_replaces_nothing_and_needs_something_to_name(self, store: Store, outside: Outside) -> None:
        store.put("a.json", b"one")
        store.put("b.json", b"two")
        with pytest.raises(StoreRefused, match=r"b\.json.* exists already"):
            store.duplicate("a.json", "b.json")
        with pytest.raises(NotFound, match="c.json"):
            store.duplicate("c.json", "d.json")
        assert outside.keys() == ["a.json", "b.json"] and outside.content("b.json") == b"two"

    def test_ranges_give_exactly_the_bytes_asked_for(self, store: Store) -> None:
        data = noise(3_000_000)
        with store.stage("r.enc") as staged:
            staged.write(data)
            staged.commit()
        ranges = [(0, None), (0, 1), (7, 100), (1_048_575, 2), (2_999_999, 1), (2_999_990, 500), (1_000_000, None)]
        for start, length in ranges:
            end = None if length is None else start + length
            assert b"".join(store.read("r.enc", start, length)) == data[start:end], (start, length)
        assert b"".join(store.read("r.enc", 3_000_000)) == b""
        assert b"".join(store.read("r.enc", 5, 0)) == b""
        assert max(len(chunk) for chunk in store.read("r.enc")) <= 1024 * 1024

    def test_a_missing_key_is_not_found(self, store: Store) -> None:
        store.put("a/b.json", b"x")
        for key in ("a", "a/c", "a/b.json/c", "nonesuch"):
            assert store.stat(key) is None, key
            with pytest.raises(NotFound, match=key):
                next(store.read(key))
            with pytest.raises(NotFound):
                store.get(key)

    def test_get_refuses_what_is_larger_than_expected(self, store: Store) -> None:
        store.put("big.json", b"x" * 1001)
        assert store.get("big.json", 1001) == b"x" * 1001
        with pytest.raises(StoreError, match="larger than the 1,000 bytes"):
            store.get("big.json", 1000)

    def test_stat_tells_size_and_time_in_utc(self, store: Store) -> None:
        store.put("a.json", b"four")
        info = store.stat("a.json")
        assert info is not None
        assert (info.key, info.size) == ("a.json", 4)
        assert info.modified.utcoffset() == timedelta(0)
        assert abs(datetime.now(UTC) - info.modified) < timedelta(minutes=5)

    def test_odd_names_are_stored_listed_in_order_read_and_deleted(self, store: Store, outside: Outside) -> None:
        for key in reversed(ODD_KEYS):
            store.put(key, key.encode())
        assert [info.key for info in store.list()] == sorted(ODD_KEYS)
        assert sorted(outside.keys()) == sorted(ODD_KEYS)
        assert all(store.get(key) == key.encode() for key in ODD_KEYS)
        for key in ODD_KEYS:
            store.delete(key)
        assert list(store.list()) == []

    @pytest.mark.parametrize("prefix", ["a", "a/", "a/b", "a.", "workset/data", "ünï/", "p%", "none", "a b/c d.enc"])
    def test_a_listing_keeps_to_its_prefix(self, store: Store, prefix: str) -> None:
        for key in ODD_KEYS:
            store.put(key, b"x")
        assert [info.key for info in store.list(prefix)] == sorted(key for key in ODD_KEYS if key.startswith(prefix))

    def test_folders_are_named_without_what_is_in_them(self, store: Store) -> None:
        for key in ("shop/daily/a.json", "shop/daily/b/c.json", "shop/contents/x", "shop/top.json", "other/d"):
            store.put(key, b"x")
        assert sorted(store.folders()) == ["other", "shop"]
        assert sorted(store.folders("shop/")) == ["contents", "daily"]
        assert sorted(store.folders("shop/daily/")) == ["b"] and list(store.folders("none/")) == []

    def test_a_long_listing_comes_whole_and_in_order(self, store: Store) -> None:
        keys = [
            f"site/{tier}/{day:02}/f{n}.json"
            for tier in ("daily", "daily.old", "daily-2")
            for day in range(5)
            for n in range(9)
        ]
        for key in keys:
            store.put(key, b"x")
        assert [info.key for info in store.list("site/")] == sorted(keys)

    def test_deleting_is_idempotent(self, store: Store) -> None:
        store.put("a/b.json", b"x")
        store.delete("a/b.json")
        store.delete("a/b.json")
        assert store.stat("a/b.json") is None

    @pytest.mark.parametrize(
        "key", ["", "/etc/passwd", "a/../b", "..", "a//b", "a/", "./a", ".backup-flows/x", "a\nb", "a\0b", "x" * 300]
    )
    def test_keys_that_would_lead_astray_are_refused(self, store: Store, outside: Outside, key: str) -> None:
        with pytest.raises(StoreRefused, match="key"):
            store.put(key, b"x")
        with pytest.raises(StoreRefused, match="key"):
            store.stage(key)
        with pytest.raises(StoreRefused, match="key"):
            next(store.read(key))
        with pytest.raises(StoreRefused, match="key"):
            store.delete(key)
        assert outside.keys() == []

    def test_a_large_stream_in_uneven_pieces_arrives_whole(self, store: Store) -> None:
        data = noise(66_000_001)
        with store.stage("large.enc") as staged:
            for piece in pieces(data):
                staged.write(piece)
            stored = staged.commit()
        assert (stored.size, stored.sha256) == (len(data), digest(data))
        found = hashlib.sha256()
        for chunk in store.read("large.enc"):
            found.update(chunk)
        assert found.hexdigest() == stored.sha256
        assert [info.size for info in store.list("large")] == [len(data)]

    def test_writes_side_by_side_do_not_meet(self, store: Store) -> None:
        with store.stage("one.enc") as one, store.stage("two.enc") as two:
            one.write(b"1")
            two.write(b"2")
            two.commit()
            one.commit()
        assert (store.get("one.enc"), store.get("two.enc")) == (b"1", b"2")

    def test_the_description_names_the_place(self, store: Store) -> None:
        text = store.describe() + repr(store)
        assert len(store.describe()) > 5
        assert "secret" not in text

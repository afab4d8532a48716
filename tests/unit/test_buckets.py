"""Pure parts of buckets: lists, contents' files under one salt, the mapping on disk, where contents stand."""

from __future__ import annotations

import gzip
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.buckets import record
from engine.buckets.disk_map import DiskMap
from engine.buckets.headers import as_mail, meaning, text_of
from engine.buckets.plan import BucketRequest
from engine.buckets.record import Content, Record
from engine.codec import KeyRing, decrypt, unpack
from engine.codec.shared import SharedSalt
from engine.config import SiteConfig
from engine.errors import IntegrityError
from engine.layout import Layout, layouts

RING = KeyRing({"main": "fake-passphrase-for-tests-" + "x" * 20}, "main")
CONTENT = Content("ab" * 32, 96, "cd" * 32, "main", 10_000, "2025-01-16T02:00:00Z")
TEXT = st.text(st.characters(exclude_categories=()), max_size=40)


@given(TEXT.filter(bool), st.dictionaries(TEXT, TEXT, max_size=3), st.none() | st.dictionaries(TEXT, TEXT, max_size=3))
def test_a_line_of_a_list_says_what_was_written_whatever_the_names(
    key: str, metadata: dict[str, str], tags: dict[str, str] | None
) -> None:
    made = Record(key, 5, "etag", "2025-01-16T02:00:00Z", "ef" * 32, CONTENT, {"ContentType": "a/b"}, metadata, tags)
    text = record.header("bucket", "endpoint") + made.line()
    chunks = [text.encode()[at : at + 7] for at in range(0, len(text), 7)]
    assert list(record.records(chunks, "list")) == [made]
    assert list(record.stored_names(chunks, "list")) == [CONTENT.stored]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "no list"), (b"[]\n", "no list"), (b'{"format":2}\n', "reads up to 1"),
        (b'{"format":1}\n{"key":"a"}\n', "no object's"), (b'{"format":1}\n{"key"', "middle of a line"),
    ],
)  # fmt: skip
def test_what_is_no_list_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(IntegrityError, match=words):
        list(record.records([text], "list"))


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=3000), min_size=1, max_size=4))
def test_files_of_one_salt_open_each_for_itself_and_with_stock_gunzip(contents: list[bytes]) -> None:
    salt = SharedSalt(RING)
    seen = set()
    for content in contents:
        parts: list[bytes] = []
        encoder = salt.encoder(parts.append)
        for at in range(0, len(content), 100):
            encoder.write(content[at : at + 100])
        done = encoder.finish()
        stored = b"".join(parts)
        assert (done.size, done.sha256) == (len(stored), hashlib.sha256(stored).hexdigest())
        clear = b"".join(decrypt([stored], salt.cipher, RING, what="it"))
        assert gzip.decompress(clear) == content == b"".join(unpack([clear], "gzip", what="it"))
        seen.add(stored[32:])
    assert len(seen) == len(contents), "equal contents too are stored as other bytes"


@given(st.dictionaries(TEXT, TEXT, max_size=20))
def test_a_mapping_on_disk_holds_what_was_put_in(pairs: dict[str, str]) -> None:
    with DiskMap() as made:
        made.update(pairs.items())
        assert dict(made.items()) == pairs and len(made) == len(pairs)
        assert all(made.get(name) == value and name in made for name, value in pairs.items())
        assert made.get("\0 none") is None
        new = "\0 new"
        assert made.add(new) and not made.add(new)
        made.put(new, "1")
        assert made.get(new) == "1"


def test_contents_of_two_sites_never_share_a_folder_and_are_no_backups() -> None:
    one, other = (Layout(site, "{source}/{tier}", {}, ["media"], archives=["media"]) for site in ("one", "other"))
    prefix = one.contents_prefix("media", "up/loads")
    assert prefix == "contents/one/media/up%2Floads/" and prefix != other.contents_prefix("media", "up/loads")
    assert one.place(f"{prefix}ab/{'ab' * 32}.gz.enc") is None


def test_sources_that_share_a_folder_are_told_apart_by_their_extensions() -> None:
    config = SiteConfig.model_validate({
        "site": "s", "vault": {"root": "/v", "path": "{tier}"},
        "volumes": {"volumes": ["xx"]}, "buckets": {"buckets": ["xx"]}, "n8n": {"name": "xx"},
    })  # fmt: skip
    layout = layouts(config)["local"]
    for ext, source in (("tar", "volumes"), ("jsonl", "buckets"), ("json", "xx")):
        place = layout.place(f"daily/xx_20250116_020000.{ext}.gz.enc")
        assert place is not None and place.pairs == ((source, "daily"),)


def test_a_header_is_read_as_what_was_meant_and_compared_by_that() -> None:
    mangled = "Zoë 日本".encode().decode("latin-1")
    assert text_of(mangled) == text_of("Zoë 日本") == "Zoë 日本" and text_of("Zoë") == "Zoë", "Latin-1 stays"
    assert as_mail(mangled).isascii() and as_mail("plain") == "plain"
    assert {meaning(each) for each in (mangled, as_mail(mangled), " Zoë 日本 ")} == {"Zoë 日本"}
    assert meaning("=?no-such-charset?b?AAAA?=") == "=?no-such-charset?b?AAAA?="


def test_a_request_wants_by_prefix_and_by_key() -> None:
    assert BucketRequest().wants("anything")
    assert BucketRequest(prefix="a/").wants("a/b") and not BucketRequest(prefix="a/").wants("b")
    assert BucketRequest(objects=("a",)).wants("a") and not BucketRequest(objects=("a",)).wants("ab")

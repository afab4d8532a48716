"""Manifests: signed, bound to their file and site, and every alteration is refused in words."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.codec import KeyRing
from engine.errors import IntegrityError, WrongKey
from engine.manifest import Cipher, LogPosition, Manifest, Server, StoredFile, open_signed, sign
from engine.signed import seal, unseal

KEYS = KeyRing({"main": "fake-key-for-tests-" * 3}, "main")
FILE = "workset_20250116_020000.sql.gz.enc"
AT = datetime(2025, 1, 16, 2, 0, 0, tzinfo=UTC)


def manifest(**changes: Any) -> Manifest:
    data = StoredFile(file=FILE, size=10, sha256="ab" * 32, plain_size=99, cipher=Cipher(key_id="main"))
    fields: dict[str, Any] = {
        "site": "workset",
        "source": "mysql",
        "kind": "mysql",
        "tier": "daily",
        "database": "workset",
        "file": FILE,
        "started_at": AT,
        "finished_at": AT,
        "files": [data],
        "rows": {"users": 3, "öäü ☃": 1},
        "server": Server(flavour="mariadb", version="10.11.6"),
        "log": LogPosition(binlog_file="bin.1", binlog_position=4),
        "contents": {"nested": {"list": [1, 2.5, None, True]}},
    }
    return Manifest.model_validate(fields | changes)


def opened(data: bytes, keys: KeyRing = KEYS, file: str = FILE, site: str | None = "workset") -> Manifest:
    return open_signed(data, keys, file=file, site=site)


def test_what_was_signed_is_read_back_equal() -> None:
    assert opened(sign(manifest(), KEYS)) == manifest()


def test_a_manifest_is_json_for_people_and_holds_no_key() -> None:
    text = sign(manifest(), KEYS).decode()
    assert json.loads(text)["database"] == "workset"
    assert "fake-key" not in text


def _leaves(body: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(body, dict):
        return [leaf for key, value in body.items() for leaf in _leaves(value, (*path, key))]
    if isinstance(body, list) and body:
        return [leaf for number, value in enumerate(body) for leaf in _leaves(value, (*path, number))]
    return [path]


@pytest.mark.parametrize("path", _leaves(json.loads(sign(manifest(), KEYS))), ids=str)
def test_a_hand_edit_of_any_field_is_refused(path: tuple[Any, ...]) -> None:
    body = json.loads(sign(manifest(), KEYS))
    place = body
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = "edited" if place[path[-1]] != "edited" else "again"
    with pytest.raises((IntegrityError, WrongKey)):
        opened(json.dumps(body).encode())


def test_a_field_added_or_removed_by_hand_is_refused() -> None:
    for change in (lambda body: body.update(extra=1), lambda body: body.pop("rows"), lambda body: body["rows"].clear()):
        body = json.loads(sign(manifest(), KEYS))
        change(body)
        with pytest.raises(IntegrityError, match="altered after it was written"):
            opened(json.dumps(body).encode())


def test_a_manifest_laid_out_anew_but_unchanged_is_accepted() -> None:
    assert opened(json.dumps(json.loads(sign(manifest(), KEYS)), indent=4).encode()) == manifest()


@settings(max_examples=200)
@given(at=st.integers(0, 1500), bit=st.integers(0, 7))
def test_one_flipped_bit_never_gives_other_facts(at: int, bit: int) -> None:
    data = bytearray(sign(manifest(), KEYS))
    data[at % len(data)] ^= 1 << bit
    try:
        found = opened(bytes(data))
    except (IntegrityError, WrongKey):
        return
    assert found == manifest()  # a bit of white space


@settings(max_examples=100)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused_in_words(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="is damaged"):
        opened(data)


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"{}",
        b'{"signature": 1}',
        b'{"signature": {"key_id": {}, "mac": 1, "key_check": 2}}',
        b"[" * 100_000,
        b'{"signature": {"key_id": "main", "mac": "\\u00e4", "key_check": "x"}}',
    ],
)
def test_odd_json_is_refused_in_words(data: bytes) -> None:
    with pytest.raises((IntegrityError, WrongKey)):
        opened(data)


def test_a_non_ascii_signature_or_a_lone_surrogate_is_refused_as_altered() -> None:
    body = json.loads(sign(manifest(), KEYS))
    body["signature"]["mac"] = "ä" * 64
    with pytest.raises(IntegrityError, match="altered"):
        opened(json.dumps(body).encode())
    body["label"] = "\ud800"
    with pytest.raises(IntegrityError, match="altered"):
        opened(json.dumps(body).encode())


def test_a_swapped_manifest_is_named_as_swapped() -> None:
    with pytest.raises(IntegrityError, match="the two were swapped"):
        opened(sign(manifest(), KEYS), file="workset_20250117_020000.sql.gz.enc")


def test_a_manifest_of_another_site_is_refused() -> None:
    with pytest.raises(IntegrityError, match="belongs to site 'workset', not 'other'"):
        opened(sign(manifest(), KEYS), site="other")


def test_another_key_under_the_same_id_is_a_wrong_key_not_damage() -> None:
    other = KeyRing({"main": "another-fake-key-for-tests-" * 2}, "main")
    with pytest.raises(WrongKey, match="written with another key"):
        opened(sign(manifest(), KEYS), other)


def test_a_key_that_is_missing_is_named() -> None:
    with pytest.raises(WrongKey, match="no key 'main'"):
        opened(sign(manifest(), KEYS), KeyRing({"new": "n" * 40}, "new"))


def test_an_old_key_in_the_ring_still_opens() -> None:
    rotated = KeyRing({"main": "fake-key-for-tests-" * 3, "new": "n" * 40}, "new")
    assert opened(sign(manifest(), KEYS), rotated) == manifest()


def test_a_newer_format_asks_for_a_newer_release() -> None:
    with pytest.raises(IntegrityError, match="has format 2") as error:
        opened(sign(manifest(format=2), KEYS))
    assert "upgrade" in error.value.remedy


def test_a_signed_mark_is_no_manifest() -> None:
    data = seal({"type": "mark", "format": 1, "site": "workset"}, KEYS, "main")
    assert unseal(data, KEYS, what="It", needed_for="it")["type"] == "mark"
    with pytest.raises(IntegrityError, match="not readable"):
        opened(data)


def test_a_manifest_whose_first_file_is_another_is_refused() -> None:
    stray = StoredFile(file="other", size=1, sha256="", plain_size=1, cipher=Cipher(key_id="main"))
    with pytest.raises(IntegrityError, match="no data file of its name"):
        opened(sign(manifest(files=[stray]), KEYS))

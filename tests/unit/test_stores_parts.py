"""The pure parts of the stores: keys, growing parts, samples, the lanes of an upload, errors in words."""

from __future__ import annotations

import io
import threading
from typing import Any

import pytest
from botocore import exceptions as boto
from hypothesis import given
from hypothesis import strategies as st

from engine.config import ObjectStoreConfig
from engine.errors import BackupError, Cold, CredentialsRefused, Retained, StoreError, StoreRefused, Unreachable
from engine.stores.keys import check_key, is_visible
from engine.stores.multipart import LARGEST_PART, MIB, MOST_PARTS, Lanes, PartReader, growing
from engine.stores.s3_client import fixed_prefix, make_client, place_of, sends_sha256
from engine.stores.s3_errors import Place, in_words
from engine.stores.sample import RANGE, Sampler

PLACE = Place("offsite", "bucket", "https://s3.example.org")


def configured(**fields: Any) -> ObjectStoreConfig:
    return ObjectStoreConfig.model_validate({"name": "offsite", "bucket": "bucket", **fields})


@given(st.text(max_size=40))
def test_a_key_that_passes_stays_below_any_root(key: str) -> None:
    try:
        check_key(key)
    except StoreRefused:
        assert not is_visible(key)
        return
    parts = key.split("/")
    assert not {"", ".", ".."} & set(parts)
    assert not any(part.startswith(".") for part in parts[:-1])
    assert is_visible(key)


def test_a_file_that_starts_with_a_dot_may_be_stored_a_folder_may_not() -> None:
    assert check_key("config/.env_20250116_020000.tar.gz.enc")
    with pytest.raises(StoreRefused, match="dot"):
        check_key(".config/env.enc")


def test_all_parts_together_hold_what_the_recipe_says() -> None:
    sizes = [growing(number) for number in range(1, MOST_PARTS + 1)]
    assert sizes[0] == 8 * MIB
    assert sizes == sorted(sizes)
    assert max(sizes) <= LARGEST_PART
    assert sum(sizes) > 838 * 10**9
    assert all(size % RANGE == 0 for size in sizes)


@given(data=st.binary(max_size=5 * RANGE), cuts=st.lists(st.integers(1, 2 * RANGE), max_size=6))
def test_a_sample_matches_what_passed_whatever_the_parts(data: bytes, cuts: list[int]) -> None:
    sampler = fed(data, cuts)
    assert sampler.mismatch(lambda start, length: data[start : start + length]) is None
    kept = list(sampler.ranges())
    assert bool(kept) == bool(data)
    if data:
        assert kept[0].start == 0
        assert max(each.start + each.length for each in kept) == len(data)


@given(data=st.binary(min_size=1, max_size=3 * RANGE), at=st.integers(0, 10**9))
def test_in_a_stream_of_few_ranges_every_flipped_bit_is_found(data: bytes, at: int) -> None:
    sampler = fed(data, [])
    changed = bytearray(data)
    changed[at % len(data)] ^= 1
    assert sampler.mismatch(lambda start, length: bytes(changed[start : start + length])) is not None


def test_random_ranges_come_from_all_over_the_stream() -> None:
    data = bytes(100 * RANGE)
    starts = set()
    for _ in range(60):
        starts |= {each.start // RANGE for each in fed(data, []).ranges()}
    assert len(starts) > 80


def fed(data: bytes, cuts: list[int]) -> Sampler:
    sampler = Sampler()
    at = 0
    for cut in [*cuts, len(data) + 1]:
        sampler.feed(at, memoryview(data)[at : at + cut])
        at = min(len(data), at + cut)
    return sampler


def test_a_part_can_be_read_again_after_a_failed_try() -> None:
    data = bytes(range(256)) * 40
    reader = PartReader(memoryview(data), threading.Event())
    assert reader.read(1000) == data[:1000]
    assert reader.seek(0, io.SEEK_END) == len(data)
    assert reader.seek(0) == 0
    assert io.BufferedReader(reader).read() == data


def test_a_part_stops_when_its_upload_does() -> None:
    stopped = threading.Event()
    reader = PartReader(memoryview(b"x" * 100), stopped)
    stopped.set()
    with pytest.raises(InterruptedError):
        reader.read(10)


def test_lanes_hold_no_more_than_their_budget_and_one_part_that_is_larger() -> None:
    lanes = Lanes(threads=4, budget=20)
    lock = threading.Lock()
    held, peaks = [0], []

    def work(size: int) -> Any:
        def run() -> None:
            with lock:
                held[0] += size
                peaks.append((held[0], size))
            threading.Event().wait(0.002)
            with lock:
                held[0] -= size

        return run

    for size in [10, 10, 10, 10, 50, 10, 50, 50]:
        lanes.submit(work(size), size)
    lanes.drain()
    lanes.close()
    assert len(peaks) == 8
    assert all(total <= 20 or total == size for total, size in peaks)


def test_the_first_failure_of_a_lane_reaches_the_writer() -> None:
    lanes = Lanes(threads=2, budget=10)

    def fail() -> None:
        raise StoreError("the part was lost")

    lanes.submit(fail, 10)
    with pytest.raises(StoreError, match="lost"):
        lanes.drain()
    with pytest.raises(StoreError, match="lost"):
        lanes.submit(lambda: None, 1)
    lanes.close()


@pytest.mark.parametrize(
    ("code", "status", "kind", "words"),
    [
        ("InvalidAccessKeyId", 403, CredentialsRefused, "does not know this access key"),
        ("SignatureDoesNotMatch", 403, CredentialsRefused, "secret key does not belong"),
        ("ExpiredToken", 400, CredentialsRefused, "expired"),
        ("AccessDenied", 403, CredentialsRefused, "may not do this"),
        ("403", 403, CredentialsRefused, "may not do this"),
        ("SlowDown", 503, StoreError, "busy"),
        ("InternalError", 500, StoreError, "in trouble"),
        ("InternalError", 200, StoreError, "in trouble"),
        ("TooManyRequests", 429, StoreError, "busy"),
        ("PermanentRedirect", 301, StoreRefused, "another region"),
        ("RequestTimeTooSkewed", 403, StoreRefused, "clock"),
        ("InvalidObjectState", 403, Cold, "cold storage"),
        ("EntityTooLarge", 400, StoreRefused, "EntityTooLarge"),
    ],
)
def test_a_refusal_becomes_the_right_kind_in_words(code: str, status: int, kind: type[BackupError], words: str) -> None:
    error = in_words(client_error(code, status), "write a.enc", PLACE)
    assert type(error) is kind
    assert words in error.message
    assert "s3://bucket/ at https://s3.example.org" in error.message
    assert error.remedy
    assert error.retryable == (kind is StoreError)


def test_a_delete_that_object_lock_refuses_is_retained_not_denied() -> None:
    denied = client_error("AccessDenied", 403, "Access Denied because object protected by object lock.")
    error = in_words(denied, "delete a.enc", PLACE)
    assert type(error) is Retained
    assert "retained by object lock" in error.message


def test_a_certificate_that_is_not_trusted_is_no_network_failure() -> None:
    bad = boto.SSLError(endpoint_url="https://x", error="[SSL: CERTIFICATE_VERIFY_FAILED] self-signed")
    cut = boto.SSLError(endpoint_url="https://x", error="EOF occurred in violation of protocol")
    assert type(in_words(bad, "list", PLACE)) is StoreRefused
    assert type(in_words(cut, "list", PLACE)) is Unreachable


def client_error(code: str, status: int, message: str = "said so") -> boto.ClientError:
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return boto.ClientError(answer, "PutObject")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"endpoint_url": "https://fra1.digitaloceanspaces.com"}, False),
        ({"endpoint_url": "https://fra1.digitaloceanspaces.com", "checksums": "sha256"}, True),
        ({"checksums": "when_required"}, False),
    ],
)
def test_checksums_are_automatic_on_aws_only(fields: dict[str, Any], expected: bool) -> None:
    assert sends_sha256(configured(**fields)) is expected


def test_the_endpoint_is_named_without_what_is_secret_in_its_address() -> None:
    place = place_of(configured(endpoint_url="https://user:fake-password@minio.example.org:9000/"))
    assert str(place) == "s3://bucket/ at https://minio.example.org:9000"
    assert str(place_of(configured(region="eu-central-1"))) == "s3://bucket/ at AWS eu-central-1"


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        (None, ""),
        ("{site}/{source}", ""),
        ("backups/{directory}", "backups/"),
        ("/a/b-{site}", "a/b-"),
        ("fixed", "fixed"),
    ],
)
def test_the_fixed_part_of_a_path_ends_at_the_first_field(path: str | None, prefix: str) -> None:
    assert fixed_prefix(configured(path=path)) == prefix


@pytest.mark.parametrize(
    ("fields", "address"),
    [
        ({}, "https://bucket.s3.amazonaws.com/key"),
        ({"addressing": "path"}, "https://s3.amazonaws.com/bucket/key"),
        ({"endpoint_url": "http://minio:9000"}, "http://minio:9000/bucket/key"),
        ({"endpoint_url": "https://ams3.example.org", "addressing": "virtual"}, "https://bucket.ams3.example.org/key"),
    ],
)
def test_the_bucket_stands_where_the_endpoint_expects_it(fields: dict[str, Any], address: str) -> None:
    client = make_client(configured(access_key="fake-key-id", secret_key="fake-secret", **fields))
    url = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "key"})
    assert url.split("?")[0] == address

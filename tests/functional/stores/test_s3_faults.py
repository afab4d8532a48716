"""What an S3 endpoint and the way there can do wrong: cut, damaged, refused, dead, cold, replaced."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import (
    BackupError,
    CredentialsRefused,
    IntegrityError,
    StoreError,
    StoreRefused,
    Unreachable,
)
from engine.stores import S3Store
from tests.functional.stores.suite import digest, noise
from tests.functional.stores.test_s3 import Objects, configured, small_parts
from tests.servers.digest_gate import digest_gate
from tests.servers.proxy import Proxy
from tests.servers.s3 import S3Server
from tests.soak import trials

WRONG = "fake-but-another-secret-key-0123456789"


@pytest.fixture
def bucket(rclone_s3: S3Server) -> str:
    return rclone_s3.new_bucket()


@pytest.fixture
def outside(rclone_s3: S3Server, bucket: str) -> Objects:
    return Objects(rclone_s3, bucket)


def store_of(server: S3Server, bucket: str, **fields: object) -> S3Store:
    return S3Store(configured(server, bucket, **fields), part_size=small_parts)


@pytest.mark.parametrize("times", [1, 4])
def test_a_read_that_is_cut_goes_on_where_it_broke(rclone_s3: S3Server, bucket: str, times: int) -> None:
    data = noise(8_000_000)
    store_of(rclone_s3, bucket).put("a.enc", data)
    with Proxy(rclone_s3.endpoint) as proxy:
        store = store_of(rclone_s3, bucket, endpoint_url=proxy.endpoint)
        proxy.cut("down", after=1_500_000, times=times)
        assert digest(b"".join(store.read("a.enc", 1000))) == digest(data[1000:])
        assert proxy.done
        assert sum(request.startswith("GET") for request in proxy.requests) == times + 1


def test_a_read_that_never_gets_on_fails_as_unreachable(rclone_s3: S3Server, bucket: str) -> None:
    store_of(rclone_s3, bucket).put("a.enc", noise(8_000_000))
    with Proxy(rclone_s3.endpoint) as proxy:
        store = store_of(rclone_s3, bucket, endpoint_url=proxy.endpoint)
        chunks = store.read("a.enc")
        next(chunks)
        proxy.cut("down", after=0, times=1000)
        with pytest.raises(Unreachable, match=r"read a\.enc"):
            list(chunks)


@pytest.mark.parametrize("kind", ["moto_s3", "rclone_s3"])
def test_an_object_replaced_while_it_is_read_is_an_error_never_a_mix(kind: str, request: pytest.FixtureRequest) -> None:
    server: S3Server = request.getfixturevalue(kind)
    bucket = server.new_bucket()
    store_of(server, bucket).put("a.enc", noise(8_000_000))
    with Proxy(server.endpoint) as proxy:
        store = store_of(server, bucket, endpoint_url=proxy.endpoint)
        proxy.cut("down", after=3_000_000)
        chunks = store.read("a.enc")
        next(chunks)
        server.client().put_object(Bucket=bucket, Key="a.enc", Body=noise(8_000_000, seed=9))
        with pytest.raises(IntegrityError, match="replaced while it was being read"):
            list(chunks)


def test_an_upload_that_is_cut_once_arrives_whole(rclone_s3: S3Server, bucket: str, outside: Objects) -> None:
    data = noise(23_000_000)
    with Proxy(rclone_s3.endpoint) as proxy:
        store = store_of(rclone_s3, bucket, endpoint_url=proxy.endpoint)
        proxy.cut("up", after=7_000_000)
        with store.stage("a.enc") as staged:
            staged.write(data)
            assert staged.commit().proof == "size+sample"
        assert proxy.done
    assert digest(outside.content("a.enc")) == digest(data)


def test_an_upload_whose_line_goes_dead_fails_and_shows_nothing(
    rclone_s3: S3Server, bucket: str, outside: Objects
) -> None:
    with Proxy(rclone_s3.endpoint) as proxy:
        store = store_of(rclone_s3, bucket, endpoint_url=proxy.endpoint)

        def write() -> None:
            with store.stage("site/a.enc") as staged:
                staged.write(noise(12_000_000))
                proxy.cut("up", after=100_000, times=10_000)
                staged.write(noise(40_000_000))
                staged.commit()

        with pytest.raises(Unreachable, match="upload part") as caught:
            write()
        assert "the local one" in caught.value.kept
        assert outside.keys() == []
        proxy.heal()
        store.sweep()  # the abort itself could not get through
    assert outside.unfinished() == []


def test_a_damaged_part_is_refused_by_the_server_and_sent_again_by_the_next_try(
    rclone_s3: S3Server, bucket: str, outside: Objects
) -> None:
    with Proxy(rclone_s3.endpoint) as proxy:
        store = store_of(rclone_s3, bucket, endpoint_url=proxy.endpoint)
        proxy.flip("up", after=7_000_000)
        with pytest.raises(StoreError, match="damaged on the way") as caught, store.stage("a.enc") as staged:
            staged.write(noise(23_000_000))
            staged.commit()
        assert caught.value.retryable
    assert outside.keys() == []
    assert outside.unfinished() == []


def test_damage_that_the_server_does_not_notice_is_found_by_reading_back(moto_s3: S3Server) -> None:
    bucket = moto_s3.new_bucket()
    with Proxy(moto_s3.endpoint) as proxy:
        store = store_of(moto_s3, bucket, endpoint_url=proxy.endpoint)
        proxy.flip("up", after=1_000_000)
        with pytest.raises(IntegrityError, match="other bytes than were written"), store.stage("a.enc") as staged:
            staged.write(noise(3_000_000))
            staged.commit()
        assert proxy.done
    assert Objects(moto_s3, bucket).keys() == []


@pytest.mark.parametrize("size", [1_000_000, 12_000_000])
def test_a_lost_answer_to_the_last_request_is_no_failure(moto_s3: S3Server, size: int) -> None:
    """The retry meets what the first try left; it is told from another's write by its token."""
    bucket = moto_s3.new_bucket()
    data = noise(size)
    with Proxy(moto_s3.endpoint) as proxy:
        store = store_of(moto_s3, bucket, endpoint_url=proxy.endpoint)
        proxy.lose_answer(r"^PUT /\S+/a\.enc$|^POST /\S+/a\.enc\?uploadId=")
        with store.stage("a.enc") as staged:
            staged.write(data)
            assert staged.commit().size == size
        assert proxy.done
    assert Objects(moto_s3, bucket).content("a.enc") == data


def test_an_endpoint_that_compares_digests_is_proof_enough(moto_s3: S3Server) -> None:
    bucket = moto_s3.new_bucket()
    with digest_gate(moto_s3.endpoint) as endpoint:
        store = store_of(moto_s3, bucket, endpoint_url=endpoint, checksums="sha256")
        for size in (1000, 12_000_000):
            with store.stage(f"{size}.enc") as staged:
                staged.write(noise(size))
                assert staged.commit().proof == "server-sha256"
    assert sorted(Objects(moto_s3, bucket).keys()) == ["1000.enc", "12000000.enc"]


def test_an_endpoint_that_only_echoes_digests_proves_nothing(moto_s3: S3Server) -> None:
    bucket = moto_s3.new_bucket()
    store = store_of(moto_s3, bucket, checksums="sha256")
    with store.stage("a.enc") as staged:
        staged.write(noise(12_000_000))
        assert staged.commit().proof == "size+sample"
    assert Objects(moto_s3, bucket).keys() == ["a.enc"]


def test_probes_stay_below_the_configured_path(rclone_s3: S3Server, bucket: str) -> None:
    with Proxy(rclone_s3.endpoint) as proxy:
        store = store_of(rclone_s3, bucket, endpoint_url=proxy.endpoint, path="backups/{site}-x", checksums="sha256")
        store.check()
        with store.stage("backups/a.enc") as staged:
            staged.commit()
        written = [request for request in proxy.requests if request.startswith("PUT")]
    assert len(written) == 3
    assert all(request.startswith(f"PUT /{bucket}/backups/") for request in written)


OPERATIONS: list[tuple[str, Callable[[S3Store], object]]] = [
    ("check", lambda store: store.check()),
    ("put", lambda store: store.put("a.json", b"x")),
    ("read", lambda store: store.get("a.json")),
    ("list", lambda store: list(store.list())),
    ("stat", lambda store: store.stat("a.json")),
    ("delete", lambda store: store.delete("a.json")),
    ("sweep", lambda store: store.sweep()),
]
each_operation = pytest.mark.parametrize(
    "operation", [run for _, run in OPERATIONS], ids=[name for name, _ in OPERATIONS]
)


@each_operation
@pytest.mark.parametrize(
    ("field", "setting"), [("secret_key", "correct secret_key"), ("access_key", "correct access_key")]
)
def test_a_wrong_credential_fails_at_once_and_names_the_setting(
    rclone_s3: S3Server, bucket: str, operation: Callable[[S3Store], object], field: str, setting: str
) -> None:
    with Proxy(rclone_s3.endpoint) as proxy:
        store = store_of(rclone_s3, bucket, endpoint_url=proxy.endpoint, **{field: WRONG})
        with pytest.raises(CredentialsRefused) as caught:
            operation(store)
        # One request, and where its answer had no words one more; a put looks before it writes.
        assert len(proxy.requests) <= 2, proxy.requests
        assert len(set(proxy.requests)) == len(proxy.requests), "the same request was made twice"
    error = caught.value
    assert not error.retryable
    assert setting in error.remedy
    assert "offsite" in error.remedy
    assert bucket in error.message
    assert proxy.endpoint in error.message
    assert_no_secret(error, rclone_s3)


def test_a_wrong_secret_is_noticed_before_an_upload_begins(rclone_s3: S3Server, bucket: str) -> None:
    store = store_of(rclone_s3, bucket, secret_key=WRONG)
    with pytest.raises(CredentialsRefused), store.stage("a.enc") as staged:
        staged.write(bytes(12_000_000))


def test_missing_credentials_are_told_apart(
    rclone_s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store = store_of(rclone_s3, bucket, access_key=None, secret_key=None)
    with pytest.raises(CredentialsRefused, match="no access key"):
        store.check()


@each_operation
@pytest.mark.parametrize("kind", ["moto_s3", "rclone_s3"])
def test_an_unknown_bucket_is_named_with_the_remedy(
    kind: str, operation: Callable[[S3Store], object], request: pytest.FixtureRequest
) -> None:
    server: S3Server = request.getfixturevalue(kind)
    with pytest.raises(StoreRefused, match="no such bucket") as caught:
        operation(store_of(server, "no-such-bucket"))
    assert "aws s3 mb s3://no-such-bucket" in caught.value.remedy


@each_operation
def test_a_dead_endpoint_is_unreachable(rclone_s3: S3Server, operation: Callable[[S3Store], object]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    store = store_of(rclone_s3, "vault", endpoint_url=f"http://127.0.0.1:{port}")
    with pytest.raises(Unreachable, match=f"127.0.0.1:{port}") as caught:
        operation(store)
    assert caught.value.retryable


def test_an_object_in_cold_storage_says_how_to_thaw_it(moto_s3: S3Server) -> None:
    bucket = moto_s3.new_bucket()
    moto_s3.client().put_object(Bucket=bucket, Key="a.enc", Body=b"x", StorageClass="GLACIER")
    with pytest.raises(StoreRefused, match="cold storage") as caught:
        store_of(moto_s3, bucket).get("a.enc")
    assert "restore-object" in caught.value.remedy


def test_the_storage_class_is_for_data_and_not_for_manifests(moto_s3: S3Server) -> None:
    bucket = moto_s3.new_bucket()
    store = store_of(moto_s3, bucket, storage_class="STANDARD_IA")
    for key, warm, size in (("cold.enc", False, 10), ("cold-large.enc", False, 12_000_000), ("warm.enc", True, 10)):
        with store.stage(key, warm=warm) as staged:
            staged.write(bytes(size))
            staged.commit()
    store.put("m.json", b"{}")
    listed = moto_s3.client().list_objects_v2(Bucket=bucket)["Contents"]
    assert {item["Key"]: item["StorageClass"] for item in listed} == {
        "cold.enc": "STANDARD_IA",
        "cold-large.enc": "STANDARD_IA",
        "m.json": "STANDARD",
        "warm.enc": "STANDARD",
    }


def test_cold_data_that_cannot_be_proven_is_taken_back(moto_s3: S3Server) -> None:
    bucket = moto_s3.new_bucket()
    store = store_of(moto_s3, bucket, storage_class="GLACIER")
    with pytest.raises(StoreRefused, match="cold storage"), store.stage("a.enc") as staged:
        staged.write(bytes(12_000_000))
        staged.commit()
    assert Objects(moto_s3, bucket).keys() == []


def test_an_unknown_storage_class_is_refused_in_words(moto_s3: S3Server) -> None:
    store = store_of(moto_s3, moto_s3.new_bucket(), storage_class="LUKEWARM")
    with pytest.raises(StoreRefused, match="storage class"), store.stage("a.enc") as staged:
        staged.write(b"x")
        staged.commit()


@pytest.mark.soak
def test_a_file_of_any_size_passes_through_little_memory(rclone_s3: S3Server, bucket: str, outside: Objects) -> None:
    """A quarter of a gigabyte; all of one in a soak."""
    blocks = trials(256, 1024)
    script = """
        import os, sys
        from engine.config import ObjectStoreConfig
        from engine.stores import open_store
        store = open_store(ObjectStoreConfig.model_validate_json(sys.stdin.read()))
        store.put("first.json", b"{}")
        block = os.urandom(1 << 20)
        status = lambda: open("/proc/self/status").read().split()
        peak = lambda: int(status()[status().index("VmHWM:") + 1]) // 1024
        before = peak()
        with store.stage("gigabyte.enc") as staged:
            for _ in range(int(os.environ["BLOCKS"])):
                staged.write(block)
            staged.commit()
        print(peak() - before)
    """
    config = configured(rclone_s3, bucket).model_dump(mode="json")
    config |= {"access_key": rclone_s3.access_key, "secret_key": rclone_s3.secret_key}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        input=json.dumps(config),
        env={**os.environ, "BLOCKS": str(blocks)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 64, f"grew by {done.stdout} MiB"
    info = store_of(rclone_s3, bucket).stat("gigabyte.enc")
    assert info is not None
    assert info.size == blocks << 20
    outside.client.delete_object(Bucket=bucket, Key="gigabyte.enc")


def assert_no_secret(error: BackupError, server: S3Server) -> None:
    chain: BaseException | None = error
    while chain is not None:
        for secret in (WRONG, server.secret_key):
            assert secret not in str(chain)
        chain = chain.__cause__

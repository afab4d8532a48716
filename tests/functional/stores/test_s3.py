"""The S3 store on two real servers: moto (conditional writes, minimum part size) and rclone (signatures)."""

from __future__ import annotations

import pytest

from engine.config import ObjectStoreConfig
from engine.stores import S3Store
from engine.stores.multipart import MIB, growing
from engine.stores.s3_copy import CopySizes
from tests.functional.stores.suite import StoreSuite
from tests.servers.s3 import S3Server


def small_parts(number: int) -> int:
    """Parts that grow early: 5, 5, 15, 15, 25... MiB, the first as small as S3 allows."""
    return growing(number, base=5 * MIB, every=2)


def configured(server: S3Server, bucket: str, **fields: object) -> ObjectStoreConfig:
    values = {
        "name": "offsite",
        "bucket": bucket,
        "endpoint_url": server.endpoint,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
        **fields,
    }
    return ObjectStoreConfig.model_validate(values)


class Objects:
    """The objects of a bucket, seen with plain boto3."""

    def __init__(self, server: S3Server, bucket: str) -> None:
        self.client = server.client()
        self.bucket = bucket

    def keys(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def content(self, key: str) -> bytes:
        data: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return data

    def unfinished(self) -> list[str]:
        try:
            answer = self.client.list_multipart_uploads(Bucket=self.bucket)
        except self.client.exceptions.NoSuchUpload:  # rclone's way to say that there are none
            return []
        return [item["Key"] for item in answer.get("Uploads", [])]


class S3Suite(StoreSuite):
    """The shared promises, in a fresh bucket each, with small parts and pages so that both matter."""

    checksums = "auto"

    @pytest.fixture
    def server(self) -> S3Server:
        raise NotImplementedError

    @pytest.fixture
    def bucket(self, server: S3Server) -> str:
        return server.new_bucket()

    @pytest.fixture
    def store(self, server: S3Server, bucket: str) -> S3Store:
        config = configured(server, bucket, checksums=self.checksums)
        return S3Store(config, part_size=small_parts, page=7, copies=CopySizes(limit=6 * MIB, part=5 * MIB))

    @pytest.fixture
    def outside(self, server: S3Server, bucket: str) -> Objects:
        return Objects(server, bucket)

    def test_an_upload_in_progress_shows_as_unfinished_only(self, store: S3Store, outside: Objects) -> None:
        with store.stage("site/a.enc") as staged:
            staged.write(bytes(12_000_000))
            assert outside.unfinished() == ["site/a.enc"]
            assert outside.keys() == []

    def test_a_sweep_aborts_what_the_dead_left_and_no_stranger_s_upload(self, store: S3Store, outside: Objects) -> None:
        dead = store.stage("site/a.enc")
        dead.write(bytes(12_000_000))
        outside.client.create_multipart_upload(Bucket=outside.bucket, Key="holiday/film.mp4")
        assert store.sweep() == ["unfinished upload of site/a.enc"]
        assert outside.unfinished() == ["holiday/film.mp4"]
        assert store.sweep() == []
        dead.abort()


class TestMoto(S3Suite):
    @pytest.fixture
    def server(self, moto_s3: S3Server) -> S3Server:
        return moto_s3


@pytest.mark.sampled
class TestMotoWithSha256(TestMoto):
    """moto takes the checksum header, sends it back, and never compares it: no proof may rest on it."""

    checksums = "sha256"


class TestRclone(S3Suite):
    may_lack_copies = True  # it knows no copy of a part

    @pytest.fixture
    def server(self, rclone_s3: S3Server) -> S3Server:
        return rclone_s3


@pytest.mark.sampled
class TestRcloneWithSha256(TestRclone):
    checksums = "sha256"

"""A bucket with odd names on an S3 server, a site that backs it up, and what a bucket holds as plain facts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import backup
from engine.backup import BackupResult
from engine.config import SiteConfig
from engine.site import Site, Target
from tests.functional.vault_helpers import PASSPHRASE, replica
from tests.servers.s3 import S3Server

SOURCE = "media"
LARGE = bytes(range(256)) * 24_000
"""About 6 MB: above the limits that the tests set."""
OBJECTS: dict[str, bytes] = {
    "plain.txt": b"plain\n",
    "same as plain.txt": b"plain\n",
    "folder/": b"",
    "empty": b"",
    "a//b": b"two slashes",
    "/leading": b"leading slash",
    "trailing/slash/": b"trailing slash",
    "ünïcode/日本/🙂.txt": "ünïcode".encode(),
    "100% & more?#+=;'\"\\.txt": b"punctuation",
    " spaces ": b"spaces",
    "a\ttab": b"a control character",
    "large.bin": LARGE,
}


def source(server: S3Server, *buckets: str, **more: Any) -> dict[str, Any]:
    """The section of a site file."""
    given = {
        "name": SOURCE, "endpoint_url": server.endpoint, "access_key": server.access_key,
        "secret_key": server.secret_key, "buckets": list(buckets), "threads": 4,
    }  # fmt: skip
    return {**given, **more}


def put(server: S3Server, bucket: str, objects: dict[str, bytes]) -> None:
    """Objects with content type, headers, user metadata and tags of their own."""
    for number, (key, body) in enumerate(objects.items()):
        server.client().put_object(
            Bucket=bucket, Key=key, Body=body, ContentType=f"text/x-kind{number}", CacheControl="max-age=60",
            ContentDisposition="inline", Metadata={"number": str(number), "owner": "somebody"},
            Tagging=f"number={number}&colour=deep+blue",
        )  # fmt: skip


def holds(server: S3Server, bucket: str) -> dict[str, tuple[Any, ...]]:
    """Everything of every object: content, type, headers, metadata, tags."""
    client = server.client()
    found = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            got = client.get_object(Bucket=bucket, Key=item["Key"])
            tags = client.get_object_tagging(Bucket=bucket, Key=item["Key"])["TagSet"]
            found[item["Key"]] = (
                got["Body"].read(), got["ContentType"], got.get("CacheControl"), got.get("ContentDisposition"),
                got["Metadata"], sorted((each["Key"], each["Value"]) for each in tags),
            )  # fmt: skip
    return found


@dataclass
class Machine:
    """One bucket and the site that backs it up."""

    server: S3Server
    bucket: str
    config: SiteConfig
    site: Site

    @property
    def target(self) -> Target:
        return Target(SOURCE, self.bucket)

    def back_up(self, tier: str = "daily") -> BackupResult:
        """One verified snapshot."""
        return backup.backup_one(self.site, self.target, tier=tier)

    def contents(self, location: str = "local") -> set[str]:
        """Names of the stored contents there."""
        return {each.name for each in self.site.vault.contents(location, SOURCE, self.bucket).listing()}

    def file_of(self, name: str) -> Path:
        """The local file of a content."""
        contents = self.site.vault.contents("local", SOURCE, self.bucket)
        return self.site.vault.root / contents.key(name)


@contextmanager
def machine(server: S3Server, root: Path, *replicas: S3Server, **more: Any) -> Iterator[Machine]:
    """A new, empty bucket, a vault, and a replica in a new bucket of each further server."""
    bucket = server.new_bucket("media")
    config = SiteConfig.model_validate({
        "site": "shop",
        "vault": {
            "root": str(root),
            "keys": {"current": "main", "keys": {"main": PASSPHRASE}},
            "replicas": [replica(each, f"copy{number}") for number, each in enumerate(replicas)],
        },
        "buckets": source(server, bucket, **more),
    })  # fmt: skip
    with Site(config) as site:
        yield Machine(server, bucket, config, site)

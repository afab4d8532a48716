"""A vault with every kind of content and a replica, ways to damage it, and what it was before, as plain digests."""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from engine import backup, names, sealed
from engine.catalog import Entry
from engine.codec import KeyRing
from engine.config import SiteConfig
from engine.logs import CONTENTS, KIND, LogFile
from engine.manifest import LogPosition, Server, open_signed, sign
from engine.signed import seal
from engine.site import Site, Target
from engine.source import Facts
from engine.stores import LocalStore
from engine.vault import Vault
from tests.functional.bucket_machine import SOURCE, source
from tests.functional.test_archives import dump as dumped
from tests.functional.vault_helpers import PASSPHRASE, replica
from tests.servers.s3 import S3Server

NOW = names.now().replace(microsecond=0)
LATER = NOW + timedelta(days=2)
"""When it is verified: nothing is so young that it may be on its way in."""
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
OLD_KEY = "fake-older-passphrase-" + "y" * 20
SERVER = Server(flavour="mysql", version="9.7", uuid="uuid")
COPY = "copy0"


def vault_site(root: Path, server: S3Server, *buckets: str, **vault: Any) -> SiteConfig:
    """MySQL, volumes, config files and buckets; a replica on that server."""
    given = {
        "root": str(root),
        "keys": {"current": "main", "keys": {"main": PASSPHRASE, "old": OLD_KEY}},
        "replicas": [replica(server, COPY)],
        "retention": {"daily": "60d"},
        **vault,
    }
    document: dict[str, Any] = {"site": "shop", "vault": given, "mysql": {"databases": ["app"]}}
    if buckets:
        document["buckets"] = source(server, *buckets)
    return SiteConfig.model_validate(document)


def dump(vault: Vault, age: timedelta, tier: str = "daily") -> Entry:
    """A dump of that age with a companion, verified."""
    at = NOW - age
    point = f"{at:{names.STAMP}}-point"
    facts = Facts(
        server=SERVER, rows={"t": 50}, log=LogPosition(binlog_file="mysql-bin.000001", binlog_position=4),
        contents={"snapshot_at": names.iso(at)},
    )  # fmt: skip
    with vault._begin("mysql", "mysql", tier, "app", "sql.gz.enc", at, "", point) as writer:
        writer.data().write(dumped(50, noise=int(at.timestamp()) % 1000 + 100))
        writer.companion("accounts").write(b"CREATE USER app;\n")
        entry, manifest = writer.publish(facts)
    vault.mark(entry, "verified", sha256=manifest.data.sha256)
    return entry


def log(vault: Vault, number: int, shipped: Any) -> Entry:
    """A log of the hour before it was shipped."""
    facts = LogFile(
        name=f"mysql-bin.{number:06}", number=number, chain="uuid", end=1000, created_at=shipped - HOUR,
        covers_until=shipped, last_commit=shipped - timedelta(minutes=1), transactions=1,
    )  # fmt: skip
    with vault._begin("mysql", KIND["binlogs"], "binlogs", facts.name, "gz.enc", shipped, "", "", "binlogs") as writer:
        writer.data().write(b"\xfebin" + b"x" * 60)
        told = {CONTENTS: facts.model_dump(mode="json")}
        entry, manifest = writer.publish(Facts(server=SERVER, dump_format="binlog", contents=told))
    vault.mark(entry, "verified", sha256=manifest.data.sha256)
    return entry


class Place(Protocol):
    """One place as plain files: the vault's own code is not asked."""

    name: str

    def listed(self) -> list[str]: ...
    def read(self, key: str) -> bytes: ...
    def write(self, key: str, data: bytes) -> None: ...
    def delete(self, key: str) -> None: ...


@dataclass
class Folder:
    """A local root."""

    root: Path
    name: str = "local"

    def listed(self) -> list[str]:
        found = (path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())
        return sorted(key for key in found if not key.startswith("."))

    def read(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def write(self, key: str, data: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(data)

    def delete(self, key: str) -> None:
        (self.root / key).unlink()


@dataclass
class Bucket:
    """A bucket."""

    server: S3Server
    bucket: str
    name: str = COPY

    def __post_init__(self) -> None:
        self._client = self.server.client()

    def listed(self) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        found = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return sorted(key for key in found if not key.startswith("."))

    def read(self, key: str) -> bytes:
        return bytes(self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def write(self, key: str, data: bytes) -> None:
        self._client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def delete(self, key: str) -> None:
        self._client.delete_object(Bucket=self.bucket, Key=key)


def digests(place: Place) -> dict[str, str]:
    """Of every file but marks, which are added to, and of what was moved away."""
    kept = (key for key in place.listed() if not ({"marks", "set-aside"} & set(key.split("/"))))
    return {key: hashlib.sha256(place.read(key)).hexdigest() for key in kept}


@dataclass
class Built:
    """The whole thing."""

    site: Site
    local: Folder
    copy: Bucket
    client: Any
    bucket: str

    @property
    def vault(self) -> Vault:
        return self.site.vault


@contextmanager
def built(root: Path, server: S3Server, *, dumps: int, logs: int, objects: int) -> Iterator[Built]:
    """Dumps of as many days, logs of as many hours, two snapshots of a bucket, documents; all copied."""
    bucket = server.new_bucket("media")
    client = server.client()
    config = vault_site(root, server, bucket)
    with Site(config) as site:
        vault = site.vault
        for number in range(dumps):
            dump(vault, timedelta(hours=20 * number + 1))
        for number in range(1, logs + 1):
            log(vault, number, NOW - (logs - number) * HOUR)
        for number in range(objects):
            client.put_object(Bucket=bucket, Key=f"object {number}", Body=f"body {number} ".encode() * 40)
        backup.backup_one(site, Target(SOURCE, bucket), tier="daily")
        client.put_object(Bucket=bucket, Key="one more", Body=b"more")
        backup.backup_one(site, Target(SOURCE, bucket), tier="daily")
        records: dict[str, bytes] = {}
        for hours in (1, 30, 60):
            point = f"{NOW - hours * HOUR:{names.STAMP}}-0000000{hours % 10}"
            sealed.seal_site(vault, "site: shop\n", point)
            record = {"type": "drill", "format": 1, "site": "shop", "id": point, "finished_at": names.iso(NOW)}
            records[f"shop/drills/shop-{point}.json"] = seal({**record, "sources": []}, vault.keys, "main")
        copy = config.vault.replicas[0].bucket
        with _written_to_its_disk(vault, server, copy):
            for place in vault.locations():
                for key, data in records.items():
                    vault.store(place).put(key, data)
            sealed.copy_sealed(vault, COPY)
            for entry in vault.lacking(COPY):
                vault.replicate(entry, COPY)
        yield Built(site, Folder(root), Bucket(server, copy), client, bucket)


@contextmanager
def _written_to_its_disk(vault: Vault, server: S3Server, bucket: str) -> Iterator[None]:
    """What goes to the replica is written into the directory that its server serves: many requests are spared."""
    assert server.root is not None
    store = LocalStore(server.root / bucket, vault.state / "of-the-copy")
    store.name = COPY
    vault._stores[COPY], served = store, vault.store(COPY)
    try:
        yield
    finally:
        vault._stores[COPY] = served
        vault._catalogs.pop(COPY, None)
    written, until = [info.key for info in store.list()], time.monotonic() + 60
    while [info.key for info in served.list()] != written:
        assert time.monotonic() < until, "the server does not see what was written to its disk"
        time.sleep(0.2)


@dataclass
class Damage:
    """One damage: how it is called, where, and the keys of which at least one must be named."""

    how: str
    place: str
    keys: list[list[str]]

    def missing(self, named: set[tuple[str, str]]) -> list[list[str]]:
        """Of what was damaged, what nobody named."""
        return [any_of for any_of in self.keys if not any((self.place, key) in named for key in any_of)]


@dataclass
class Vandal:
    """Does damage at random, each to something that was whole."""

    built: Built
    lots: random.Random
    done: list[Damage] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._files = self._shuffled(lambda key: self._of_backup(key) and "/binlogs/" not in key)
        self._logs = self._shuffled(lambda key: self._of_backup(key) and "/binlogs/" in key)
        self._contents = self._shuffled(lambda key: "/contents/" in key and key.endswith(".enc"))
        self._documents = self._shuffled(lambda key: "/site-file/" in key or "/drills/" in key)
        self._planted = 0
        self._removed: set[str] = set()

    def _of_backup(self, key: str) -> bool:
        aside = {"marks", "contents", "site-file", "drills"}
        return key.endswith(".enc") and key + ".json" in self._all and not aside & set(key.split("/"))

    def _shuffled(self, wanted: Callable[[str], bool]) -> list[str]:
        """Keys of the local root; the replica has the same. The newest log of all is spared: nobody can know of it."""
        self._all = set(self.built.local.listed())
        found = [key for key in sorted(self._all) if wanted(key)]
        self.lots.shuffle(found)
        return found

    def damage(self, count: int) -> None:
        """So many damages, of every sort in turn."""
        sorts = [*self._on_files(), *self._on_logs(), *self._on_contents(), *self._on_documents()]
        while len(self.done) < count:
            sort = sorts[len(self.done) % len(sorts)] if len(self.done) < len(sorts) else self.lots.choice(sorts)
            how, work = sort
            place: Place = self.lots.choice([self.built.local, self.built.local, self.built.copy])
            keys = work(place)
            if keys is not None:
                self.done.append(Damage(how, place.name, keys))

    def _on_files(self) -> list[tuple[str, Callable[[Place], list[list[str]] | None]]]:
        def one(work: Callable[[Place, str], list[list[str]]]) -> Callable[[Place], list[list[str]] | None]:
            return lambda place: work(place, self._files.pop()) if self._files else None

        def two(suffix: str) -> Callable[[Place], list[list[str]] | None]:
            return lambda place: self._swap(place, self._files, suffix)

        return [
            ("a bit of the data", one(lambda place, key: self._flip(place, key, key))),
            ("the data is cut", one(lambda place, key: self._cut(place, key, key))),
            ("the data is gone", one(lambda place, key: self._gone(place, key, key))),
            ("a companion is gone", one(lambda place, key: self._gone(place, key, _companion(key)))),
            ("a bit of a companion", one(lambda place, key: self._flip(place, key, _companion(key)))),
            ("the manifest is dropped", one(lambda place, key: self._gone(place, key, key + ".json"))),
            ("a bit of the manifest", one(lambda place, key: self._flip(place, key, key + ".json"))),
            ("the manifest is cut", one(lambda place, key: self._cut(place, key, key + ".json"))),
            ("a forged manifest", one(self._forged)),
            ("a manifest of another key", one(self._of_another_key)),
            ("a stale manifest", one(self._stale)),
            ("two files are swapped", two("")),
            ("two manifests are swapped", two(".json")),
            ("half deleted", one(lambda place, key: self._gone(place, key, key, _companion(key)))),
            ("all of it is gone here", lambda place: self._wholly(place) if place.name == "local" else None),
            ("all of it is gone there", lambda place: self._wholly(place) if place.name == COPY else None),
            ("only marks are left", one(lambda place, key: self._gone(place, key, *_files(key)))),
            ("a bit of a mark", one(self._mark)),
            ("an orphan", lambda place: self._orphan(place, "app_20240101_0{:05}.sql.gz.enc")),
            ("a manifest of nothing", lambda place: self._orphan(place, "app_20240102_0{:05}.sql.gz.enc.json")),
        ]  # fmt: skip

    def _on_logs(self) -> list[tuple[str, Callable[[Place], list[list[str]] | None]]]:
        def one(work: Callable[[Place, str], list[list[str]]]) -> Callable[[Place], list[list[str]] | None]:
            return lambda place: work(place, self._logs.pop()) if self._logs else None

        def with_marks(place: Place, key: str) -> list[list[str]]:
            if place.name == "local" and key == max([*self._logs, key]):
                return self._flip(place, key, key)
            marks = [each for each in place.listed() if each.startswith(_marks(key))]
            return self._gone(place, key, key, key + ".json", *marks)

        return [
            ("a bit of a log", one(lambda place, key: self._flip(place, key, key))),
            ("a log is gone", one(with_marks)),
            ("the manifest of a log is dropped", one(lambda place, key: self._gone(place, key, key + ".json"))),
        ]

    def _on_contents(self) -> list[tuple[str, Callable[[Place], list[list[str]] | None]]]:
        def one(work: Callable[[Place, str], list[list[str]]]) -> Callable[[Place], list[list[str]] | None]:
            return lambda place: work(place, self._contents.pop()) if self._contents else None

        return [
            ("a bit of a content", one(lambda place, key: self._flip(place, key, key))),
            ("a content is cut", one(lambda place, key: self._cut(place, key, key))),
            ("a content is gone", one(lambda place, key: self._gone(place, key, key))),
            ("two contents are swapped", lambda place: self._swap(place, self._contents, "")),
        ]

    def _on_documents(self) -> list[tuple[str, Callable[[Place], list[list[str]] | None]]]:
        def one(work: Callable[[Place, str], list[list[str]]]) -> Callable[[Place], list[list[str]] | None]:
            return lambda place: work(place, self._documents.pop()) if self._documents else None

        return [("a bit of a document", one(lambda place, key: self._flip(place, key, key)))]

    def _flip(self, place: Place, about: str, key: str) -> list[list[str]]:
        data = bytearray(place.read(key))
        data[self.lots.randrange(len(data))] ^= 1 << self.lots.randrange(8)
        place.write(key, bytes(data))
        return [[about]]

    def _wholly(self, place: Place) -> list[list[str]] | None:
        """With its marks. Of the local root not the oldest of a series: nobody can know of it."""
        found = [each for each in self._files if place.name != "local" or self._is_newer_than_another(each)]
        if not found:
            return None
        key = found[-1]
        self._files.remove(key)
        self._removed.add(key)
        marks = [each for each in place.listed() if each.startswith(_marks(key))]
        return self._gone(place, key, *_files(key), *marks)

    def _is_newer_than_another(self, key: str) -> bool:
        series = key.rpartition("_")[0].rpartition("_")[0]
        others = (each for each in self._all - self._removed if each.startswith(f"{series}_") and self._of_backup(each))
        return any(each < key for each in others)

    def _cut(self, place: Place, about: str, key: str) -> list[list[str]]:
        data = place.read(key)
        place.write(key, data[: self.lots.randrange(len(data) - 2)])
        return [[about]]

    def _gone(self, place: Place, about: str, *keys: str) -> list[list[str]]:
        for key in keys:
            place.delete(key)
        return [[about]]

    def _swap(self, place: Place, among: list[str], suffix: str) -> list[list[str]] | None:
        if len(among) < 2:
            return None
        one, other = among.pop(), among.pop()
        first, second = place.read(one + suffix), place.read(other + suffix)
        place.write(one + suffix, second)
        place.write(other + suffix, first)
        return [[one], [other]]

    def _forged(self, place: Place, key: str) -> list[list[str]]:
        told = json.loads(place.read(key + ".json"))
        told["label"] = "as good as new"
        place.write(key + ".json", json.dumps(told).encode())
        return [[key]]

    def _of_another_key(self, place: Place, key: str) -> list[list[str]]:
        told = json.loads(place.read(key + ".json"))
        told.pop("signature")
        forger = KeyRing({"main": "fake-key-of-a-forger-" + "z" * 20}, "main")
        place.write(key + ".json", seal(told, forger, "main"))
        return [[key]]

    def _stale(self, place: Place, key: str) -> list[list[str]]:
        keys = self.built.vault.keys
        manifest = open_signed(place.read(key + ".json"), keys, file=key.rsplit("/", 1)[-1])
        older = manifest.data.model_copy(update={"sha256": hashlib.sha256(key.encode()).hexdigest()})
        stale = manifest.model_copy(update={"files": [older, *manifest.files[1:]], "label": "stale"})
        place.write(key + ".json", sign(stale, keys))
        return [[key]]

    def _mark(self, place: Place, key: str) -> list[list[str]]:
        mark = next(each for each in place.listed() if each.startswith(_marks(key)))
        self._flip(place, mark, mark)
        return [[mark]]

    def _orphan(self, place: Place, form: str) -> list[list[str]]:
        self._planted += 1
        key = f"shop/mysql/daily/{form.format(self._planted)}"
        place.write(key, self.lots.randbytes(300))
        if isinstance(place, Folder):
            os.utime(place.root / key, (0, 0))
        return [[key.removesuffix(".json")]]


def _companion(key: str) -> str:
    return key.replace(".sql.gz.enc", ".accounts.sql.gz.enc") if ".sql." in key else key + ".json"


def _files(key: str) -> set[str]:
    return {key, _companion(key), key + ".json"}


def _marks(key: str) -> str:
    return f"shop/marks/{key.removeprefix('shop/')}."

"""What the tests of the vault share: a site on a temporary root, a backup in it, a reader of its dump."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from engine.catalog import Entry
from engine.config import SiteConfig
from engine.errors import IntegrityError
from engine.manifest import LogPosition, Manifest, Server
from engine.source import Facts
from engine.vault import Vault
from tests.servers.s3 import S3Server

PASSPHRASE = "fake-passphrase-for-tests-" + "x" * 20
DUMP = b"".join(b"INSERT INTO t VALUES (%d,'name %d');\n" % (n, n * 7919 % 1000) for n in range(30_000))
END = b"-- Dump completed\n"
FACTS = Facts(
    server=Server(flavour="mariadb", version="10.11.6"),
    rows={"t": 30_000},
    log=LogPosition(binlog_file="bin.000001", binlog_position=4),
    warnings=["one"],
)


def site(
    root: Path, *replicas: S3Server, keys: dict[str, str] | None = None, current: str = "main", **vault: Any
) -> SiteConfig:
    """A site with one MySQL source and a replica in a new bucket of each server."""
    given = {
        "root": str(root),
        "keys": {"current": current, "keys": keys or {"main": PASSPHRASE}},
        "replicas": [replica(server, f"copy{number}") for number, server in enumerate(replicas)],
        **vault,
    }
    return SiteConfig.model_validate({"site": "shop", "vault": given, "mysql": {"databases": ["app"]}})


def replica(server: S3Server, name: str) -> dict[str, Any]:
    """Configuration of a replica in a new bucket."""
    return {
        "name": name,
        "bucket": server.new_bucket(),
        "endpoint_url": server.endpoint,
        "region": server.region,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
        "addressing": "path",
    }


def make(
    vault: Vault, dump: bytes = DUMP + END, *, tier: str = "daily", database: str = "app", facts: Facts = FACTS
) -> tuple[Entry, Manifest]:
    """One backup with a companion."""
    with vault.begin(source="mysql", kind="mysql", tier=tier, database=database, ext="sql") as writer:
        writer.data().write(dump)
        writer.companion("accounts").write(b"CREATE USER app;\n")
        return writer.publish(facts)


def inspect(manifest: Manifest, chunks: Iterable[bytes]) -> dict[str, int]:
    """As a source reads its dump: the end marker seen, and the rows those of the manifest."""
    dump = b"".join(chunks)
    if not dump.endswith(END):
        raise IntegrityError(f"{manifest.file}: the end marker is missing.")
    found = {"t": dump.count(b"INSERT")}
    if found != manifest.rows:
        raise IntegrityError(f"{manifest.file}: t has {found['t']} rows, its manifest says {manifest.rows['t']}.")
    return found


def files(root: Path) -> list[str]:
    """Every file below a root, but lock files, which stay."""
    found = (os.path.relpath(os.path.join(folder, name), root) for folder, _, names in os.walk(root) for name in names)
    return sorted(name for name in found if not name.endswith(".lock"))


def flip(path: Path, at: int) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))

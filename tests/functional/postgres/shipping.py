"""What the tests of WAL shipping and base backups share: a site on a real server, segments read back."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deployments import embedded
from engine import logs, names
from engine.catalog import Entry
from engine.config import SiteConfig
from engine.site import Site
from tests.functional.vault_helpers import PASSPHRASE
from tests.servers.databases import DatabaseServer


def site_config(root: Path, server: DatabaseServer, name: str = "workbench", **options: Any) -> SiteConfig:
    """A site whose only source is this server, by container where it is in one."""
    values: dict[str, Any] = {"user": server.user, "password": server.password}
    if server.container:
        values |= {"service": server.service, "project": server.project, "docker_host": server.docker_host}
    else:
        values |= {"host": server.host, "port": server.port}
    vault = {"root": str(root), "keys": {"current": "main", "keys": {"main": PASSPHRASE}}}
    return SiteConfig.model_validate({"site": name, "vault": vault, "postgres": values | options})


@contextmanager
def site_on(root: Path, server: DatabaseServer, name: str = "workbench", **options: Any) -> Iterator[Site]:
    with Site(site_config(root, server, name, **options)) as one:
        try:
            yield one
        finally:
            drop_slots(server)


def drop_slots(server: DatabaseServer) -> None:
    server.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active")


def ledger(site: Site) -> list[Entry]:
    return logs.ledger(site.vault, "postgres", names.WAL)


def segment_names(site: Site) -> list[str]:
    return [entry.name.name for entry in ledger(site) if not entry.name.name.endswith(".history")]


def content(site: Site, entry: Entry, role: str = "data") -> bytes:
    manifest = site.vault.catalog().load(entry)
    return b"".join(site.vault.read_part(entry, manifest, role))


def on_server(server: DatabaseServer, name: str) -> bytes:
    """A file of the server's own pg_wal, as its disk has it."""
    if server.data_directory:
        return (server.data_directory / "pg_wal" / name).read_bytes()
    path = f"/var/lib/postgresql/data/pg_wal/{name}"
    argv = ["docker", "--host", server.docker_host, "exec", server.container, "cat", path]
    return subprocess.run(argv, check=True, capture_output=True).stdout


def equal_to_the_server(site: Site, server: DatabaseServer) -> int:
    """Every shipped segment that the server still has is the same there; how many those are."""
    count = 0
    for entry in ledger(site):
        try:
            theirs = on_server(server, entry.name.name)
        except (FileNotFoundError, subprocess.CalledProcessError):
            continue
        assert hashlib.sha256(content(site, entry)).digest() == hashlib.sha256(theirs).digest(), entry.file
        count += 1
    return count


def program(name: str) -> str:
    return shutil.which(name) or str(embedded.postgres_programs() / name)


def restart_lsn(server: DatabaseServer) -> str | None:
    return server.sql("SELECT restart_lsn FROM pg_replication_slots WHERE slot_name LIKE 'backup_flows%'")[0][0]

"""What the tests of point-in-time recovery share: bases by stock pg_basebackup, logs copied, and the truth."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from engine.config import PostgresConfig
from engine.scratch.postgres_files import BaseBackup, WalFile
from tests.servers.databases import DatabaseServer


def config_of(server: DatabaseServer) -> PostgresConfig:
    """As a site would name the server."""
    values: dict[str, object] = {"user": server.user, "password": server.password}
    if server.container:
        values |= {"service": server.service, "project": server.project, "docker_host": server.docker_host}
    else:
        values |= {"host": server.host, "port": server.port}
    return PostgresConfig.model_validate(values)


def inside(server: DatabaseServer, *argv: str) -> bytes:
    """What a program inside the server's container prints."""
    command = ["docker", "--host", server.docker_host, "exec", server.container, *argv]
    return subprocess.run(command, check=True, capture_output=True).stdout


def take_base(server: DatabaseServer, directory: Path) -> BaseBackup:
    """A base backup by the stock program, as tar files with the log they need."""
    options = ["-Ft", "-X", "fetch", "-c", "fast", "-U", server.user]
    if server.container:
        inside(server, "rm", "-rf", "/tmp/base")
        inside(server, "pg_basebackup", "-D", "/tmp/base", *options)
        with tarfile.open(fileobj=io.BytesIO(inside(server, "tar", "-C", "/tmp/base", "-cf", "-", "."))) as tar:
            tar.extractall(directory)
    else:
        where = ["-h", server.host, "-p", str(server.port), "-D", str(directory)]
        environment = {"PGPASSWORD": server.password, "PATH": "/usr/bin:/bin"}
        subprocess.run(["pg_basebackup", *where, *options], check=True, capture_output=True, env=environment)
    tars = {path.stem: path for path in directory.glob("*.tar")}
    data = tars.pop("base")
    return BaseBackup(
        major=int(server.version.partition(".")[0]),
        data=lambda: chunks(data),
        tablespaces={oid: lambda path=path: chunks(path) for oid, path in tars.items()},  # type: ignore[misc]
        bytes=sum(path.stat().st_size for path in (data, *tars.values())),
    )


def chunks(path: Path, size: int = 300_000) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(size):
            yield data


def switch(server: DatabaseServer) -> None:
    """Complete the segment that is being written."""
    server.sql("SELECT pg_switch_wal()")


def copy_wal(server: DatabaseServer, directory: Path) -> list[WalFile]:
    """Every complete segment, and every timeline history, that the server has."""
    switch(server)
    current = str(server.sql("SELECT pg_walfile_name(pg_current_wal_lsn() + 1)")[0][0])
    directory.mkdir(exist_ok=True)
    if server.container:
        data = inside(server, "sh", "-c", "cd $PGDATA/pg_wal && tar -cf - 0*")
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            tar.extractall(directory)
    else:
        assert server.data_directory is not None
        for path in (server.data_directory / "pg_wal").glob("0*"):
            (directory / path.name).write_bytes(path.read_bytes())
    return wal_in(directory, current)


def wal_in(directory: Path, before: str = "G") -> list[WalFile]:
    names = [path.name for path in directory.iterdir() if path.name < before and "." not in path.name]
    return [WalFile(name, lambda path=directory / name: chunks(path)) for name in sorted(names)]  # type: ignore[misc]


@dataclass(frozen=True)
class Commit:
    number: int
    at: datetime


def truth(server: DatabaseServer, database: str) -> list[Commit]:
    """Each row of the load, and when the server says that it was committed."""
    with server.connect(database) as connection:
        connection.execute("SET timezone = 'UTC'")
        rows = connection.execute("SELECT n, pg_xact_commit_timestamp(xmin) FROM load ORDER BY n").fetchall()
    return [Commit(number, at) for number, at in rows]


def by(commits: Sequence[Commit], moment: datetime) -> list[int]:
    """What was committed by that moment."""
    return [each.number for each in commits if each.at <= moment]

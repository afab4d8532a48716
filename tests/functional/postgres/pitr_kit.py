"""What the tests of point-in-time recovery share: bases by stock pg_basebackup, logs copied, and the truth."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from deployments import embedded
from deployments.embedded import free_port
from engine.config import PostgresConfig, SiteConfig
from engine.scratch.postgres_files import BaseBackup, WalFile
from engine.site import Site
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
    return base_in(directory, int(server.version.partition(".")[0]))


def base_in(directory: Path, major: int) -> BaseBackup:
    """The tars in a directory."""
    tars = {path.stem: path for path in directory.glob("*.tar")}
    data = tars.pop("base")
    return BaseBackup(
        major=major,
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
    for path in directory.iterdir():
        if path.name >= current:
            path.unlink()  # being written, or kept for later use
    return wal_in(directory)


def wal_in(directory: Path) -> list[WalFile]:
    """The files of the log in a directory."""
    names = [path.name for path in directory.iterdir()]
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


@contextlib.contextmanager
def opened(config: PostgresConfig, database: str) -> Iterator[psycopg.Connection[Any]]:
    """A session by the driver alone, on a recovered cluster."""
    with psycopg.connect(host=config.host, port=config.port, user=config.user, dbname=database) as connection:
        yield connection


def site_of(config: PostgresConfig, root: Path) -> Site:
    """A site with that one source."""
    vault = {"root": str(root), "keys": {"current": "main", "keys": {"main": "fake-passphrase-of-tests-" + "x" * 20}}}
    fields = config.model_dump(exclude_unset=True) | {"password": config.password}
    return Site(SiteConfig.model_validate({"site": "past", "vault": vault, "postgres": fields}))


def same_owner(path: Path, model: Path) -> None:
    """Give a directory the owner of another."""
    owner = model.stat()
    os.chown(path, owner.st_uid, owner.st_gid)


@contextlib.contextmanager
def running(data: Path, database: str) -> Iterator[psycopg.Connection[Any]]:
    """Start a cluster with its own settings alone, as its owner; a session in it."""
    owner, port, log = data.stat(), free_port(), data.parent / "log"
    programs = embedded.postgres_programs()
    as_owner: dict[str, Any] = {"cwd": "/", "stdin": subprocess.DEVNULL}
    if os.geteuid() == 0:
        as_owner |= {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    argv = [str(programs / "postgres"), "-D", str(data), "-p", str(port), "-k", str(data)]
    with log.open("wb") as out, subprocess.Popen(argv, stdout=out, stderr=out, **as_owner) as process:
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    connection = psycopg.connect(host=str(data), port=port, user="postgres", dbname=database)
                    break
                except psycopg.OperationalError as error:
                    assert process.poll() is None and time.monotonic() < deadline, f"{error}\n{log.read_text()}"
                    time.sleep(0.1)
            with connection:
                yield connection
        finally:
            process.send_signal(signal.SIGINT)


def serving(directory: Path) -> list[int]:
    """Processes of this host that work below a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if str((entry / "cwd").readlink()).startswith(str(directory)):
                    found.append(int(entry.name))
    return found


def wal_of_timeline(data: Path, timeline: int, directory: Path) -> list[WalFile]:
    """The complete segments and the history of a timeline, copied from a data directory."""
    directory.mkdir()
    found = sorted(path for path in (data / "pg_wal").glob(f"{timeline:08X}*") if path.is_file())
    segments = [path for path in found if "." not in path.name]
    for path in found:
        if path not in segments or path == segments[0]:
            (directory / path.name).write_bytes(path.read_bytes())
    return wal_in(directory)

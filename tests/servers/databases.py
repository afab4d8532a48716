"""A database server the tests may talk to, by ways that share no code with what they test."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import re
import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import psycopg
import pymysql

Flavour = Literal["mariadb", "mysql", "postgres"]
Row = tuple[str | None, ...]

# psql prints this for NULL: no test stores it.
_NULL = "\u241enull\u241e"


class SqlError(AssertionError):
    """A stock client refused a statement; its own words are the message."""


class Control(Protocol):
    """What starts and stops a server."""

    def start(self) -> object: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...


@dataclass(frozen=True)
class DatabaseServer:
    """A running server; see the package's docstring for each field.

    ``control`` starts and stops it; tests use the methods.
    """

    flavour: Flavour
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    control: Control = field(repr=False)
    socket: Path | None = None
    data_directory: Path | None = None
    container: str = ""
    project: str = ""
    service: str = ""
    docker_host: str = ""

    @property
    def version(self) -> str:
        """As the server says, without what its packager adds: ``10.11.14``."""
        statement = "SHOW server_version" if self.flavour == "postgres" else "SELECT VERSION()"
        found = re.match(r"[\d.]+", self.sql(statement)[0][0] or "")
        assert found, f"no version in what {statement} answered"
        return found[0]

    @property
    def pid(self) -> int:
        """Process id on this host; 0 for a server in a container, or one that does not run."""
        return int(getattr(self.control, "pid", 0))

    def sql(self, text: str, database: str | None = None) -> list[Row]:
        """Run statements with a stock client, as the superuser, and give back all rows as text.

        Raises:
            SqlError: The client ended with an error.
        """
        done = subprocess.run(
            self.client_command(database),
            input=text.encode(),
            capture_output=True,
            env={**os.environ, "MYSQL_PWD": self.password, "PGPASSWORD": self.password, "PGOPTIONS": ""},
        )
        if done.returncode != 0:
            raise SqlError(f"{self.flavour}: {done.stderr.decode(errors='replace').strip()}")
        output = done.stdout.decode("utf-8", "surrogateescape")
        return _psql_rows(output) if self.flavour == "postgres" else _mysql_rows(output)

    def client_command(self, database: str | None = None) -> list[str]:
        """The stock client's command line; it reads SQL from its standard input."""
        if self.flavour == "postgres":
            where = [] if self.container else [f"--host={self.host}", f"--port={self.port}"]
            output = ["-X", "-q", "-t", "--csv", "-v", "ON_ERROR_STOP=1", "-P", f"null={_NULL}", "-f", "-"]
            argv = ["psql", *where, f"--username={self.user}", f"--dbname={database or 'postgres'}", *output]
        else:
            where = [] if self.container else [f"--host={self.host}", f"--port={self.port}", "--protocol=TCP"]
            options = ["--batch", "--skip-column-names", "--default-character-set=utf8mb4", "--binary-mode"]
            argv = [self.flavour, "--no-defaults", *where, f"--user={self.user}", *options]
            argv += ["--", database] if database else []
        return [*self._inside(), *argv]

    def _inside(self) -> list[str]:
        if not self.container:
            return []
        secrets_by_name = ["-e", "MYSQL_PWD", "-e", "PGPASSWORD"]
        return ["docker", "--host", self.docker_host, "exec", "-i", *secrets_by_name, self.container]

    def connect(self, database: str | None = None, **options: Any) -> Any:
        """A driver's connection over TCP, as the superuser, in autocommit."""
        address = {"host": self.host, "port": self.port, "user": self.user, "password": self.password}
        if self.flavour == "postgres":
            return psycopg.connect(dbname=database or "postgres", autocommit=True, **address, **options)
        return pymysql.connect(database=database, autocommit=True, charset="utf8mb4", **address, **options)

    @contextlib.contextmanager
    def database(self, prefix: str = "t") -> Iterator[str]:
        """A new empty database; dropped afterwards, whoever is still connected to it."""
        name = f"{prefix}_{secrets.token_hex(4)}"
        quote = '"' if self.flavour == "postgres" else "`"
        self.sql(f"CREATE DATABASE {quote}{name}{quote}")
        try:
            yield name
        finally:
            force = " WITH (FORCE)" if self.flavour == "postgres" else ""
            self.sql(f"DROP DATABASE IF EXISTS {quote}{name}{quote}{force}")

    def start(self) -> None:
        """Start it again, on the same data, and wait until it answers."""
        self.control.start()
        self.wait_until_ready()

    def stop(self) -> None:
        """Shut it down cleanly."""
        self.control.stop()

    def kill(self) -> None:
        """End it as a power cut would."""
        self.control.kill()

    def wait_until_ready(self, seconds: float = 60.0) -> None:
        """Wait until a driver gets in over TCP.

        Raises:
            AssertionError: It did not answer in time.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.connect().close()  # type: ignore[no-any-return]
            except (pymysql.MySQLError, psycopg.Error) as error:
                if time.monotonic() > deadline:
                    raise AssertionError(f"{self.flavour} at {self.host}:{self.port} does not answer") from error
                time.sleep(0.1)


def _mysql_rows(output: str) -> list[Row]:
    """Rows of ``mysql --batch``: tab between values, backslash before what would confuse, NULL as such."""
    return [tuple(map(_mysql_value, line.split("\t"))) for line in output.split("\n")[:-1]]


def _mysql_value(text: str) -> str | None:
    if text == "NULL":
        return None
    plain = {"n": "\n", "t": "\t", "0": "\0", "\\": "\\"}
    return re.sub(r"\\(.)", lambda match: plain.get(match[1], match[0]), text)


def _psql_rows(output: str) -> list[Row]:
    rows = csv.reader(io.StringIO(output, newline=""))
    return [tuple(None if value == _NULL else value for value in row) for row in rows]

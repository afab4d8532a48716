"""Connections to the server, and what its error numbers mean as errors of ours.

Every session speaks utf8mb4 in UTC with an empty SQL mode, has no statement time limit, and is named
``backup-flows`` so that it can be found and ended (connection attribute ``program_name``).
"""

from __future__ import annotations

import contextlib
import ipaddress
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias, cast

import pymysql
import pymysql.cursors
from pymysql.constants import CR

from engine.config import MySQLConfig
from engine.errors import (
    BackupError,
    ConfigError,
    CredentialsRefused,
    DiskFull,
    LockHeld,
    MissingGrant,
    ToolFailed,
    UnknownName,
    Unreachable,
)
from engine.processes import Runner
from engine.processes.container import ContainerRunner
from engine.processes.place import address_of

Connection: TypeAlias = "pymysql.connections.Connection[pymysql.cursors.Cursor]"
Row: TypeAlias = tuple[Any, ...]

PROGRAM_NAME = "backup-flows"
STANDARD_PORT = 3306
CONNECT_TIMEOUT = 10
"""Seconds in which a server must accept us and say each of its words up to the end of the login."""
BRIEFLY = 60.0
"""Seconds within which a question is answered that neither counts nor waits for a lock."""
_HELLO = (
    "SET SESSION time_zone = '+00:00', sql_mode = '', wait_timeout = 86400, net_write_timeout = 600"
    "/*M!100101 , max_statement_time = 0 */ /*!80000 , max_execution_time = 0 */"
)

_REFUSED = {1045, 1130, 1251, 1524, 1698, 1820, 1862, 2049, 2059, 3118, 3955, 4151}
_GRANT = {1044, 1142, 1143, 1227, 1370, 1410}
_GONE = {1040, 1053, 1077, 1129, 1203, 1317, 1927, 2002, 2003, 2005, 2006, 2013, 2055, 4031}
_FULL = {1021, 1114}
_WAITED = {1205, 3572}


@dataclass(frozen=True)
class Address:
    """Where the server answers, seen from this process. A socket wins over host and port."""

    host: str
    port: int
    socket: str | None = None

    def __str__(self) -> str:
        return self.socket or f"{self.host}:{self.port}"


def address(config: MySQLConfig, runner: Runner) -> Address:
    """Where this process reaches the server: as configured, else the container's own address.

    A container's address on its own network works without any published port.
    """
    port = config.port or STANDARD_PORT
    if config.host:
        return Address(config.host, port)
    if isinstance(runner, ContainerRunner):
        return Address(address_of(runner.container), port)
    return Address("127.0.0.1", port, config.socket)


def open_connection(
    config: MySQLConfig,
    where: Address,
    *,
    database: str | None = None,
    autocommit: bool = True,
    patience: float | None = None,
) -> Connection:
    """A new session. A server that is silent for ``patience`` seconds (else ``timeout_seconds``) while it owes
    an answer is given up: the session is closed then.

    Raises:
        CredentialsRefused, Unreachable, MissingGrant, UnknownName: as the server answered.
    """
    # As bytes: the driver would take a text for Latin-1, and the server has hashed UTF-8.
    password = config.password.get_secret_value().encode() if config.password else b""
    options: dict[str, Any] = {}
    if config.tls_ca:
        options = {"ssl_ca": config.tls_ca, "ssl_verify_cert": True, "ssl_verify_identity": _is_name(where.host)}
    with translated(f"Connecting to {config.name} at {where} as {config.user}"):
        session = _Session(
            host=where.host, port=where.port, unix_socket=where.socket, user=config.user, password=password,
            database=database, charset="utf8mb4", autocommit=autocommit, connect_timeout=CONNECT_TIMEOUT,
            init_command=_HELLO, program_name=PROGRAM_NAME, read_timeout=CONNECT_TIMEOUT, **options,
        )  # fmt: skip
        session.wait_for_answers(patience or config.timeout_seconds)
        return session


class _Session(pymysql.connections.Connection):
    """A session that says how long it waited in vain.

    Where TLS is a matter of what the server offers, no certificate is checked: one context serves all.

    The driver would read every certificate of the machine for each session, for a tenth of a second.
    """

    def wait_for_answers(self, seconds: float) -> None:
        """From now on; the driver sets it on the socket before it next reads."""
        self._read_timeout = seconds

    def _read_bytes(self, num_bytes: int) -> bytes:
        try:
            return cast(bytes, super()._read_bytes(num_bytes))  # type: ignore[misc]
        except pymysql.err.OperationalError as error:
            if isinstance(error.__context__, TimeoutError):
                words = f"the server did not answer for {self._read_timeout:g} s"
                raise pymysql.err.OperationalError(CR.CR_SERVER_LOST, words) from None
            raise

    def _create_ssl_ctx(self, options: dict[str, Any]) -> ssl.SSLContext:
        if options:
            return cast(ssl.SSLContext, super()._create_ssl_ctx(options))  # type: ignore[misc]
        return _unchecked()


@cache
def _unchecked() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def query(connection: Connection, statement: str, arguments: tuple[Any, ...] | None = None) -> list[Row]:
    """Run one statement; every row of its result.

    Raises:
        BackupError: the server's refusal, as one of ours (see ``translated``).
    """
    with translated(_short(statement)), connection.cursor() as cursor:
        cursor.execute(statement, arguments)
        return list(cursor.fetchall())


def value(connection: Connection, statement: str, arguments: tuple[Any, ...] | None = None) -> Any:
    """The first column of the first row, or None when there is no row."""
    rows = query(connection, statement, arguments)
    return rows[0][0] if rows else None


def session_id(connection: Connection) -> int:
    """The server's number of a session, as KILL takes it."""
    return int(connection.thread_id())  # type: ignore[no-untyped-call]


def quoted(name: str) -> str:
    """An identifier in backticks."""
    return "`" + name.replace("`", "``") + "`"


def literal(text: str) -> str:
    """A string literal that means the same whatever the session's SQL mode."""
    if "\\" in text:
        return f"_utf8mb4 x'{text.encode().hex()}'"
    return "'" + text.replace("'", "''") + "'"


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn the driver's errors into ours. ``doing`` starts the message: what was tried, on what."""
    try:
        yield
    except (pymysql.err.MySQLError, OSError) as error:
        raise meaning(error, doing) from None
    except RuntimeError as error:
        # pymysql says so when caching_sha2_password would need TLS or a library that is absent
        raise CredentialsRefused(f"{doing} failed: {error}") from None


def code(error: BaseException) -> int:
    """The server's error number, 0 where there is none."""
    first = error.args[0] if error.args else 0
    return first if isinstance(first, int) else 0


def meaning(error: BaseException, doing: str) -> BackupError:
    """The error of ours for a driver's error."""
    number = code(error)
    words = str(error.args[1]) if len(error.args) > 1 else str(error)
    message = f"{doing} failed: {words}" + (f" ({number})" if number else "")
    if number in _REFUSED:
        return CredentialsRefused(
            message, remedy="check user and password of this source, and from which host it may connect"
        )
    if number in _GRANT:
        return MissingGrant(message, remedy="grant the privilege that the message names to this source's user")
    if number == 1049:
        return UnknownName(message)
    if number in _FULL:
        return DiskFull(message)
    if number in _WAITED:
        return LockHeld(message)
    # pymysql reports a session that it closed itself as InterfaceError(0, '')
    if number in _GONE or isinstance(error, (OSError, pymysql.err.InterfaceError)):
        return Unreachable(message, remedy="is the server up, reachable from here, and is it MySQL or MariaDB?")
    if isinstance(error, pymysql.err.NotSupportedError):
        return ConfigError(message)
    return ToolFailed(message)


def _is_name(host: str) -> bool:
    """A certificate carries the server's name; a container's address is not in it."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def _short(statement: str, limit: int = 120) -> str:
    text = " ".join(statement.split())
    return f"«{text[:limit]}…»" if len(text) > limit else f"«{text}»"

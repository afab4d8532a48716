"""Sessions on the server, for us and for the client tools: one address, one name, one set of secrets.

Every session is called ``backup-flows:<site>:<token>`` (``application_name``), where the token is the
restore's journal or our process id, so that it can be found, named to a person, and ended.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg

from engine.config import PostgresConfig
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
    nearest,
)
from engine.postgres.quoting import ident
from engine.processes import ContainerRunner, Runner
from engine.processes.place import address_of

Connection = psycopg.Connection[Any]
PORT = 5432
_REFUSED = re.compile(
    r"password authentication failed|no pg_hba\.conf entry|role \".*\" does not exist|no password supplied"
    r"|authentication failed|is not permitted to log in|certificate",
    re.IGNORECASE,
)
_NO_DATABASE = re.compile(r'database "(.*)" does not exist')


class Connector:
    """Opens sessions and describes them to client tools.

    Args:
        config: The server as the site describes it.
        site: Name of the site, part of every session's name.
        runner: Gives the place where client tools run; asked only when it is needed.
    """

    def __init__(self, config: PostgresConfig, site: str, runner: Callable[[], Runner]) -> None:
        self.config = config
        self.site = site
        self._runner = runner

    def open(self, database: str | None = None, *, token: str = "", options: str = "") -> Connection:
        """A session in autocommit: UTC, no timeouts of its own, nothing but the catalog in its path.

        Raises:
            Unreachable, CredentialsRefused, MissingGrant: see the message.
            UnknownName: No such database.
        """
        database = database or self.config.maintenance_database
        try:
            connection = psycopg.connect(
                **self.parameters(token),
                dbname=database,
                options=options or None,
                autocommit=True,
                prepare_threshold=None,
            )
        except psycopg.OperationalError as error:
            raise self.refusal(database, str(error).strip()) from None
        checks = "client_connection_check_interval" if connection.info.server_version >= 140000 else ""
        settings = {
            "TimeZone": "UTC",
            "statement_timeout": "0",
            "lock_timeout": "0",
            "search_path": "pg_catalog",
            "idle_in_transaction_session_timeout": "0",
            "row_security": "off",
            "DateStyle": "ISO",
        }
        if checks:  # else a session of a dead process would count a huge table to its end
            settings[checks] = "2000"
        with translated(f"setting up a session in {database}"):
            try:
                self._settle(connection, settings)
            except psycopg.Error:
                settings.pop(checks, None)  # not every platform can notice a closed socket
                self._settle(connection, settings)
        return connection

    def parameters(self, token: str = "") -> dict[str, Any]:
        """Where the server is and who we are, for libpq."""
        return {
            **self._address(),
            "user": self.config.user,
            "password": self._password() or None,
            "application_name": self.session_name(token),
            "connect_timeout": 10,
        }

    def session_name(self, token: str = "") -> str:
        """``application_name`` of a session, at most 63 bytes."""
        return f"backup-flows:{self.site[:36]}:{token or os.getpid()}"

    def maintenance_for(self, *databases: str) -> str:
        """Where to connect in order to create, rename or drop these databases: in none of them."""
        wanted = self.config.maintenance_database
        return next(name for name in (wanted, "postgres", "template1") if name not in databases)

    def tool_environment(self, database: str, *, token: str = "", options: str = "") -> dict[str, str]:
        """What libpq needs to know inside a client tool; the password goes this way, never in argv."""
        config = self.config
        inside = isinstance(self._runner(), ContainerRunner)
        host = config.host or config.socket or "127.0.0.1"
        environment = {
            "PGHOST": host,
            "PGPORT": str(config.port or PORT),
            "PGUSER": config.user,
            "PGDATABASE": database,
            "PGAPPNAME": self.session_name(token),
            "PGCONNECT_TIMEOUT": "10",
            "PGTZ": "UTC",
            "PGOPTIONS": options,
            "PGPASSFILE": "/nonexistent",
            "PGSSLMODE": "prefer",
            "PSQLRC": "/nonexistent",
            "PGSERVICEFILE": "/nonexistent",
        }
        if self._password():
            environment["PGPASSWORD"] = self._password()
        if config.tls_ca and not inside:
            tls = self._tls()
            environment |= {"PGSSLMODE": tls["sslmode"], "PGSSLROOTCERT": tls["sslrootcert"]}
        elif config.tls_ca and config.host:
            environment["PGSSLMODE"] = "require"  # the CA file stands on this host, not in the container
        return environment

    def where(self) -> str:
        """The server, as a person would call it."""
        config = self.config
        place = config.container or config.service
        address = f"{config.host or config.socket or place or '127.0.0.1'}"
        return f"PostgreSQL at {address}:{config.port or PORT}"

    def _password(self) -> str:
        return self.config.password.get_secret_value() if self.config.password else ""

    def _address(self) -> dict[str, Any]:
        config = self.config
        host = config.host
        if not host and (config.container or config.service):
            runner = self._runner()
            host = address_of(runner.container) if isinstance(runner, ContainerRunner) else ""
        return {"host": host or config.socket or "127.0.0.1", "port": config.port or PORT, **self._tls()}

    def _tls(self) -> dict[str, str]:
        if not self.config.tls_ca:
            return {}
        return {"sslmode": "verify-full" if self.config.host else "verify-ca", "sslrootcert": self.config.tls_ca}

    @staticmethod
    def _settle(connection: Connection, settings: dict[str, str]) -> None:
        calls = ", ".join(["set_config(%s, %s, false)"] * len(settings))
        connection.execute(f"SELECT {calls}", [part for pair in settings.items() for part in pair])

    def refusal(self, database: str, words: str) -> BackupError:
        """What a failed connection means. libpq gives no SQLSTATE for these, only words."""
        user = self.config.user
        if (missing := _NO_DATABASE.search(words)) and "role" not in missing[1]:
            return UnknownName(f"{self.where()} has no database {database!r}.", remedy=self._nearest(database))
        if "permission denied for database" in words:
            return MissingGrant(
                f"User {user!r} may not connect to database {database!r} on {self.where()}.",
                remedy=f"GRANT CONNECT ON DATABASE {ident(database)} TO {ident(user)};",
            )
        if "not currently accepting connections" in words:
            return Unreachable(
                f"Database {database!r} on {self.where()} accepts no connections.",
                remedy="if a restore died in its swap, run it again: it ends what was begun; or "
                f"ALTER DATABASE {ident(database)} WITH ALLOW_CONNECTIONS true;",
            )
        if _REFUSED.search(words):
            return CredentialsRefused(
                f"{self.where()} refused user {user!r}: {words}.",
                remedy="check user and password of this source, and the server's pg_hba.conf",
            )
        return Unreachable(
            f"{self.where()} does not answer: {words}.", remedy="is it running, and are host and port right?"
        )

    def _nearest(self, database: str) -> str:
        if database == self.config.maintenance_database:
            return "set maintenance_database to one that exists"
        with contextlib.suppress(BackupError), self.open() as connection:
            names = [row[0] for row in connection.execute("SELECT datname FROM pg_database WHERE NOT datistemplate")]
            return nearest(database, names)
        return ""


@contextlib.contextmanager
def translated(what: str, *, remedy: str = "") -> Iterator[None]:
    """Turn the driver's errors into ours; ``what`` was being done.

    Raises:
        MissingGrant, DiskFull, LockHeld, Unreachable, ToolFailed.
    """
    try:
        yield
    except psycopg.Error as error:
        raise _meaning(what, error, remedy) from None


def _meaning(what: str, error: psycopg.Error, remedy: str) -> BackupError:
    state, words = (
        error.sqlstate or "",
        str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__,
    )
    message = f"PostgreSQL, {what}: {words}."
    if state == "42501":
        return MissingGrant(message, remedy=remedy)
    if state in {"28P01", "28000"}:
        return CredentialsRefused(message, remedy=remedy)
    if state == "3D000":
        return UnknownName(message, remedy=remedy)
    if state in {"53100"}:
        return DiskFull(message, remedy="make room on the server's disk")
    if state in {"55P03", "55006", "40P01"}:
        return LockHeld(message, remedy=remedy)
    if state.startswith(("08", "57P")) or (not state and isinstance(error, psycopg.OperationalError)):
        return Unreachable(message, remedy=remedy)
    if state.startswith("22023"):
        return ConfigError(message, remedy=remedy)
    return ToolFailed(message, remedy=remedy)

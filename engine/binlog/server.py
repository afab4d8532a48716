"""What a running server says of its binary logs, and what it must allow before they can be shipped."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from engine.binlog import kinds
from engine.binlog.events import Format, Reader
from engine.binlog.fetch import fetch
from engine.errors import ConfigError, MissingGrant
from engine.mysql.connection import Connection, query, value
from engine.mysql.locking import account
from engine.mysql.preflight import granted, shown_grants

if TYPE_CHECKING:
    from engine.mysql.server import MySQLSource

_NEEDED = {
    "mysql": (("RELOAD",), ("REPLICATION SLAVE",), ("REPLICATION CLIENT", "SUPER")),
    "mariadb": (("RELOAD",), ("REPLICATION SLAVE",), ("BINLOG MONITOR", "REPLICATION CLIENT", "SUPER")),
}
"""Any one of each group will do; the first is proposed."""
_ENCRYPTION_HEADER = 512
"""Bytes by which MySQL's file, as it is listed, is longer than the log inside it."""
SHORTEST_KEPT = 24 * 3600
"""Seconds that a server should keep its logs at least: an outage of a night must be survived."""
_LOOKED_AT = 12


@dataclass(frozen=True)
class ServerLog:
    """One log as the server lists it. ``size`` is of the log in clear, in bytes; of the one being written, so far."""

    name: str
    size: int
    encrypted: bool = False

    @property
    def number(self) -> int:
        return number_of(self.name)

    @property
    def base(self) -> str:
        """The name without its number."""
        return self.name.rpartition(".")[0]


@dataclass(frozen=True)
class Head:
    """How a log begins; two logs of one name that begin alike and are as long are the same."""

    format: Format
    gtids_before: str

    @property
    def created_at(self) -> datetime:
        return self.format.created_at


def number_of(name: str) -> int:
    """The number in a log's name: 42 for ``mysql-bin.000042``; 0 where there is none."""
    tail = name.rpartition(".")[2]
    return int(tail) if re.fullmatch(r"\d+", tail) else 0


def listed(connection: Connection) -> list[ServerLog]:
    """The server's logs in its order; the last is being written. Raises MissingGrant."""
    found = []
    for name, size, *more in query(connection, "SHOW BINARY LOGS"):
        encrypted = bool(more) and str(more[0]).lower() == "yes"
        found.append(ServerLog(str(name), int(size) - (_ENCRYPTION_HEADER if encrypted else 0), encrypted))
    return found


def clock(connection: Connection) -> datetime:
    """The server's own time, UTC, to the microsecond; a session's ``timestamp`` does not change it."""
    now: datetime = value(connection, "SELECT CONVERT_TZ(SYSDATE(6), @@session.time_zone, '+00:00')")
    return now.replace(tzinfo=UTC)


def rotate(connection: Connection) -> None:
    """Have the server begin a new log; the statement itself is not logged."""
    query(connection, "FLUSH LOCAL BINARY LOGS")


def is_idle(connection: Connection, log: ServerLog) -> bool:
    """Has nothing been written to the log beyond what the server puts at its beginning?"""
    name = log.name.replace("'", "''")
    shown = query(connection, f"SHOW BINLOG EVENTS IN '{name}' LIMIT {_LOOKED_AT}")
    # what is in a group commit is counted in the size before it is shown
    whole = bool(shown) and int(str(shown[-1][4])) == log.size
    return whole and len(shown) < _LOOKED_AT and all(str(row[2]) in kinds.HEADER_WORDS for row in shown)


def head(source: MySQLSource, name: str) -> Head:
    """How a log begins, read from the server. Raises IntegrityError, ToolFailed, Unreachable."""
    with contextlib.closing(fetch(source.connect(), name, source.flavour)) as chunks:
        reader = Reader(chunks, name)
        for event in reader:
            if event.kind in (kinds.PREVIOUS_GTIDS, kinds.MARIADB_GTID_LIST) or event.kind not in kinds.HEADERS:
                break
        assert reader.format is not None
        return Head(reader.format, reader.gtids_before)


def identity(source: MySQLSource, created_at: datetime) -> str:
    """What tells the logs of this server from another's. MariaDB has no uuid: its number, and when the first log that
    was ever shipped began."""
    if source.flavour == "mysql":
        return str(value(source.session, "SELECT @@server_uuid"))
    return f"mariadb-{server_number(source)}-{created_at:%Y%m%dT%H%M%S}"


def server_number(source: MySQLSource) -> int:
    """``server_id``."""
    return int(value(source.session, "SELECT @@global.server_id"))


def preflight(source: MySQLSource) -> list[str]:
    """Binary logging on, grants enough; warnings where logs may be purged before they are safe.

    Raises:
        ConfigError: The server writes no binary log. MissingGrant: with the exact GRANT.
        Unreachable, CredentialsRefused.
    """
    session = source.session
    if not value(session, "SELECT @@log_bin"):
        raise ConfigError(
            f"{source.name} ({source.address}) writes no binary log: there is nothing to ship.",
            kept="nothing was changed",
            remedy="set log_bin = mysql-bin and a server_id in the server's configuration ([mysqld]) and restart it",
        )
    _check_grants(source)
    return _retention(session)


def _check_grants(source: MySQLSource) -> None:
    held = granted(shown_grants(source.session, source.flavour), None)
    groups = _NEEDED[source.flavour]
    lacking = [group[0] for group in groups if "ALL" not in held and not any(each in held for each in group)]
    if lacking:
        who = account(source.session)
        raise MissingGrant(
            f"{who} lacks {', '.join(lacking)} on *.*, which shipping binary logs needs.",
            kept="nothing was begun",
            remedy=f"run as an administrator: GRANT {', '.join(lacking)} ON *.* TO {who};",
        )


def _retention(session: Connection) -> list[str]:
    known = {str(name): str(text) for name, text in query(session, "SHOW GLOBAL VARIABLES LIKE '%%expire_logs%%'", ())}
    if known.get("binlog_expire_logs_auto_purge", "ON").upper() == "OFF":
        return []
    seconds = float(known.get("binlog_expire_logs_seconds") or 0) or 86400 * float(known.get("expire_logs_days") or 0)
    if not 0 < seconds < SHORTEST_KEPT:
        return []
    return [
        f"The server purges its binary logs after {seconds:,.0f} s: if shipping stands still that long, logs are lost. "
        f"SET PERSIST binlog_expire_logs_seconds = {3 * SHORTEST_KEPT}; (MariaDB: SET GLOBAL, and in its configuration)"
    ]

"""The replication protocol over libpq: who the server is, its WAL as a stream, and base backups.

We speak it ourselves: pg_receivewal confirms what is not yet safe, and pg_basebackup cannot stream more
than one tar. Formats: PostgreSQL manual, "Streaming Replication Protocol". All waiting is done by
``select``: a thread of ours may be what moves the bytes (``engine.processes.relay``).
"""

from __future__ import annotations

import contextlib
import re
import select
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg import pq
from psycopg.errors import error_from_result

from engine.errors import BackupError, ConfigError, CredentialsRefused, LogGap, MissingGrant, Unreachable
from engine.postgres.connection import PORT, Connector, translated
from engine.postgres.quoting import ident, literal
from engine.postgres.wal import lsn, parse_lsn
from engine.processes import ContainerRunner, Runner
from engine.processes.relay import relay

SILENCE_SECONDS = 120.0
"""A server whose flushed WAL we are reading has something to say within this time."""
CHECKPOINT_SECONDS = 3600.0
"""Before a base backup's first byte the server writes out its whole buffer."""
_POSTGRES_EPOCH = 946_684_800
_STATUS = struct.Struct(">cQQQQ?")
_NO_ENTRY = re.compile(r'no pg_hba\.conf entry for replication connection from host "([^"]*)"')

BaseEvent = tuple[Literal["begin", "archive", "manifest", "data", "progress", "end"], Any]
"""``begin``: BaseStart. ``archive``: (file name, directory). ``data``: bytes. ``progress``: bytes done.
``end``: (LSN, timeline)."""


@dataclass(frozen=True)
class Identity:
    """Who a server is: its cluster, its timeline, and up to where its WAL is flushed."""

    system_id: str
    timeline: int
    position: int


@dataclass(frozen=True)
class Tablespace:
    """One directory of a cluster. The main data directory has oid 0 and no path. ``size`` in bytes, about."""

    oid: int
    path: str
    size: int


@dataclass(frozen=True)
class BaseStart:
    """What a base backup says before its first byte."""

    position: int
    timeline: int
    tablespaces: list[Tablespace]


class Replication:
    """One replication session. Made by ``replication``."""

    def __init__(self, connection: psycopg.Connection[Any], where: str) -> None:
        self._connection = connection
        self._pg: pq.abc.PGconn = connection.pgconn
        self._where = where
        self._confirmed = 0

    def identify(self) -> Identity:
        """IDENTIFY_SYSTEM."""
        with translated("identifying the server"):
            row = self._connection.execute("IDENTIFY_SYSTEM").fetchone()
        assert row is not None
        return Identity(_text(row[0]), int(row[1]), parse_lsn(_text(row[2])))

    def timeline_history(self, timeline: int) -> bytes:
        """The history file of a timeline that has one (not 1)."""
        self._pg.send_query(f"TIMELINE_HISTORY {timeline}".encode())
        result = self._checked(self._result(SILENCE_SECONDS), f"reading the history of timeline {timeline}")
        content = result.get_value(0, 1) or b""
        self._drain()
        return content

    def stream(self, slot: str, start: int, timeline: int) -> Iterator[bytes]:
        """WAL from ``start`` (a segment's beginning) without end; leave the iteration with ``stop``.

        Raises:
            LogGap: The server has removed it. Unreachable: it went silent, or shut down.
        """
        what = f"streaming WAL from {lsn(start)} on timeline {timeline}"
        command = f"START_REPLICATION SLOT {ident(slot)} PHYSICAL {lsn(start)} TIMELINE {timeline}"
        self._pg.send_query(command.encode())
        self._checked(self._result(SILENCE_SECONDS), what, pq.ExecStatus.COPY_BOTH)
        at = start
        while (message := self._message(SILENCE_SECONDS, what)) is not None:
            if message[0] == ord("w"):
                if int.from_bytes(message[1:9], "big") != at:
                    raise Unreachable(f"{self._where} left out WAL at {lsn(at)}.", kept="nothing was confirmed")
                at += len(message) - 25
                yield bytes(message[25:])
            elif message[0] == ord("k") and message[17]:
                self.confirm(self._confirmed)
        self._checked(self._result(SILENCE_SECONDS), what, pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)
        self._drain()
        raise Unreachable(f"{self._where} ended its WAL at {lsn(at)}; it is shutting down, or was promoted.")

    def confirm(self, position: int) -> None:
        """Tell the server that everything before this is safe: the slot moves, the WAL may go.

        Call it only when the WAL is published in the vault. 0 says that we live and confirms nothing.
        """
        self._confirmed = position
        now = int((time.time() - _POSTGRES_EPOCH) * 1_000_000)
        self._pg.put_copy_data(_STATUS.pack(b"r", position, position, position, now, False))
        self._flush(SILENCE_SECONDS)

    def stop(self) -> None:
        """End a stream in order, so that what was confirmed is known to the server and its slot is free."""
        self._pg.put_copy_end()
        self._flush(SILENCE_SECONDS)
        while self._message(SILENCE_SECONDS, "ending the stream of WAL") is not None:
            pass
        self._drain()

    def base_backup(self, label: str) -> Iterator[BaseEvent]:
        """BASE_BACKUP with its WAL and a manifest of SHA-256 digests: events in the server's order.

        Raises:
            LogGap: WAL was removed on the way. IntegrityError...: the server's own words.
        """
        what = "taking a base backup"
        options = (
            f"LABEL {literal(label)}, PROGRESS true, CHECKPOINT 'fast', WAL true, WAIT false, "
            "MANIFEST 'yes', MANIFEST_CHECKSUMS 'SHA256', TABLESPACE_MAP true"
        )
        self._pg.send_query(f"BASE_BACKUP ({options})".encode())
        position, timeline = _place(self._checked(self._result(CHECKPOINT_SECONDS), what))
        listed = self._checked(self._result(CHECKPOINT_SECONDS), what)
        yield "begin", BaseStart(position, timeline, [_tablespace(listed, row) for row in range(listed.ntuples)])
        self._checked(self._result(CHECKPOINT_SECONDS), what, pq.ExecStatus.COPY_OUT)
        while (message := self._message(CHECKPOINT_SECONDS, what)) is not None:
            yield _base_event(message)
        yield "end", _place(self._checked(self._result(CHECKPOINT_SECONDS), what))
        self._drain()

    def _message(self, patience: float, what: str) -> memoryview | None:
        """The next message of a COPY, or None at its end."""
        while True:
            with self._lost(what):
                length, data = self._pg.get_copy_data(1)
            if length > 0:
                return data
            if length < 0:
                return None
            self._await(patience)

    def _result(self, patience: float) -> pq.abc.PGresult | None:
        self._flush(patience)
        with self._lost("asking"):
            while self._pg.is_busy():
                self._await(patience)
            return self._pg.get_result()

    def _await(self, patience: float) -> None:
        if not select.select([self._pg.socket], [], [], patience)[0]:
            raise Unreachable(f"{self._where} said nothing for {patience:.0f} s while it was to send WAL or data.")
        with self._lost("waiting for what it sends"):
            self._pg.consume_input()

    def _flush(self, patience: float) -> None:
        with self._lost("sending"):
            while self._pg.flush():
                ready = select.select([self._pg.socket], [self._pg.socket], [], patience)
                if ready[0]:
                    self._pg.consume_input()
                if not any(ready):
                    raise Unreachable(f"{self._where} took nothing for {patience:.0f} s.")

    def _drain(self) -> None:
        while self._result(SILENCE_SECONDS) is not None:
            pass

    def _checked(self, result: pq.abc.PGresult | None, what: str, *wanted: pq.ExecStatus) -> pq.abc.PGresult:
        if result is None:
            raise Unreachable(f"{self._where} broke off while {what}.")
        if result.status in (wanted or (pq.ExecStatus.TUPLES_OK,)):
            return result
        error = error_from_result(result)
        if error.sqlstate == "58P01":  # undefined_file: only ever about WAL here
            raise LogGap(
                f"{self._where}, {what}: {str(error).strip()}.",
                remedy="take a base backup; set max_slot_wal_keep_size and the schedule so that the slot keeps up",
            )
        with translated(what):
            raise error
        raise AssertionError("unreachable")

    @contextlib.contextmanager
    def _lost(self, what: str) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            words = str(error).strip().splitlines()
            raise Unreachable(
                f"The connection to {self._where} was lost while {what}: {words[0] if words else 'no reason given'}."
            ) from None


@contextlib.contextmanager
def replication(connector: Connector, runner: Runner) -> Iterator[Replication]:
    """Open a replication session: straight, or from inside the container where the server is in one.

    Raises:
        MissingGrant, CredentialsRefused, ConfigError: with the grant, the line or the setting to add.
        Unreachable, ToolMissing.
    """
    with contextlib.ExitStack() as stack:
        parameters = connector.parameters()
        way = None
        if isinstance(runner, ContainerRunner):
            config = connector.config
            way = stack.enter_context(relay(runner, config.host or "127.0.0.1", config.port or PORT))
            parameters |= {"host": str(way.directory), "sslmode": "disable"}
            parameters.pop("sslrootcert", None)
        try:
            connection = psycopg.connect(
                **parameters, replication="true", options="-c wal_sender_timeout=60s", autocommit=True,
                prepare_threshold=None,
            )  # fmt: skip
        except psycopg.OperationalError as error:
            if way is not None and way.error is not None:
                raise way.error from None
            raise refused(connector, str(error).strip()) from None
        stack.callback(connection.close)
        yield Replication(connection, connector.where())


def refused(connector: Connector, words: str) -> BackupError:
    """Why a replication session was not let in, with what lets it in."""
    user, where = connector.config.user, connector.where()
    if entry := _NO_ENTRY.search(words):
        return CredentialsRefused(
            f"{where} lets user {user!r} not replicate from {entry[1]}.",
            kept="nothing was changed",
            remedy=f"add to pg_hba.conf: host replication {ident(user)} {entry[1]}/"
            f"{128 if ':' in entry[1] else 32} scram-sha-256 - then: SELECT pg_reload_conf();",
        )
    if re.search(r"must be superuser or replication role|permission denied to start WAL sender", words):
        return MissingGrant(
            f"User {user!r} may not replicate from {where}.",
            kept="nothing was changed",
            remedy=f"ALTER ROLE {ident(user)} REPLICATION;",
        )
    if "max_wal_senders" in words:
        return ConfigError(
            f"{where} has no WAL sender left: {words}.",
            kept="nothing was changed",
            remedy="ALTER SYSTEM SET max_wal_senders = 10; and restart the server",
        )
    return connector.refusal(connector.config.maintenance_database, words)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _place(result: pq.abc.PGresult) -> tuple[int, int]:
    return parse_lsn((result.get_value(0, 0) or b"").decode()), int(result.get_value(0, 1) or b"0")


def _tablespace(result: pq.abc.PGresult, row: int) -> Tablespace:
    oid, path, kilobytes = (result.get_value(row, column) for column in range(3))
    return Tablespace(int(oid or b"0"), (path or b"").decode("utf-8", "surrogateescape"), int(kilobytes or b"0") * 1024)


def _base_event(message: memoryview) -> BaseEvent:
    kind, rest = bytes(message[:1]), message[1:]
    if kind == b"d":
        return "data", bytes(rest)
    if kind == b"p":
        return "progress", int.from_bytes(rest, "big")
    if kind == b"m":
        return "manifest", None
    name, path, _ = bytes(rest).split(b"\0", 2)
    return "archive", (name.decode(), path.decode("utf-8", "surrogateescape"))

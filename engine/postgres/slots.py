"""Our replication slot: its name, its state, what the server must allow, and how near it is to being lost.

The slot keeps on the server what the vault does not hold yet. Nobody else may use it, and it moves only
when a segment is published.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from engine.errors import BackupError, ConfigError, LockHeld, MissingGrant, ToolFailed, WrongTool
from engine.postgres.connection import Connection, Connector, translated
from engine.postgres.quoting import ident, literal
from engine.postgres.wal import lsn, parse_lsn

OLDEST = 150000
_LONGEST = 63
_PLAIN = re.compile(r"[a-z0-9_]*")
_NEAR = 0.25
"""With less than this part of max_slot_wal_keep_size left, a warning."""

_SERVER = """
SELECT (SELECT system_identifier FROM pg_control_system())::text,
       CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_lsn()) END,
       CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn()::text END,
       pg_is_in_recovery(), current_setting('wal_level'),
       current_setting('max_wal_senders')::int, current_setting('max_replication_slots')::int,
       (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'),
       (SELECT setting::bigint * 1048576 FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
       current_setting('synchronous_standby_names'),
       (SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user),
       has_function_privilege('pg_switch_wal()', 'EXECUTE'), clock_timestamp()
"""
_SLOT = """
SELECT s.slot_type, s.plugin, s.temporary, s.active_pid, s.restart_lsn::text, s.wal_status, s.safe_wal_size,
       coalesce(a.application_name, ''), coalesce(host(a.client_addr), 'its own socket')
FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid WHERE s.slot_name = %s
"""


@dataclass(frozen=True)
class ServerState:
    """What shipping must know of a server at one moment.

    Attributes:
        position: Where the next WAL will be written.
        keep_bytes: ``max_slot_wal_keep_size``; negative for no limit.
    """

    system_id: str
    timeline: int
    position: int
    segment_size: int
    keep_bytes: int
    synchronous: str


@dataclass(frozen=True)
class Slot:
    """Our slot as it stands. ``restart`` is None when it keeps nothing (any more)."""

    name: str
    restart: int | None
    wal_status: str
    safe_bytes: int | None

    @property
    def lost(self) -> bool:
        return self.wal_status == "lost"


def slot_name(site: str, source: str) -> str:
    """``backup_flows_<site>_<source>``. Slots have few letters: where some must be replaced, a digest is
    added, so that no two sources meet."""
    plain = f"backup_flows_{site}_{source}"
    if _PLAIN.fullmatch(plain) and "_" not in site and len(plain) <= _LONGEST:
        return plain
    digest = hashlib.sha256(f"{site}/{source}".encode()).hexdigest()[:8]
    return f"{re.sub('[^a-z0-9_]', '_', plain.lower())[: _LONGEST - 9]}_{digest}"


def server_state(connector: Connector, connection: Connection, *, switching: bool = True) -> ServerState:
    """Ask the server, and refuse in words what cannot work. Changes nothing.

    Args:
        switching: The WAL will be switched, which needs a right of its own.

    Raises:
        WrongTool, ConfigError, MissingGrant: with the setting or grant.
    """
    where = connector.where()
    if connection.info.server_version < OLDEST:
        raise WrongTool(
            f"{where} is version {connection.info.server_version // 10000}; point-in-time recovery here needs 15.",
            kept="dumps of it go on as before",
            remedy="upgrade the server to PostgreSQL 15 or later",
        )
    with translated("asking for its WAL settings"):
        row = connection.execute(_SERVER).fetchone()
    assert row is not None
    system, file, position, standby, level, senders, slots, size, keep, synchronous, may, switch, _ = row
    if problem := _refusal(connector, standby, level, senders, slots, may, switch or not switching):
        raise problem
    return ServerState(system, int(file[:8], 16), parse_lsn(position), size, keep, synchronous)


def _refusal(
    connector: Connector, standby: bool, level: str, senders: int, slots: int, may: bool, switch: bool
) -> BackupError | None:
    where, user = connector.where(), connector.config.user
    if standby:
        return ConfigError(
            f"{where} is a standby: it writes no WAL of its own.", remedy="name its primary in the site's file"
        )
    wanted = [
        ("wal_level", level, level != "minimal", "replica"),
        ("max_wal_senders", senders, senders > 0, "10"),
        ("max_replication_slots", slots, slots > 0, "10"),
    ]
    wrong = [(name, found, better) for name, found, good, better in wanted if not good]
    if wrong:
        return ConfigError(
            f"{where} cannot be recovered to a point in time: "
            + ", ".join(f"{name} is {found}" for name, found, _ in wrong)
            + ".",
            kept="nothing was changed",
            remedy=" ".join(f"ALTER SYSTEM SET {name} = {better};" for name, _, better in wrong)
            + " and restart the server",
        )
    if not may:
        return MissingGrant(
            f"User {user!r} may not replicate from {where}.",
            kept="nothing was changed",
            remedy=f"ALTER ROLE {ident(user)} REPLICATION;",
        )
    if not switch:
        return MissingGrant(
            f"User {user!r} may not begin a new WAL segment on {where}.",
            kept="nothing was changed",
            remedy=f"GRANT EXECUTE ON FUNCTION pg_catalog.pg_switch_wal() TO {ident(user)};",
        )
    return None


def find_slot(connection: Connection, name: str, where: str) -> Slot | None:
    """Our slot, or None when there is none.

    Raises:
        ConfigError: One of that name is not ours. LockHeld: somebody reads from it.
    """
    with translated(f"looking at the replication slot {name}"):
        row = connection.execute(_SLOT, [name]).fetchone()
    if row is None:
        return None
    kind, plugin, temporary, pid, restart, status, safe, application, client = row
    if kind != "physical" or temporary:
        what = f"{kind}, of the plugin {plugin}" if plugin else ("temporary" if temporary else kind)
        raise ConfigError(
            f"The replication slot {name} on {where} is not ours: it is {what}.",
            kept="it was not touched; nothing was shipped",
            remedy=f"if nobody needs it: SELECT pg_drop_replication_slot({literal(name)}); else rename this source",
        )
    if pid is not None:
        raise LockHeld(
            f"The replication slot {name} on {where} is in use by process {pid} ({application or 'unnamed'} from "
            f"{client}).",
            kept="nothing was shipped; the server keeps what the slot has not confirmed",
            remedy=f"wait for it to end; if it is nobody's: SELECT pg_terminate_backend({pid});",
        )
    return Slot(name, parse_lsn(restart) if restart else None, status or "", safe)


def make_slot(connection: Connection, name: str) -> Slot:
    """Create our slot; it keeps the WAL from the last checkpoint on.

    Raises:
        ConfigError: The server has no slot left.
    """
    try:
        with translated(f"creating the replication slot {name}"):
            row = connection.execute("SELECT lsn::text FROM pg_create_physical_replication_slot(%s, true)", [name])
            return Slot(name, parse_lsn(row.fetchall()[0][0]), "reserved", None)
    except ToolFailed as error:
        if "max_replication_slots" not in error.message and "replication slots are in use" not in error.message:
            raise
        raise ConfigError(
            f"The server has no replication slot left for {name}.",
            kept="nothing was changed",
            remedy="drop one that nobody needs (SELECT * FROM pg_replication_slots), or ALTER SYSTEM SET "
            "max_replication_slots = 20; and restart the server",
        ) from None


def drop_slot(connection: Connection, name: str) -> None:
    """Remove our slot, for instance a lost one."""
    with translated(f"dropping the replication slot {name}"):
        connection.execute("SELECT pg_drop_replication_slot(%s)", [name])


def advance(connection: Connection, slot: Slot, position: int) -> None:
    """Move the slot to what is published already: an earlier run died before it could say so."""
    with translated(f"moving the replication slot {slot.name} on"):
        connection.execute("SELECT pg_replication_slot_advance(%s, %s)", [slot.name, lsn(position)])


def warnings_of(slot: Slot, server: ServerState) -> list[str]:
    """What a person should know before it hurts: a slot that lags, or that may fill the server's disk."""
    lag = server.position - slot.restart if slot.restart is not None else 0
    found = []
    if slot.wal_status == "unreserved" or (
        server.keep_bytes > 0 and slot.safe_bytes is not None and slot.safe_bytes < _NEAR * server.keep_bytes
    ):
        found.append(
            f"The slot {slot.name} lags by {lag:,} bytes and is about to be lost: max_slot_wal_keep_size is "
            f"{server.keep_bytes:,} bytes, wal_status {slot.wal_status}. Ship more often, or raise that setting."
        )
    if server.keep_bytes < 0:
        found.append(
            f"max_slot_wal_keep_size is not set: when shipping stands still, the slot {slot.name} fills the server's "
            "disk. ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf();"
        )
    if "*" in server.synchronous:
        found.append(
            f"synchronous_standby_names is {server.synchronous!r}: while WAL is shipped the server may take us for a "
            "standby that its commits wait for. Name the standbys."
        )
    return found

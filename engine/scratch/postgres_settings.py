"""Settings under which a recovered cluster can do no harm, and recovers to where it should."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

NEEDED = frozenset({"timescaledb", "citus", "pg_tde", "orioledb"})
"""Libraries without which a cluster that uses them does not start, or cannot be read."""
QUIET = {"timescaledb": {"timescaledb.max_background_workers": "0", "timescaledb.telemetry_level": "off"}}
_PRELOAD = re.compile(r"^\s*shared_preload_libraries\s*=?\s*(?:'((?:[^'\\]|''|\\.)*)'|([^\s#]+))", re.M | re.I)
_FROM_CONTROL = {
    "max_connections": "max_connections setting",
    "max_worker_processes": "max_worker_processes setting",
    "max_wal_senders": "max_wal_senders setting",
    "max_prepared_transactions": "max_prepared_xacts setting",
    "max_locks_per_transaction": "max_locks_per_xact setting",
}
_AT_LEAST = {"max_connections": 20, "max_prepared_transactions": 64}


@dataclass(frozen=True)
class Goal:
    """Where recovery stops: at a time, at a position of the log, or (neither) at the log's end.

    Attributes:
        time: The last commits applied are those stamped then (microseconds count); must have a zone.
        lsn: Such as ``0/3000148``; the record that begins there is the last one applied.
        inclusive: False stops just before what stands at exactly that time or position.
        timeline: ``latest``, ``current`` (the base's own), or a number.
    """

    time: datetime | None = None
    lsn: str = ""
    inclusive: bool = True
    timeline: str = "latest"

    @property
    def kind(self) -> Literal["time", "lsn", "end"]:
        return "time" if self.time else "lsn" if self.lsn else "end"

    def __str__(self) -> str:
        if self.time:
            return f"{self.time.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f} UTC"
        return f"position {self.lsn}" if self.lsn else "the end of the log"

    def settings(self) -> dict[str, str]:
        """As PostgreSQL's recovery settings."""
        found = {"recovery_target_action": "promote", "recovery_target_timeline": self.timeline}
        if self.time:
            found["recovery_target_time"] = f"{self.time.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00"
        if self.lsn:
            found["recovery_target_lsn"] = self.lsn
        if self.kind != "end":
            found["recovery_target_inclusive"] = "on" if self.inclusive else "off"
        return found


def harmless(
    work: str, major: int, control: Mapping[str, str], libraries: Iterable[str], *, durable: bool
) -> dict[str, str]:
    """Settings of a server that talks to nobody but us.

    Args:
        control: What ``pg_controldata`` says.
        libraries: To preload.
        durable: The data is to be kept: write it safely.
    """
    preload = list(libraries)
    settings = {
        "data_directory": f"{work}/data",
        "hba_file": f"{work}/hba.conf",
        "ident_file": f"{work}/ident.conf",
        "listen_addresses": "",
        "unix_socket_directories": work,
        "unix_socket_permissions": "0700",
        "ssl": "off",
        "archive_mode": "off",
        "max_logical_replication_workers": "0",
        "primary_conninfo": "",
        "hot_standby": "off",  # nobody needs to read before the end, and so no setting of the primary stops it
        "wal_level": "replica",
        "autovacuum": "off",
        "shared_preload_libraries": ",".join(preload),
        "session_preload_libraries": "",
        "local_preload_libraries": "",
        "jit": "off",
        "shared_buffers": "128MB",
        "dynamic_shared_memory_type": "mmap",  # within the directory, so that it goes with it
        "logging_collector": "off",
        "log_destination": "stderr",
        "log_min_messages": "warning",
        "log_line_prefix": "%m [%p] ",
        "log_timezone": "UTC",
        "timezone": "UTC",
        "lc_messages": "C",
        "restore_command": f'test -f "{work}/wal/%f" && cp "{work}/wal/%f" "%p"',
    }
    if major >= 17:
        settings["event_triggers"] = "off"  # one on login would run as we come in
    if not durable:
        settings |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
    for library in preload:
        settings |= QUIET.get(library, {})
    for name, label in _FROM_CONTROL.items():
        settings[name] = str(max(int(control.get(label, "0")), _AT_LEAST.get(name, 0)))
    return settings


def as_text(settings: Mapping[str, str]) -> str:
    """A configuration file."""
    escaped = {name: value.replace("\\", "\\\\").replace("'", "''") for name, value in settings.items()}
    return "".join(f"{name} = '{value}'\n" for name, value in escaped.items())


def preloaded(texts: Iterable[str]) -> list[str]:
    """The libraries that configuration files name, the last file winning."""
    found: list[str] = []
    for text in texts:
        for value in _PRELOAD.findall(text):
            found = [part.strip().strip('"') for part in (value[0] or value[1]).split(",") if part.strip()]
    return found


def control_facts(text: str) -> dict[str, str]:
    """What ``pg_controldata`` printed, by its labels."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}

"""Names and times: how backup files are called, and how people may write a moment.

Form: ``<name>_YYYYMMDD_HHMMSS.<ext>``, always UTC, for example
``workset_20250116_020000.sql.gz.enc``. ``<name>`` is the database, percent-encoded where a
character is not safe in a file name or an object key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from engine.errors import ConfigError

STAMP = "%Y%m%d_%H%M%S"
MANIFEST_SUFFIX = ".json"
_FILE = re.compile(r"^(?P<name>.+)_(?P<stamp>\d{8}_\d{6})\.(?P<ext>[A-Za-z0-9.]+)$")

TIERS = ("hourly", "daily", "weekly", "monthly", "pre-deployment", "manual")


@dataclass(frozen=True, order=True)
class BackupName:
    """The parts of a backup's file name.

    Attributes:
        taken_at: Start of the backup, UTC, whole seconds.
        name: What was backed up, as the server calls it (not encoded).
        ext: Everything after the stamp: ``sql.gz.enc``, ``dump.zst.enc``, ``tar.gz.enc``.
    """

    taken_at: datetime
    name: str
    ext: str

    @property
    def file(self) -> str:
        return f"{self.stem}.{self.ext}"

    @property
    def stem(self) -> str:
        return f"{quote(self.name, safe='-. ~').replace(' ', '%20')}_{self.taken_at:{STAMP}}"

    def companion(self, role: str, ext: str) -> str:
        """File name of a part stored beside the data: ``app_20250116_020000.accounts.sql.gz.enc``."""
        return f"{self.stem}.{role}.{ext}"


def parse_file(file: str) -> BackupName | None:
    """The parts of a backup's file name, or None when the name is not of that form.

    Companion parts (``….accounts.sql.gz.enc``) parse too; only manifests make a backup.
    """
    found = _FILE.match(file)
    if not found:
        return None
    try:
        taken = datetime.strptime(found["stamp"], STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None
    return BackupName(taken, unquote(found["name"]), found["ext"])


def now() -> datetime:
    """The present moment, UTC."""
    return datetime.now(UTC)


def iso(moment: datetime) -> str:
    """``2025-01-16T02:00:00Z``; microseconds only where there are any."""
    text = moment.astimezone(UTC).isoformat()
    return text.replace("+00:00", "Z")


def both_zones(moment: datetime) -> str:
    """A moment in UTC and in this machine's own zone, for echoing back to a person."""
    utc = moment.astimezone(UTC)
    local = moment.astimezone()
    return f"{utc:%Y-%m-%d %H:%M:%S} UTC ({local:%Y-%m-%d %H:%M:%S %Z})"


def parse_moment(text: str) -> datetime:
    """A moment written by a person, with its zone, as UTC.

    Raises:
        ConfigError: It is no time, or it has no zone.
    """
    cleaned = text.strip()
    example = "write it with its zone, for example 2025-01-16T02:00:00Z or 2025-01-16T03:00:00+01:00"
    try:
        moment = datetime.fromisoformat(cleaned.removesuffix(" UTC") + ("+00:00" if cleaned.endswith(" UTC") else ""))
    except ValueError:
        raise ConfigError(f"{text!r} is not a time.", remedy=example) from None
    if moment.tzinfo is None:
        raise ConfigError(f"The time {text!r} has no zone.", remedy=example)
    return moment.astimezone(UTC)

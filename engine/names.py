"""Names and times: how backup files are called, and how people may write a moment.

Form: ``<name>_YYYYMMDD_HHMMSS.<ext>``, always UTC, for example
``workset_20250116_020000.sql.gz.enc``. ``<name>`` is the database, percent-encoded where a
character is not safe in a file name or an object key. A name too long for a file is cut and gets
``~`` and a digest of the whole; its manifest holds the true name. A server's log keeps its own name and
has a dot before the stamp: ``mysql-bin.000001.20250116_020500.gz.enc``, stamped when it was shipped.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

from engine.errors import ConfigError

STAMP = "%Y%m%d_%H%M%S"
APART = timedelta(minutes=5)
"""So far clocks of two machines may be apart; what is dated further ahead of now was dated by a wrong one."""
MANIFEST_SUFFIX = ".json"
BESIDE = re.compile(r"_(before|restore)_\d{8}_\d{6}$")
"""How the databases end that restores leave beside production: they are never sources by themselves."""
_WAL_NAME = r"[0-9A-F]{24}|[0-9A-F]{8}\.history"
_LOG = re.compile(rf"^(?P<name>{_WAL_NAME}|[^/]+\.\d{{6,}})\.(?P<stamp>\d{{8}}_\d{{6}})\.(?P<ext>[A-Za-z0-9.]+)$")
_FILE = re.compile(r"^(?P<name>.+)_(?P<stamp>\d{8}_\d{6})\.(?P<ext>[A-Za-z0-9.]+)$")

# A file name has at most 255 bytes; role, extension, ``.json`` or a mark's kind and stamp follow.
_MAX_ENCODED = 160
_DIGEST_DIGITS = 16
_SHORTENED = re.compile(rf"^[A-Za-z0-9_.%-]{{1,{_MAX_ENCODED - _DIGEST_DIGITS - 1}}}~[0-9a-f]{{{_DIGEST_DIGITS}}}$")

SAFETY = "safety"
"""Tier of the copies taken of what a restore is about to replace. ``latest`` never means one of these:
a restore that is run again must not bring back what it was to repair."""
RECOVERED = "recovered"
"""Tier of what a recovery to a point in time brought back, before it is put anywhere."""
BASE = "base"
"""Tier of physical copies of a whole PostgreSQL server, which its WAL is replayed on."""
BINLOGS, WAL = "binlogs", "wal"
LOGS = (BINLOGS, WAL)
"""Tiers of shipped logs. Each log is a backup of its own, called as the server calls it."""
IMAGE = "image"
"""Tier of saved Docker images, which only sources of images have. Each is kept while a kept record needs it."""
RECORD_EXT = "containers"
"""How the extension of a record of containers begins; no other kind of backup has it."""
WEEKLY, MONTHLY = "weekly", "monthly"
ARCHIVES = (WEEKLY, MONTHLY)
"""Tiers of what is promoted from newer ones to be kept for long."""
TIERS = ("hourly", "daily", "weekly", "monthly", "pre-deployment", "manual", SAFETY, RECOVERED, BASE, *LOGS)
NEVER_LATEST = frozenset((SAFETY, RECOVERED, BASE, IMAGE, *LOGS))
"""Tiers that are no backups of a database as it last was."""


@dataclass(frozen=True, order=True, slots=True)
class BackupName:
    """The parts of a backup's file name.

    Attributes:
        taken_at: Start of the backup, UTC, whole seconds.
        name: What was backed up, as the server calls it (not encoded). When it was read from the name
            of a file whose database's name was too long, the shortened form.
        ext: Everything after the stamp: ``sql.gz.enc``, ``dump.zst.enc``, ``tar.gz.enc``.
        log: For a server's log its tier, ``binlogs`` or ``wal``; ``taken_at`` is when it was shipped.
    """

    taken_at: datetime
    name: str
    ext: str
    log: str = ""

    @property
    def file(self) -> str:
        return f"{self.stem}.{self.ext}"

    @property
    def stem(self) -> str:
        return f"{encode(self.name)}{'.' if self.log else '_'}{self.taken_at:{STAMP}}"

    def later(self) -> BackupName:
        """The same a second later."""
        return replace(self, taken_at=self.taken_at + timedelta(seconds=1))

    def is_of(self, database: str) -> bool:
        """Is this a backup of that database (or volume, bucket...), given by its true name?"""
        return encode(database) == encode(self.name)

    def companion(self, role: str, ext: str) -> str:
        """File name of a part stored beside the data: ``app_20250116_020000.accounts.sql.gz.enc``."""
        return f"{self.stem}.{role}.{ext}"


def encode(name: str) -> str:
    """A name as it stands in file names: safe in every file system and object key, never hidden (a
    leading dot is encoded), at most 160 bytes. What ``encode`` shortened stays as it is."""
    if _SHORTENED.match(name):
        return name
    encoded = quote(name, safe="-.", errors="surrogatepass").replace("~", "%7E")
    if encoded.startswith("."):
        encoded = "%2E" + encoded[1:]
    if len(encoded) <= _MAX_ENCODED:
        return encoded
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_DIGITS]
    head = encoded[: _MAX_ENCODED - _DIGEST_DIGITS - 1]
    return f"{_without_half_escape(head)}~{digest}"


def _decode(encoded: str) -> str:
    return encoded if _SHORTENED.match(encoded) else unquote(encoded)


def _without_half_escape(text: str) -> str:
    cut = text.rfind("%", len(text) - 2)
    return text[:cut] if cut >= 0 else text


def parse_file(file: str) -> BackupName | None:
    """The parts of a backup's file name, or None when the name is not of that form.

    Companion parts (``….accounts.sql.gz.enc``) parse too; only manifests make a backup.
    """
    log = _LOG.match(file)
    found = log or _FILE.match(file)
    if not found:
        return None
    taken = moment_of(found["stamp"])
    if taken is None:
        return None
    return BackupName(taken, _decode(found["name"]), found["ext"], _tier_of(found["name"]) if log else "")


def moment_of(stamp: str) -> datetime | None:
    """As ``strptime`` with ``STAMP`` (UTC), which is slow where there are many; None for no moment."""
    date, clock = stamp.split("_")
    try:
        return datetime(
            int(date[:4]), int(date[4:6]), int(date[6:]), int(clock[:2]), int(clock[2:4]), int(clock[4:]), tzinfo=UTC
        )
    except ValueError:
        return None


def _tier_of(log: str) -> str:
    return WAL if re.fullmatch(_WAL_NAME, log) else BINLOGS


def recovery_point() -> str:
    """A new id for what all backups of one run share: ``20250116_020000-3f9a1c20``, its time in UTC first."""
    return f"{now():{STAMP}}-{secrets.token_hex(4)}"


def now() -> datetime:
    """The present moment, UTC."""
    return datetime.now(UTC)


def from_timestamp(seconds: float) -> datetime:
    """A file's time, in seconds since 1970, as UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def iso(moment: datetime) -> str:
    """``2025-01-16T02:00:00Z``; microseconds only where there are any."""
    text = moment.astimezone(UTC).isoformat()
    return text.replace("+00:00", "Z")


def both_zones(moment: datetime) -> str:
    """A moment in UTC and, where that is another, in this machine's own zone, for echoing back to a person."""
    utc = moment.astimezone(UTC)
    local = moment.astimezone()
    if local.tzname() == "UTC":
        return f"{utc:%Y-%m-%d %H:%M:%S} UTC"
    return f"{utc:%Y-%m-%d %H:%M:%S} UTC ({local:%Y-%m-%d %H:%M:%S %Z})"


def noted_moment(text: object) -> datetime:
    """A moment that a program wrote down, as UTC. Raises ValueError: it is none, or it has no zone."""
    moment = datetime.fromisoformat(str(text))
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    return moment.astimezone(UTC)


def parse_moment(text: str, shown: str = "") -> datetime:
    """A moment written by a person, with its zone, as UTC.

    Args:
        shown: What was written, where ``text`` adds to it.

    Raises:
        ConfigError: It is no time, or it has no zone.
    """
    cleaned = text.strip()
    example = "write it with its zone, for example 2025-01-16T02:00:00Z or 2025-01-16T03:00:00+01:00"
    try:
        moment = datetime.fromisoformat(cleaned.removesuffix(" UTC") + ("+00:00" if cleaned.endswith(" UTC") else ""))
    except ValueError:
        raise ConfigError(f"{(shown or text)!r} is not a time.", remedy=example) from None
    if moment.tzinfo is None:
        raise ConfigError(f"The time {text!r} has no zone.", remedy=example)
    return moment.astimezone(UTC)

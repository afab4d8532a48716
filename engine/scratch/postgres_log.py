"""What the log of a recovering server says: how far it is, where it stopped, and why it failed, in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from engine.errors import BackupError, DiskFull, IntegrityError, LogGap, OutsideWindow, ToolFailed, ToolMissing

_RESTORED = re.compile(r'restored log file "([0-9A-F]{24})" from archive')
_STAMP = r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?)\+00"
_LAST = re.compile(rf"last completed transaction was at log time {_STAMP}")
_TIMELINE = re.compile(r"selected new timeline ID: (\d+)")
_STOPPED = re.compile(r"LOG:\s+(recovery stopping .*)")
_BROKEN = re.compile(
    r"LOG:\s+((?:invalid|incorrect|unexpected|record with|contrecord|there is no contrecord|out of order|WAL file).*)"
)
_ENDED = "recovery ended before configured recovery target was reached"
_KEPT = "production and the backups were not touched"

_MEANINGS: list[tuple[str, type[BackupError], str, str]] = [
    (
        r"requested recovery stop point is before consistent recovery point",
        OutsideWindow,
        "The target lies before the end of the base backup, where recovery can stop at the earliest",
        "choose an earlier base backup, or a later target",
    ),
    (
        r"WAL ends before (?:end of online backup|consistent recovery point)",
        LogGap,
        "The log given ends before the base backup does: its own files of the log are not all there",
        "give the log files from the base backup's start on, or use another base backup",
    ),
    (
        r"could not locate (?:a valid|required) checkpoint record|invalid checkpoint record",
        LogGap,
        "The first file of the log, with the base backup's checkpoint, is missing or damaged",
        "give the log files from the base backup's start on, or use another base backup",
    ),
    (
        r"requested timeline \d+ (?:is not a child of this server's history|does not contain minimum recovery point)",
        IntegrityError,
        "The log's newest timeline does not come from this base backup",
        "name the timeline, or use a base backup of that timeline",
    ),
    (
        r"could not (?:access|load) (?:file|library) \"([^\"]+)\"",
        ToolMissing,
        "A library that the cluster needs is not where the scratch server runs",
        "install it there, or recover in a container of the source's own image",
    ),
    (
        r"resource manager with ID \d+ not registered",
        ToolMissing,
        "The log holds records of an extension whose library was not loaded",
        "name the extension's library among those to keep",
    ),
    (r"No space left on device", DiskFull, "No room is left where the scratch server runs", "free some, and run again"),
    (
        r"database files are incompatible with server|not compatible with this version",
        ToolMissing,
        "The programs there cannot read this cluster: other version, block size or machine",
        "recover in a container of the source's own image",
    ),
    (
        r"maximum number of prepared transactions reached",
        ToolFailed,
        "More prepared transactions were open than the scratch server has room for",
        "end them on the source, or recover by hand with a larger max_prepared_transactions",
    ),
]


@dataclass(frozen=True)
class Said:
    """What the log told of a recovery.

    Attributes:
        last_commit: The last transaction applied, UTC; None when there was none since the base backup.
        timeline: The one begun at the promotion; 0 when there was no promotion.
        stopped: Where it stopped, in the server's words.
    """

    last_commit: datetime | None
    timeline: int
    stopped: str


def read(log: str) -> Said:
    """The last recovery in a log."""
    last, timeline, stopped = _LAST.findall(log), _TIMELINE.findall(log), _STOPPED.findall(log)
    return Said(
        datetime.fromisoformat(last[-1]).replace(tzinfo=UTC) if last else None,
        int(timeline[-1]) if timeline else 0,
        stopped[-1] if stopped else "",
    )


def restored(log: str) -> str:
    """The file of the log that was asked for last, or empty."""
    found = _RESTORED.findall(log)
    return str(found[-1]) if found else ""


def broken_off(log: str) -> str:
    """Why the server took a record for the end of the log, in its own words."""
    found = _BROKEN.findall(log)
    return found[-1].strip() if found else "the next record cannot be read"


def ended_early(log: str) -> bool:
    """The log was applied to its end without the target having been met."""
    return _ENDED in log


def refuse_before(moment: datetime | None, control: Mapping[str, str]) -> None:
    """PostgreSQL itself does not notice a time before the base backup when no commit was made during it.

    Raises:
        OutsideWindow: The base backup is younger than that moment.
    """
    begun = datetime.strptime(control["Time of latest checkpoint"], "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
    if moment is not None and moment < begun:
        raise OutsideWindow(
            f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC lies before the base backup, begun at "
            f"{begun:%Y-%m-%d %H:%M:%S} UTC.",
            kept=_KEPT,
            remedy="choose an earlier base backup, or a later target",
        )


def failure(log: str, where: str, goal: str) -> BackupError:
    """Why a server ended, from its own words."""
    fatal = re.findall(r"(?:FATAL|PANIC):\s+(.*)", log)
    said = fatal[-1] if fatal else next(iter(reversed(log.strip().splitlines())), "it left no words")
    for pattern, kind, meaning, remedy in _MEANINGS:
        if re.search(pattern, log):
            return kind(f"Recovery to {goal} failed: {meaning} ({said}).", kept=_KEPT, remedy=remedy)
    return ToolFailed(f"Recovery to {goal} on {where} failed: {said}.", kept=_KEPT)

"""Findings of the watch: a stable name, what it is about, how bad it is, and the figure behind it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.watch.reached import Reached


class Level(IntEnum):
    """How bad; the numbers are the exit codes of monitoring plugins (Nagios and its kin)."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3

    @property
    def word(self) -> str:
        return self.name.lower()


_BADNESS = (Level.OK, Level.UNKNOWN, Level.WARNING, Level.CRITICAL)
CONDITIONS = {
    "backup-age": "the newest good backup is too old, or there is none",
    "backup-damage": "a newer backup was found broken, or is incomplete",
    "backup-size": "the newest backup is unusually small or large",
    "vault-damage": "what is stored was found damaged by a verification of the vault",
    "verification": "nobody has read back what is stored for too long",
    "copies": "a replica lacks backups, or cannot be asked",
    "recovery-point": "logs do not reach as near to now as they should: a loss of the server would cost more",
    "log-shipping": "no log has been shipped for too long",
    "slot": "the replication slot of a PostgreSQL server lags, or is lost",
    "vault": "the local root of the vault cannot be read, or a signed record in it does not hold",
    "disk": "the disk of the vault's local root fills up",
    "disk-trend": "the disk of the vault's local root will soon be full, as it goes on",
    "drill": "no restore drill has proven it for too long, or the last one failed",
    "run": "a flow failed or crashed when it last ran",
    "zombie": "a run shows as running, and nothing is heard of it",
    "late": "a run that is due has not begun: no worker takes it",
    "key-age": "the current encryption key is over a year old",
    "release": "a snapshot from before a deployment was never released",
}
"""Every condition by its name, which stays as it is: alerts, metrics and runbooks are called after it."""
OF_RUNS = frozenset({"run", "zombie", "late"})
"""Conditions that only a Prefect server knows."""


@dataclass(frozen=True)
class Setback:
    """A run that failed or crashed lately.

    Attributes:
        key: The server's own for this end of it, by which it is told once.
        at: When it ended so, UTC.
        said: ``night-owl failed: the disk is full``.
    """

    key: str
    at: datetime
    said: str


@dataclass(frozen=True)
class Finding:
    """One condition of one thing.

    Attributes:
        condition: A name out of ``CONDITIONS``.
        about: ``mysql/workset``, a replica, ``local``...
        said: In a sentence.
        value: The figure behind it, in ``unit`` (``s``, ``B``, ``%``, or empty for a count); None without one.
        warning, critical: Beyond which ``value`` is that bad.
        setbacks: Of a flow the runs that ended badly since the look before, oldest first.
        again: When a run of it did well after the last of these, UTC.
    """

    condition: str
    about: str
    level: Level
    said: str
    value: float | None = None
    unit: str = ""
    warning: float | None = None
    critical: float | None = None
    setbacks: tuple[Setback, ...] = ()
    again: datetime | None = None

    @property
    def id(self) -> str:
        return f"{self.condition}/{self.about}"

    def as_dict(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "condition": self.condition, "about": self.about, "level": self.level.word, "said": self.said,
            "value": self.value, "unit": self.unit, "warning": self.warning, "critical": self.critical,
        }  # fmt: skip


@dataclass(frozen=True)
class Look:
    """What one look at a site found, the worst first.

    Attributes:
        unasked: Conditions that nobody could ask about this time.
        reached: From when to when each source can be brought back.
    """

    site: str
    findings: list[Finding] = field(default_factory=list)
    unasked: frozenset[str] = frozenset()
    reached: list[Reached] = field(default_factory=list)

    @property
    def level(self) -> Level:
        return worst(each.level for each in self.findings)

    @property
    def trouble(self) -> list[Finding]:
        return [each for each in self.findings if each.level is not Level.OK]

    def sentence(self) -> str:
        """One line: how many of each level, and the worst in words."""
        if not self.trouble:
            return f"all is well: {len(self.findings)} conditions looked at"
        counts = {level: sum(each.level is level for each in self.findings) for level in reversed(_BADNESS)}
        told = ", ".join(f"{count} {level.word}" for level, count in counts.items() if count and level is not Level.OK)
        more = f"; and {len(self.trouble) - 3} more" if len(self.trouble) > 3 else ""
        return f"{told}: {'; '.join(each.said for each in self.trouble[:3])}{more}"


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first."""
    return sorted(findings, key=lambda each: (-_BADNESS.index(each.level), each.id))


def worst(levels: Iterable[Level]) -> Level:
    """Critical before warning before unknown; OK of none."""
    return max(levels, key=_BADNESS.index, default=Level.OK)


def above(value: float, warning: float, critical: float | None = None) -> Level:
    """How bad a figure is that may not be above these; critical is twice the warning unless it is given."""
    if value > (2 * warning if critical is None else critical):
        return Level.CRITICAL
    return Level.WARNING if value > warning else Level.OK

"""What a drill comes to: checks, each on a rung of the ladder, and three outcomes.

``proven``: it was looked at and is as it must be. ``failed``: it is not. ``could not verify``: nobody knows, which
is never as good as proven. Times are UTC, spans in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from engine import names
from engine.durations import in_words, seconds_of

Verdict = Literal["proven", "failed", "could not verify"]
PROVEN: Verdict = "proven"
FAILED: Verdict = "failed"
UNVERIFIED: Verdict = "could not verify"
_RANK: dict[Verdict, int] = {PROVEN: 0, UNVERIFIED: 1, FAILED: 2}

Rung = Literal["opens", "structure", "volume", "content", "meaning", "point in time", "target"]
"""From the bottom up: it can be read and loaded; it has every table and definition; as many rows or files; the same
ones; the answers that the site expects. Then: any second can be had; in time."""
SERVERS = ("mysql", "postgres")
"""Kinds of sources that have logs: what an RPO is about."""
_SHOWN = 10
RESTORE = "restore"
"""The check that a backup could be brought back at all."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        what: What was compared or run: ``row counts``, ``CHECK TABLE``.
        said: What it came to, in a sentence.
        problems: What is wrong, each naming its table or file.
    """

    rung: Rung
    what: str
    verdict: Verdict
    said: str
    problems: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def words(self) -> str:
        """What it came to, with the problems."""
        more = f"; and {len(self.problems) - _SHOWN} more" if len(self.problems) > _SHOWN else ""
        told = "; ".join(self.problems[:_SHOWN]) + more
        return f"{self.said}: {told}" if self.problems else self.said

    def as_dict(self) -> dict[str, Any]:
        """For scripts and records."""
        return {
            "rung": self.rung,
            "what": self.what,
            "verdict": self.verdict,
            "said": self.said,
            "problems": list(self.problems),
            "seconds": round(self.seconds, 3),
        }


def plural(count: int, word: str) -> str:
    """``1 table``, ``1,200 tables``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of them; of none: nobody knows."""
    return max(verdicts, key=lambda each: _RANK[each], default=UNVERIFIED)


@dataclass
class PieceResult:
    """One backup of one database (or archive of files) that was restored.

    Attributes:
        file: The backup; empty where there was none to restore.
        taken_at: When it was begun; None where there was none.
        restore_seconds: From its first byte to the restored copy.
        only_read: Why it was read and restored nowhere, in words; empty where a restore was tried.
        waived: Only read because the site wants no more: not as it must be proven, and not doubted either.
    """

    source: str
    database: str
    file: str = ""
    tier: str = ""
    location: str = ""
    taken_at: datetime | None = None
    bytes: int = 0
    holds: str = ""
    restore_seconds: float = 0.0
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    only_read: str = ""
    waived: bool = False

    def __str__(self) -> str:
        return f"{self.source}/{self.database}"

    @property
    def verdict(self) -> Verdict:
        return worst(check.verdict for check in self.checks)

    @property
    def restored(self) -> bool:
        """Was it brought back, whatever was found then?"""
        return any((check.what, check.verdict) == (RESTORE, PROVEN) for check in self.checks)

    @property
    def timed(self) -> bool:
        """Is it a part of the time that a restore takes? Not where reading it is all that a drill does."""
        return not self.only_read or any(check.what == RESTORE for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """For scripts and records."""
        return {
            "source": self.source,
            "database": self.database,
            "file": self.file,
            "tier": self.tier,
            "location": self.location,
            "taken_at": names.iso(self.taken_at) if self.taken_at else None,
            "bytes": self.bytes,
            "holds": self.holds,
            "verdict": self.verdict,
            "restore_seconds": round(self.restore_seconds, 3),
            "only_read": self.only_read,
            "waived": self.waived,
            "checks": [check.as_dict() for check in self.checks],
            "notes": self.notes,
        }


@dataclass
class SourceResult:
    """One source.

    Attributes:
        place: Where it was restored, in words.
        restore_seconds: Real time until every backup of it was back: making the place, reading, loading.
        past_seconds: Real time until it was back at a moment of its logs; None where that was not tried.
        past_estimate: Where only some of its databases were: about what all of them would have taken; else None.
        rpo_seconds: What would be lost if its host were lost now: the age of the newest recoverable moment of
            the database that is worst off. None where nothing can be recovered.
        rto_target, rpo_target: Its own, as the site writes them, or empty.
        checks: Of the source as a whole.
    """

    source: str
    kind: str
    place: str = ""
    pieces: list[PieceResult] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    restore_seconds: float = 0.0
    past_seconds: float | None = None
    past_estimate: float | None = None
    rpo_seconds: float | None = None
    rto_target: str = ""
    rpo_target: str = ""

    @property
    def rto_seconds(self) -> float:
        """The longer of the two ways back: from the newest backup, and through the logs. In part estimated where
        there is an estimate."""
        return max(self.measured_seconds, self.past_estimate or 0.0)

    @property
    def measured_seconds(self) -> float:
        """The same, as far as it was measured."""
        return max(self.restore_seconds, self.past_seconds or 0.0)

    @property
    def verdict(self) -> Verdict:
        return worst([*(piece.verdict for piece in self.pieces), *(check.verdict for check in self.checks)])

    def as_dict(self) -> dict[str, Any]:
        """For scripts and records."""
        return {
            "source": self.source,
            "kind": self.kind,
            "place": self.place,
            "verdict": self.verdict,
            "rto_seconds": round(self.rto_seconds, 3),
            "restore_seconds": round(self.restore_seconds, 3),
            "point_in_time_seconds": None if self.past_seconds is None else round(self.past_seconds, 3),
            "point_in_time_estimate": None if self.past_estimate is None else round(self.past_estimate, 3),
            "rpo_seconds": None if self.rpo_seconds is None else round(self.rpo_seconds, 3),
            "rto_target": self.rto_target or None,
            "rpo_target": self.rpo_target or None,
            "databases": [piece.as_dict() for piece in self.pieces],
            "checks": [check.as_dict() for check in self.checks],
            "notes": self.notes,
        }


@dataclass
class DrillResult:
    """A drill.

    Attributes:
        id: ``20250116_020000-3f9a1c20``.
        seed: What was drawn by lot was drawn with it: the sample of tables, the moment of the logs.
        rto: The site's target as it writes it; empty where there is none, and where not all of the site was drilled.
        rpo: The site's target as it writes it, or empty.
    """

    site: str
    id: str
    seed: int
    thorough: bool
    asked: dict[str, str]
    begun_at: datetime
    finished_at: datetime
    rto: str = ""
    rpo: str = ""
    sources: list[SourceResult] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def rto_seconds(self) -> float:
        """All sources, one after another, as they were restored here."""
        return sum(source.rto_seconds for source in self.sources)

    @property
    def rpo_seconds(self) -> float | None:
        """That of the database server that is worst off; of files where there is no server."""
        known = [each for each in self.sources if each.rpo_seconds is not None]
        servers = [each for each in known if each.kind in SERVERS]
        return max((each.rpo_seconds for each in servers or known if each.rpo_seconds is not None), default=None)

    @property
    def rpo_missed(self) -> list[SourceResult]:
        """The sources that would lose more than their target allows."""
        held = [(each, self.rpo_for(each)) for each in self.sources if each.rpo_seconds is not None]
        return [each for each, target in held if target and (each.rpo_seconds or 0.0) > seconds_of(target)]

    def rpo_for(self, source: SourceResult) -> str:
        """What a source is held against, or empty: its own target, or of a database server the site's."""
        return source.rpo_target or (self.rpo if source.kind in SERVERS else "")

    @property
    def verdict(self) -> Verdict:
        return worst([*(source.verdict for source in self.sources), *(check.verdict for check in self.checks)])

    def pieces(self) -> list[PieceResult]:
        """Every backup that was restored."""
        return [piece for source in self.sources for piece in source.pieces]

    def trouble(self) -> list[tuple[str, Check]]:
        """Every check that is not proven, the failed ones first, with what it is about."""
        found = [(str(piece), check) for piece in self.pieces() for check in piece.checks]
        found += [(source.source, check) for source in self.sources for check in source.checks]
        found += [(self.site, check) for check in self.checks]
        return sorted((each for each in found if each[1].verdict != PROVEN), key=lambda each: -_RANK[each[1].verdict])

    def sentence(self) -> str:
        """What it came to, in one line that names what is wrong first."""
        pieces = self.pieces()
        if self.verdict != PROVEN:
            told = [f"{about}: {check.what}: {check.words}" for about, check in self.trouble()]
            more = f"; and {len(told) - 3} more" if len(told) > 3 else ""
            return f"drill of {self.site} {self.verdict}: {'; '.join(told[:3]) or 'nothing was restored'}{more}"
        back, read = [each for each in pieces if each.restored], [each for each in pieces if each.only_read]
        about = "about " if any(each.past_estimate is not None for each in self.sources) else ""
        told = [f"{plural(len(back), 'backup')} restored and checked"] if back else []
        told += [f"{each} only read ({each.only_read})" for each in read]
        told += [f"RTO {about}{in_words(self.rto_seconds)}"] if back else []
        told += [f"RPO {in_words(self.rpo_seconds)}"] if self.rpo_seconds is not None else []
        return f"drill of {self.site} proven: {', '.join(told)}"

    def as_dict(self) -> dict[str, Any]:
        """For scripts and records."""
        return {
            "site": self.site,
            "id": self.id,
            "verdict": self.verdict,
            "said": self.sentence(),
            "seed": self.seed,
            "thorough": self.thorough,
            "asked": self.asked,
            "begun_at": names.iso(self.begun_at),
            "finished_at": names.iso(self.finished_at),
            "rto_seconds": round(self.rto_seconds, 3),
            "rto_target": self.rto or None,
            "rpo_seconds": None if self.rpo_seconds is None else round(self.rpo_seconds, 3),
            "rpo_target": self.rpo or None,
            "rpo_missed": [each.source for each in self.rpo_missed],
            "sources": [source.as_dict() for source in self.sources],
            "checks": [check.as_dict() for check in self.checks],
            "notes": self.notes,
        }

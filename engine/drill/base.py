"""How a source is drilled: a throwaway place, every backup restored into it, then each proven rung by rung.

A kind of source is one class: ``place`` makes the place (and takes it away), ``restore`` brings one backup back in
it, ``prove`` yields what was looked at. ``past`` may add a recovery to a moment of the logs. What goes wrong on the
way is judged here: a backup that cannot be restored has failed; a place that cannot be had proves nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from engine import stopping
from engine.catalog import Entry
from engine.drill.verdict import FAILED, PROVEN, RESTORE, UNVERIFIED, Check, PieceResult, Rung, SourceResult, Verdict
from engine.durations import in_words
from engine.errors import (
    BackupError,
    Cancelled,
    DiskFull,
    IntegrityError,
    LogGap,
    MissingGrant,
    NotFound,
    OutsideWindow,
    RestoreRefused,
    ToolFailed,
    UnknownName,
    Unreadable,
    WrongKey,
)
from engine.errors import in_words as foreseen
from engine.manifest import Manifest
from engine.progress import Progress, silent
from engine.site import Site
from engine.verdicts import CONTENT
from engine.verify import was_removed

Copies = list[tuple[Entry, Manifest]]
Place = TypeVar("Place")

_OF_BACKUPS = (IntegrityError, WrongKey, NotFound, Unreadable, RestoreRefused, ToolFailed, MissingGrant, UnknownName,
               LogGap, OutsideWindow)  # fmt: skip
"""Raised while a backup is restored, these speak of the backup. Anything else speaks of the place or the store."""
_UNREADABLE = (IntegrityError, WrongKey, NotFound, Unreadable)


@dataclass
class Piece:
    """One backup that is to be restored.

    Attributes:
        copies: Where it stands, best place first. Empty where ``missing`` says why there is none.
        entry, manifest: The copy that was restored.
    """

    source: str
    database: str
    copies: Copies
    missing: BackupError | None = None
    notes: list[str] = field(default_factory=list)
    restored: tuple[Entry, Manifest] | None = None

    @property
    def entry(self) -> Entry:
        return (self.restored or self.copies[0])[0]

    @property
    def manifest(self) -> Manifest:
        return (self.restored or self.copies[0])[1]


@dataclass
class Work:
    """What every source's drill is given.

    Attributes:
        thorough: Compare the rows of every table, not of a sample.
        past: Recover to a moment of the logs, too, where there are logs.
        seed: Of every lot that is drawn: which tables, which moment.
    """

    site: Site
    seed: int
    thorough: bool = False
    past: bool = True
    progress: Progress = silent

    def lots(self, what: str) -> random.Random:
        """What draws by lot for one purpose: the same whatever else is drilled."""
        return random.Random(f"{self.seed}/{what}")

    def sample(self, piece: Piece, tables: list[str]) -> list[str]:
        """Some of the tables, by lot; all of them where it is to be thorough."""
        wanted = self.site.config.drill.sample
        if self.thorough or len(tables) <= wanted:
            return sorted(tables)
        return sorted(self.lots(f"{piece.source}/{piece.database}").sample(sorted(tables), wanted))


@dataclass(frozen=True)
class OnlyRead:
    """Why the backups of a source are read, and restored nowhere.

    Attributes:
        remedy: What makes that they are restored; empty where reading them is all that is to be done.
        waived: The site wants no more than that.
    """

    why: str
    remedy: str = ""
    waived: bool = False


class SourceDrill(ABC, Generic[Place]):
    """One source. Made anew for each drill.

    Args:
        pieces: What is to be restored.
    """

    kind: str

    def __init__(self, work: Work, source: str, pieces: list[Piece]) -> None:
        self.work = work
        self.site = work.site
        self.source = source
        self.pieces = pieces
        self.result = SourceResult(source, self.kind)

    @abstractmethod
    def place(self) -> AbstractContextManager[Place]:
        """A throwaway place for everything of this source, gone when the block is left, however it is left."""

    @abstractmethod
    def describe(self, place: Place) -> str:
        """The place in words."""

    @abstractmethod
    def restore(self, place: Place, piece: Piece, entry: Entry, manifest: Manifest) -> list[str]:
        """Bring one backup back from one of its copies; notes for a person. A failed try may be followed by another
        with the next copy, so nothing of it may stay."""

    @abstractmethod
    def prove(self, place: Place, piece: Piece) -> Iterator[Check]:
        """Look at what was restored."""

    def only_read(self, place: Place) -> OnlyRead | None:
        """Why ``restore`` only reads in this place; None where it restores."""
        return None

    @property
    def waived(self) -> bool:
        """Does the site say that this source is only to be read?"""
        return self.source in self.site.config.drill.not_restored

    def nowhere(self, why: str, remedy: str) -> OnlyRead:
        """There is no place to restore into: the site's own will, or a lack that one setting ends."""
        if self.waived:
            return OnlyRead("drill.not_restored of the site file", waived=True)
        return OnlyRead(why, f"{remedy}; or, to have it only read, name {self.source} in drill.not_restored")

    def alive(self, place: Place) -> bool:
        """Is the place still there? A tool that fails in one that died says nothing about the backup."""
        return True

    def past(self) -> Iterator[Check]:
        """A recovery to a moment of the logs, proven."""
        return iter(())

    def rpo(self) -> float | None:
        """Seconds that would be lost if the source's host were lost now."""
        from engine.drill.choose import newest_loss

        return newest_loss(self.site, self.source, [each.database for each in self.pieces])

    def run(self) -> SourceResult:
        """Restore and prove everything. Raises Cancelled; any other trouble becomes a check, also what nobody foresaw:
        it must not cost the sources that come next their drill, nor the record."""
        results = {id(piece): self._result_of(piece) for piece in self.pieces}
        self.result.pieces = list(results.values())
        there = [piece for piece in self.pieces if piece.missing is None]
        if there:
            self._rehearse(there, results)
        if self.work.past and there:
            self._judged(self.result.checks, "point in time", "recovery through the logs", self.past)
        try:
            self.result.rpo_seconds = self.rpo()
        except Cancelled:
            raise
        except Exception as failure:
            error = foreseen(failure, f"Looking for the newest moment of {self.source}")
            self.result.notes.append(f"the newest recoverable moment is not known: {error.message}")
        return self.result

    def _rehearse(self, pieces: list[Piece], results: dict[int, PieceResult]) -> None:
        begun = time.monotonic()
        try:
            with self.place() as place:
                self.result.place = self.describe(place)
                back = [piece for piece in pieces if self._restore(place, piece, results[id(piece)])]
                if self.only_read(place) is None:
                    self.result.restore_seconds = time.monotonic() - begun
                for piece in back:
                    stopping.check(f"the drill of {self.source}")
                    self._judged(results[id(piece)].checks, "content", "proof", partial(self.prove, place, piece))
        except Cancelled:
            raise
        except Exception as failure:
            error = foreseen(failure, f"The place for the drill of {self.source}")
            if not self.result.place:
                said = f"no throwaway place could be had ({error.message})"
            else:
                said = f"the throwaway place failed ({error.message})"
            check = Check("opens", "a place to restore into", UNVERIFIED, with_remedy(said, error))
            for piece in pieces:
                results[id(piece)].checks.append(check)

    def _restore(self, place: Place, piece: Piece, result: PieceResult) -> bool:
        """Restored, from the first copy that can be read?"""
        for index, (entry, manifest) in enumerate(piece.copies):
            begun = time.monotonic()
            try:
                result.notes += self.restore(place, piece, entry, manifest)
            except Cancelled:
                raise
            except _UNREADABLE as error:
                self._found_broken(entry, error, result)
                if index + 1 < len(piece.copies):
                    result.notes.append(f"the copy in {entry.location} is not usable ({error.message}); used the next")
                    continue
                result.checks.append(Check("opens", RESTORE, FAILED, with_remedy(error.message, error)))
                return False
            except Exception as failure:
                known = foreseen(failure, f"Restoring {entry.file}")
                verdict = self.judge(known) if self.alive(place) else UNVERIFIED
                result.checks.append(Check("structure", RESTORE, verdict, with_remedy(known.message, known)))
                return False
            piece.restored = (entry, manifest)
            self._describe(result, entry, manifest)
            result.checks += _opened(result, self.only_read(place), time.monotonic() - begun)
            return True
        return False

    def judge(self, error: BackupError) -> Verdict:
        """What an error while restoring or proving says of the backup."""
        return FAILED if isinstance(error, _OF_BACKUPS) else UNVERIFIED

    def _judged(self, checks: list[Check], rung: Rung, what: str, look: Callable[[], Iterator[Check]]) -> None:
        """Take every check that comes; an error in between is one, too."""
        try:
            for check in look():
                checks.append(check)
        except Cancelled:
            raise
        except Exception as failure:
            error = foreseen(failure, f"The {what} of {self.source}")
            checks.append(Check(rung, what, self.judge(error), with_remedy(error.message, error)))

    def _result_of(self, piece: Piece) -> PieceResult:
        result = PieceResult(piece.source, piece.database, notes=list(piece.notes))
        if piece.missing is not None:
            verdict = FAILED if isinstance(piece.missing, _OF_BACKUPS) else UNVERIFIED
            result.checks.append(Check("opens", "a backup", verdict, with_remedy(piece.missing.message, piece.missing)))
        else:
            self._describe(result, *piece.copies[0])
        return result

    @staticmethod
    def _describe(result: PieceResult, entry: Entry, manifest: Manifest) -> None:
        result.file, result.tier, result.location = manifest.file, manifest.tier, entry.location
        result.taken_at, result.holds = manifest.taken_at, manifest.holds
        result.bytes = sum(part.plain_size for part in manifest.files)

    def _found_broken(self, entry: Entry, error: BackupError, result: PieceResult) -> None:
        """Stored bytes that are not what was written count as good no longer."""
        if isinstance(error, WrongKey):
            return
        with contextlib.suppress(BackupError):
            if was_removed(self.site.vault, entry):
                result.notes.append(f"retention removed {entry.file} from {entry.location} meanwhile")
                return
            self.site.vault.mark(entry, "broken", reason=error.message, **{CONTENT: False})
            result.notes.append(f"{entry.file} in {entry.location} is marked as broken")

    def part_of(self, entry: Entry, manifest: Manifest, role: str) -> Iterator[bytes]:
        """Plain bytes of a part; the first comes when the stored digest has been checked."""
        chunks = self.site.vault.read_part(entry, manifest, role, self.work.progress)
        first = next(chunks, b"")
        return itertools.chain([first] if first else [], chunks)


def _opened(result: PieceResult, only: OnlyRead | None, seconds: float) -> Iterator[Check]:
    """What it says of a backup that it could be brought back; or only read."""
    holds = "signature, digests and encryption hold"
    if only is None:
        result.restore_seconds = seconds
        yield Check("opens", RESTORE, PROVEN, f"{holds}; restored in {in_words(seconds)}", seconds=seconds)
        return
    result.only_read, result.waived = only.why, only.waived
    yield Check("opens", "reading", PROVEN, f"{holds}; read in {in_words(seconds)}", seconds=seconds)
    if only.remedy:
        yield Check("opens", RESTORE, UNVERIFIED, f"only read: {only.why} (next: {only.remedy})")
    elif only.waived:
        result.notes.append("by the site's word (drill.not_restored) not restored: only read and counted")


def room_needed(what: str, needed: int, free: int, where: str) -> None:
    """Raises DiskFull, with figures in bytes."""
    if free < needed:
        raise DiskFull(
            f"{what} needs about {needed:,} bytes in {where}; {free:,} are free.",
            kept="nothing was begun; production and the backups were not touched",
            remedy=f"free {needed - free:,} bytes there",
        )


def with_remedy(said: str, error: BackupError) -> str:
    """What is said of an error, and what to do next."""
    said = said.rstrip().rstrip(".")
    return f"{said} (next: {error.remedy})" if error.remedy else said

"""What drills say of a single backup, for whoever is about to rely on it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from engine import names
from engine.drill.record import Doubt, Proofs, proofs
from engine.durations import roughly
from engine.errors import BackupError

if TYPE_CHECKING:
    from engine.catalog import Entry
    from engine.manifest import Manifest
    from engine.site import Site, Target

NEVER = "never proven by a drill"
Copies = Sequence[tuple["Entry", "Manifest"]]


@dataclass(frozen=True)
class Told:
    """What drills say of it.

    Attributes:
        proven: When a drill last proved it, UTC; None where none did.
        doubt: Its last drill, where that did not prove it.
    """

    proven: datetime | None = None
    doubt: Doubt | None = None

    @property
    def failed(self) -> bool:
        return self.doubt is not None and self.doubt.failed

    def said(self) -> str:
        """``proven by a drill 3 days ago``."""
        return f"proven by a drill {_ago(self.proven)}" if self.proven else NEVER

    def warning(self) -> str:
        """Empty where its last drill proved it, or there was none."""
        if self.doubt is None:
            return ""
        if not self.failed:
            return f"Its last drill, {_ago(self.doubt.at)}, could not verify it."
        return (
            f"WARNING: THIS BACKUP FAILED ITS LAST DRILL, {_ago(self.doubt.at)}: what comes out of it may not be what "
            "was backed up. Restore another one unless there is none: backups list shows which are proven."
        )

    def lines(self) -> list[str]:
        """Of a plan."""
        said = self.said()
        return [each for each in (self.warning(), f"It was {said}.") if each]

    def as_dict(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "proven_at": names.iso(self.proven) if self.proven else None,
            "drill_failed_at": names.iso(self.doubt.at) if self.doubt and self.failed else None,
        }


def of_drills(site: Site, target: Target, copies: Copies, known: Proofs | None = None) -> Told:
    """By the records of drills; where they say nothing of it, by its marks.

    Args:
        copies: Of the backup, wherever it is.
        known: What drills have proven, where that was asked already.
    """
    known = proofs(site.vault) if known is None else known
    file = copies[0][1].file
    proof = known.files.get(file)
    doubt = next((each for each in known.doubts.get(target, []) if each.file == file), None)
    if proof is not None or doubt is not None:
        return Told(proof.at if proof else None, doubt)
    return _by_marks(site, file, [entry for entry, _ in copies])


def of_each(site: Site, every: Mapping[Target, Copies]) -> dict[str, Told]:
    """Of several backups, by what each is of."""
    known = proofs(site.vault)
    return {str(target): of_drills(site, target, copies, known) for target, copies in every.items() if copies}


def of_all(every: Mapping[str, Told]) -> list[str]:
    """Of several backups that are restored together, by what each is of; lines of a plan."""
    proven = [each.proven for each in every.values() if each.proven is not None]
    never = [name for name, each in every.items() if each.proven is None]
    said = f"{len(proven)} of {len(every)} backups were proven by a drill"
    said += f", the longest ago {_ago(min(proven))}" if proven else ""
    said += f"; never proven: {', '.join(never)}" if never and proven else ""
    return [*(f"{name}: {each.warning()}" for name, each in every.items() if each.doubt), f"{said}."] if every else []


def _by_marks(site: Site, file: str, copies: Sequence[Entry]) -> Told:
    marks: list[dict[str, Any]] = []
    for entry in copies:
        with contextlib.suppress(BackupError):
            marks += [each for each in site.vault.marks(entry) if each.get("kind") in ("proven", "drill-failed")]
    marks.sort(key=lambda each: each["at"])
    proven = [datetime.fromisoformat(each["at"]) for each in marks if each["kind"] == "proven"]
    bad = bool(marks) and marks[-1]["kind"] == "drill-failed"
    doubt = Doubt(datetime.fromisoformat(marks[-1]["at"]), file, failed=True, overtaken=False) if bad else None
    return Told(proven[-1] if proven else None, doubt)


def _ago(at: datetime) -> str:
    return f"{roughly(max((names.now() - at).total_seconds(), 0.0))} ago"

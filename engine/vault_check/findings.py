"""What a verification of the vault finds, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from engine import names
from engine.errors import BackupError

Severity = Literal["damage", "unsure", "stray", "note"]
"""``damage``: something that was stored is not what it was. ``unsure``: it could not be judged, which is never good.
``stray``: something stands there that belongs to nothing; no backup suffers. ``note``: to be known, no more."""
Kind = Literal[
    "damaged", "forged", "lost", "no manifest", "differs", "content", "mark", "document", "log gap", "not copied",
    "orphan", "leftover", "unfinished", "unreadable", "cold", "expired",
]  # fmt: skip


@dataclass
class Finding:
    """One thing that is not as it should be.

    Attributes:
        what: Key of the file it is about; of a backup its data's.
        words: What is wrong with it.
        healed: How it was put right; empty when it was not.
        left: Why it was not put right.
    """

    location: str
    kind: Kind
    what: str
    words: str
    severity: Severity = "damage"
    healed: str = ""
    left: str = ""

    @property
    def file(self) -> str:
        return self.what.rsplit("/", 1)[-1]

    @property
    def open(self) -> bool:
        """Is it damage, or doubt, that is still there?"""
        return not self.healed and self.severity in ("damage", "unsure")

    def __str__(self) -> str:
        after = f"; healed: {self.healed}" if self.healed else f"; not healed: {self.left}" if self.left else ""
        return f"{self.what} in {self.location}: {self.words}{after}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "location": self.location, "kind": self.kind, "severity": self.severity, "what": self.what,
            "words": self.words, "healed": self.healed, "left": self.left,
        }  # fmt: skip


@dataclass
class PlaceReport:
    """What became of one place; sizes in bytes.

    Attributes:
        stored: Backups that are there.
        due: Of these the ones whose turn it was, and ``read`` those that were read back and are whole.
        contents_read: Contents of buckets that were read back and are whole, of ``contents``.
        documents: Site files and records of drills that were read.
        cold: Backups whose data stands in cold storage: only presence, size and class were compared.
        oldest: When the copy that has waited longest was last proven, before this run; None where there is none.
        error: Why the place could not be looked at, or not to the end.
    """

    location: str
    now: datetime
    dry_run: bool = False
    stored: int = 0
    stored_bytes: int = 0
    due: int = 0
    due_bytes: int = 0
    read: int = 0
    read_bytes: int = 0
    contents: int = 0
    contents_read: int = 0
    documents: int = 0
    cold: int = 0
    oldest: datetime | None = None
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)
    error: BackupError | None = None

    def of(self, severity: Severity, *, healed: bool | None = None) -> list[Finding]:
        """The findings of that weight; healed ones, open ones, or both."""
        return [
            each for each in self.findings if each.severity == severity and healed in (None, bool(each.healed))
        ]  # fmt: skip

    @property
    def open(self) -> list[Finding]:
        """What is still wrong, or in doubt."""
        return [each for each in self.findings if each.open]

    def as_dict(self) -> dict[str, Any]:
        return {
            "location": self.location, "now": names.iso(self.now), "dry_run": self.dry_run, "stored": self.stored,
            "stored_bytes": self.stored_bytes, "due": self.due, "due_bytes": self.due_bytes, "read": self.read,
            "read_bytes": self.read_bytes, "contents": self.contents, "contents_read": self.contents_read,
            "documents": self.documents, "cold": self.cold, "seconds": round(self.seconds, 1),
            "oldest_proof": names.iso(self.oldest) if self.oldest else None,
            "findings": [each.as_dict() for each in self.findings],
        }  # fmt: skip


Outcome = Literal["clean", "healed", "damaged", "could not verify"]


def outcome_of(reports: list[PlaceReport]) -> Outcome:
    """What the places come to, the worst first."""
    if any(finding.open and finding.severity == "damage" for each in reports for finding in each.findings):
        return "damaged"
    if any(each.error is not None or each.open for each in reports):
        return "could not verify"
    healed = any(each.of("damage", healed=True) for each in reports)
    return "healed" if healed else "clean"

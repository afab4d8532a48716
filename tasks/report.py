"""What a backup run leaves to read: a table of what was backed up, the story, and one line for its state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from engine import names
from engine.catalog import Entry
from engine.drill.record import Proof
from engine.errors import BackupError
from engine.site import Swept, Target
from engine.stores.base import Stored
from engine.verify import VerifyReport
from tasks.base import reason
from tasks.databases import Captured
from tasks.words import duration, plural, rate, size


@dataclass
class Row:
    """One database's backup of this run."""

    captured: Captured
    report: VerifyReport | None
    copies: dict[str, str] = field(default_factory=dict)


@dataclass
class Ledger:
    """What a run did and what it could not, as it happens."""

    site: str
    tier: str
    recovery_point: str = field(default_factory=names.recovery_point)
    swept: Swept = field(default_factory=lambda: Swept([], []))
    rows: list[Row] = field(default_factory=list)
    losses: dict[str, BackupError] = field(default_factory=dict)
    doubts: dict[str, BackupError] = field(default_factory=dict)
    gaps: dict[str, tuple[list[str], BackupError]] = field(default_factory=dict)
    caught_up: list[str] = field(default_factory=list)
    last_proven: dict[Target, Proof] = field(default_factory=dict)

    def lost(self, what: str, error: BackupError) -> None:
        """No backup was made of it."""
        self.losses[what] = error

    def proven(self, captured: Captured, report: VerifyReport) -> None:
        """Backed up and verified."""
        self.rows.append(Row(captured, report))

    def unproven(self, captured: Captured, error: BackupError) -> None:
        """Backed up, but its verification failed."""
        self.rows.append(Row(captured, None))
        self.doubts[captured.entry.file] = error

    def copied(self, replica: str, entry: Entry, stored: Stored, *, caught_up: bool) -> None:
        """A copy stands at a replica."""
        if caught_up:
            self.caught_up.append(f"{entry.file} to {replica}")
        for row in self.rows:
            if row.captured.entry.file == entry.file:
                row.copies[replica] = stored.proof

    def missing(self, replica: str, entries: Sequence[Entry], error: BackupError) -> None:
        """Copies that a replica did not get."""
        self.gaps[replica] = ([entry.file for entry in entries], error)

    @property
    def incomplete(self) -> dict[str, list[str]]:
        """What is missing in the backups of files that could not be read wholly, by target."""
        manifests = ((str(row.captured.target), row.captured.manifest.incomplete) for row in self.rows)
        return {target: missing for target, missing in manifests if missing}

    @property
    def failed(self) -> bool:
        return bool(self.losses or self.doubts or self.gaps or self.incomplete)

    def verdict(self) -> str:
        """The state's message: the reason first, then what is safe and what to do."""
        if not self.failed:
            rows = sum(row.captured.manifest.total_rows for row in self.rows)
            stored = sum(row.captured.manifest.stored_bytes for row in self.rows)
            caught = f", {plural(len(self.caught_up), 'copy')} caught up" if self.caught_up else ""
            files = sum(int(row.captured.manifest.contents.get("files", 0)) for row in self.rows)
            formats = [row.captured.manifest.dump_format for row in self.rows]
            buckets, n8n = formats.count("bucket"), formats.count("n8n")
            archives = sum(row.captured.manifest.is_archive for row in self.rows) - buckets - n8n
            databases = len(formats) - archives - buckets - n8n
            workflows = sum(int(row.captured.manifest.contents.get("workflows", 0)) for row in self.rows)
            objects = sum(int(row.captured.manifest.contents.get("objects", 0)) for row in self.rows)
            held = [plural(rows, "row")] * bool(databases) + [plural(files, "file")] * bool(archives)
            held += [plural(objects, "object")] * bool(buckets) + [plural(workflows, "workflow")] * bool(n8n)
            what = [plural(databases, "database")] * bool(databases) + [plural(archives, "archive")] * bool(archives)
            what += [plural(buckets, "bucket")] * bool(buckets) + [f"{n8n} n8n"] * bool(n8n)
            return (
                f"{' and '.join(what)} backed up and verified: {', '.join(held)}, "
                f"{size(stored)} stored at {', '.join(self._places())}{caught}"
            )
        reasons = [f"{what} is not backed up: {reason(error)}" for what, error in self.losses.items()]
        reasons += [f"{file} fails its verification: {reason(error)}" for file, error in self.doubts.items()]
        reasons += [f"{target} is incomplete: {_named(missing)}" for target, missing in self.incomplete.items()]
        reasons += [self._gap(replica) for replica in self.gaps]
        verified = [row.captured for row in self.rows if row.report]
        done = [
            f"{each.target} ({each.entry.file}{', incomplete' if each.manifest.incomplete else ''})"
            for each in verified
        ]
        lines = ["; ".join(reasons) + "."]
        if done:
            lines.append(f"Kept safe: verified in the local vault: {', '.join(done)}")
        errors = [*self.losses.values(), *self.doubts.values(), *(error for _, error in self.gaps.values())]
        if self.incomplete:
            lines.append(
                "Next: make these readable, or take them out of the site file; until then the last complete one counts"
            )
        lines += [f"Next: {remedy}" for remedy in dict.fromkeys(error.remedy for error in errors) if remedy]
        if self.gaps:
            lines.append("The next run copies what is missing.")
        return "\n".join(lines)

    def _gap(self, replica: str) -> str:
        files, error = self.gaps[replica]
        shown = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
        return f"Copy missing at {replica} ({shown or 'state unknown'}): {reason(error)}"

    def _places(self) -> list[str]:
        return ["local", *dict.fromkeys(replica for row in self.rows for replica in row.copies)]


def publish(ledger: Ledger) -> None:
    """Leave the artifacts of a run under keys that stay the same, so that the UI shows their history."""
    create_table_artifact(
        key=f"{ledger.site}-backups",
        table=[_cells(row, ledger) for row in ledger.rows] + _lost_cells(ledger),
        description=f"{ledger.tier} backup of {ledger.site}, {names.now():%Y-%m-%d %H:%M} UTC: "
        + ledger.verdict().splitlines()[0],
    )
    create_markdown_artifact(
        key=f"{ledger.site}-last-backup",
        markdown=_story(ledger),
        description=f"What the last {ledger.tier} backup of {ledger.site} did",
    )


def _cells(row: Row, ledger: Ledger) -> dict[str, Any]:
    manifest = row.captured.manifest
    data = manifest.data
    missing = [replica for replica, (files, _) in ledger.gaps.items() if row.captured.entry.file in files]
    return {
        "database": str(row.captured.target),
        "size": size(data.plain_size),
        "holds": manifest.holds,
        "stored where": ", ".join(["local", *row.copies]) + "".join(f"; MISSING at {each}" for each in missing),
        "duration": duration(row.captured.seconds),
        "rate": rate(data.plain_size, row.captured.seconds),
        "stored": size(manifest.stored_bytes),
        "last proven": _last_proven(row, ledger),
        "backup": row.captured.entry.file,
        "verified how": _proof(row, ledger),
    }


def _last_proven(row: Row, ledger: Ledger) -> str:
    """When a drill last restored a backup of this database and found everything as it must be."""
    proof = ledger.last_proven.get(row.captured.target)
    return f"{proof.at:%Y-%m-%d} ({proof.file})" if proof else "never"


def _proof(row: Row, ledger: Ledger) -> str:
    if row.report is None:
        return f"FAILED: {reason(ledger.doubts[row.captured.entry.file])}"
    if row.captured.manifest.incomplete:
        return f"INCOMPLETE: {_named(row.captured.manifest.incomplete)}"
    copies = "".join(f"; {replica}: {proof}" for replica, proof in row.copies.items())
    return f"local: {', '.join(row.report.checks)}{copies}"


def _named(missing: list[str]) -> str:
    return "; ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")


def _lost_cells(ledger: Ledger) -> list[dict[str, Any]]:
    return [
        {"database": what, "holds": "NOTHING", "backup": "NONE", "verified how": f"FAILED: {reason(error)}"}
        for what, error in ledger.losses.items()
    ]


def _story(ledger: Ledger) -> str:
    lines = [f"# {ledger.tier} backup of {ledger.site}", "", *ledger.verdict().splitlines(), ""]
    lines += [f"Recovery point: `{ledger.recovery_point}`", ""]
    for row in ledger.rows:
        manifest = row.captured.manifest
        lines.append(
            f"- **{row.captured.target}** `{row.captured.entry.key}`: {manifest.holds}, "
            f"{size(manifest.data.plain_size)} dumped in {duration(row.captured.seconds)}"
        )
        lines += [f"  - MISSING: {missing}" for missing in manifest.incomplete]
        lines += [f"  - {warning}" for warning in manifest.warnings]
    lines += [f"- caught up: {each}" for each in ledger.caught_up]
    lines += [f"- swept: {each}" for each in ledger.swept.done]
    lines += [f"- not yet swept: {each}" for each in ledger.swept.problems]
    return "\n".join(lines)

"""Tasks of verifying the vault: one place at a time, and the table and the event of what was found."""

from __future__ import annotations

from typing import Any

from prefect.artifacts import create_table_artifact
from prefect.events import emit_event
from prefect.logging import get_run_logger
from prefect.runtime import task_run

from engine import names
from engine.vault_check import Finding, Outcome, PlaceReport, Request, outcome_of, verify_place
from tasks.base import RETRIES, SiteHandle, reason, step
from tasks.progress import told
from tasks.words import duration, plural, size

EVENTS: dict[Outcome, str] = {
    "clean": "backup-flows.vault.clean",
    "healed": "backup-flows.vault.healed",
    "damaged": "backup-flows.vault.damaged",
    "could not verify": "backup-flows.vault.could-not-verify",
}
MOST_ROWS = 1000
"""Of an artifact; and ``MOST_NAMED`` findings in an event."""
MOST_NAMED = 20


@step(name="verify the vault", run_name="verify {location} of {site.name}")
def verify(site: SiteHandle, location: str, request: Request) -> PlaceReport:
    """Read back a share of one place, and heal what is damaged. What is wrong is in the report, not raised.

    A place that breaks off before anything was found is tried again; what was found is never dropped for that."""
    log = get_run_logger()
    with site.open() as opened, told(f"verify {location}") as progress:
        report = verify_place(opened, location, request, progress=progress)
    for each in report.findings:
        tell = log.error if each.open else log.warning if each.severity in ("damage", "stray") else log.info
        tell("%s", each)
    again = report.error is not None and report.error.retryable and not report.findings
    if again and task_run.run_count <= RETRIES and report.error is not None:
        raise report.error
    log.info("%s", summary(report))
    return report


def summary(report: PlaceReport) -> str:
    """One line on one place."""
    if report.dry_run:
        would = f"{report.due} of {plural(report.stored, 'backup')} would be read"
        return f"{report.location}: {would} ({size(report.due_bytes)})"
    parts = [f"{report.read} of {plural(report.stored, 'backup')} read back ({size(report.read_bytes)})"]
    if report.contents:
        parts.append(f"{report.contents_read} of {plural(report.contents, 'content')} of buckets")
    if report.cold:
        parts.append(f"{report.cold} in cold storage, where only presence and size were compared")
    healed, strays = report.of("damage", healed=True), report.of("stray", healed=False)
    parts += [f"{len(healed)} damaged and healed"] * bool(healed) + [f"{plural(len(strays), 'stray file')}"] * bool(
        strays
    )
    return f"{report.location}: {', '.join(parts)}"


def publish(site: str, reports: list[PlaceReport]) -> None:
    """Leave the artifact, and tell of the outcome as an event that an automation can act on."""
    rows = [_row(each) for report in reports for each in report.findings]
    more = f"; {len(rows) - MOST_ROWS} rows are left out" if len(rows) > MOST_ROWS else ""
    create_table_artifact(
        key=f"{site}-vault",
        table=[*(_place(each) for each in reports), *rows[:MOST_ROWS]],
        description=f"What was read back of the vault of {site}, {names.now():%Y-%m-%d %H:%M} UTC{more}",
    )
    if any(report.dry_run for report in reports):
        return
    outcome = outcome_of(reports)
    found = [each for report in reports for each in report.findings if each.severity in ("damage", "unsure")]
    emit_event(
        event=EVENTS[outcome],
        resource={"prefect.resource.id": f"backup-flows.{site}.vault", "prefect.resource.name": f"vault of {site}"},
        payload={
            "message": "; ".join(summary(each) for each in reports),
            "damaged": sum(each.severity == "damage" for each in found),
            "healed": sum(bool(each.healed) for each in found),
            "open": sum(each.open for each in found), "findings": [str(each) for each in found[:MOST_NAMED]],
            "errors": [f"{each.location}: {reason(each.error)}" for each in reports if each.error is not None],
        },
    )  # fmt: skip


def _place(report: PlaceReport) -> dict[str, Any]:
    error = f"could not be verified: {reason(report.error)}" if report.error is not None else ""
    oldest = f"; the longest unproven since {report.oldest:%Y-%m-%d}" if report.oldest is not None else ""
    return {
        "in": report.location,
        "what": "place",
        "file": "",
        "found": error or f"{summary(report)}{oldest}",
        "then": f"took {duration(report.seconds)}",
    }


def _row(found: Finding) -> dict[str, Any]:
    then = f"healed: {found.healed}" if found.healed else f"NOT HEALED: {found.left}" if found.open else found.left
    what = f"{found.kind}{'' if found.severity == 'damage' else f' ({found.severity})'}"
    return {"in": found.location, "what": what, "file": found.what, "found": found.words, "then": then}

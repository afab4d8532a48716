"""Tasks of restore drills: find the backups, restore and prove one source at a time, keep the signed record."""

from __future__ import annotations

from typing import Any

from prefect.artifacts import create_table_artifact
from prefect.events import emit_event
from prefect.logging import get_run_logger

from engine.drill.record import Proof, keep, proofs
from engine.drill.run import Begun, DrillRequest
from engine.drill.run import begin as find_backups
from engine.drill.run import drill_source as restore_and_prove
from engine.drill.run import finish as hold_against_targets
from engine.drill.verdict import PROVEN, Check, DrillResult, PieceResult, SourceResult, Verdict
from engine.errors import BackupError
from engine.site import Target
from engine.vault import LOCAL
from tasks.base import SiteHandle, step
from tasks.progress import told
from tasks.words import duration

EVENTS: dict[Verdict, str] = {
    "proven": "backup-flows.drill.proven",
    "failed": "backup-flows.drill.failed",
    "could not verify": "backup-flows.drill.could-not-verify",
}


@step(name="find backups", run_name="find what to drill of {site.name}")
def begin(site: SiteHandle, request: DrillRequest) -> Begun:
    """The newest backup of each source, or the one that is named."""
    with site.open() as opened:
        opened.vault.check()
        begun = find_backups(opened, request)
    get_run_logger().info("drill %s, seed %s: %s", begun.id, begun.seed, ", ".join(begun.sources))
    return begun


@step(name="drill", run_name="drill {source} of {site.name}", retries=0)
def drill_source(site: SiteHandle, begun: Begun, source: str) -> SourceResult:
    """Restore one source into a throwaway place and prove it. What is wrong is in the result, not raised."""
    log = get_run_logger()
    with site.open() as opened, told(f"drill {source}") as progress:
        result = restore_and_prove(opened, begun, source, progress=progress)
    found = [(f"{piece} {piece.file}", piece.checks) for piece in result.pieces]
    for about, checks in [*found, (source, result.checks)]:
        for check in checks:
            tell = log.debug if check.verdict == PROVEN else log.error
            tell("%s: %s, %s: %s: %s", about, check.rung, check.what, check.verdict, check.words)
        proven = [check.what for check in checks if check.verdict == PROVEN]
        if proven:
            log.info("%s: proven: %s", about, ", ".join(proven))
    for note in [*result.notes, *(note for piece in result.pieces for note in piece.notes)]:
        log.warning("%s: %s", source, note)
    return result


@step(name="keep the record", run_name="keep the record of the drill of {site.name}")
def finish(site: SiteHandle, begun: Begun, sources: list[SourceResult]) -> tuple[DrillResult, str]:
    """Hold the times against the site's targets; the signed record goes into the vault. Gives its key, too."""
    with site.open() as opened:
        result = hold_against_targets(opened, begun, sources)
        key = keep(opened, result)
    for note in result.notes:
        get_run_logger().warning(note)
    return result, key


def last_proven(site: SiteHandle) -> dict[Target, Proof]:
    """When each database was last proven, by the records in the local vault; nothing where these cannot be read."""
    try:
        with site.open() as opened:
            return proofs(opened.vault, [LOCAL]).newest
    except BackupError as error:
        get_run_logger().warning("the records of drills cannot be read: %s", error.message)
        return {}


def publish(result: DrillResult, key: str) -> None:
    """Leave the artifact, and tell of the outcome as an event that an automation can act on."""
    create_table_artifact(
        key=f"{result.site}-drills",
        table=[*(_piece(piece) for piece in result.pieces()), *_others(result)],
        description=f"{result.sentence()}. Drill {result.id}, seed {result.seed}; signed record: {key}",
    )
    emit_event(
        event=EVENTS[result.verdict],
        resource={
            "prefect.resource.id": f"backup-flows.{result.site}.drill",
            "prefect.resource.name": f"drill of {result.site}",
        },
        payload={
            "message": result.sentence(), "drill": result.id, "record": key, "rto_seconds": result.rto_seconds,
            "rpo_seconds": result.rpo_seconds, "rpo_missed": [each.source for each in result.rpo_missed],
        },
    )  # fmt: skip


def _piece(piece: PieceResult) -> dict[str, Any]:
    return {
        "what": str(piece),
        "verdict": piece.verdict.upper() if piece.verdict != PROVEN else piece.verdict,
        "backup": piece.file,
        "holds": piece.holds,
        "time": duration(piece.restore_seconds),
        "checks": _checks(piece.checks),
    }


def _others(result: DrillResult) -> list[dict[str, Any]]:
    """A row a source, with its times, and one for the site's targets."""
    rows = [
        {
            "what": source.source,
            "verdict": source.verdict.upper() if source.verdict != PROVEN else source.verdict,
            "backup": source.place,
            "holds": f"RPO {duration(source.rpo_seconds)}" if source.rpo_seconds is not None else "RPO unknown",
            "time": _rto(source),
            "checks": _checks(source.checks),
        }
        for source in result.sources
    ]
    if result.checks:
        nothing = dict.fromkeys(("verdict", "backup", "holds", "time"), "")
        rows.append({"what": result.site, **nothing, "checks": _checks(result.checks)})
    return rows


def _checks(checks: list[Check]) -> str:
    wrong = [f"{check.verdict.upper()}: {check.what}: {check.words}" for check in checks if check.verdict != PROVEN]
    good = [f"{check.what}: {check.said}" for check in checks if check.verdict == PROVEN]
    return "; ".join([*wrong, *good])


def _rto(source: SourceResult) -> str:
    """Empty of a source that was only read."""
    about = "about " if source.past_estimate is not None else ""
    return f"RTO {about}{duration(source.rto_seconds)}" if source.rto_seconds else ""

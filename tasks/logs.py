"""Tasks of log shipping: which servers, their logs, base backups, and what a replica lacks of them."""

from __future__ import annotations

import time

from prefect.events import emit_event
from prefect.logging import get_run_logger

from engine import moments, names, shipping
from engine.catalog import Entry
from engine.config import MySQLConfig, PostgresConfig
from engine.errors import BackupError, LogChainBroken, LogGap
from engine.logs import ShipReport
from engine.moments import Answer, Question
from tasks.base import SiteHandle, step
from tasks.databases import Captured
from tasks.progress import told
from tasks.words import duration, plural, rate, size

EVENTS = {LogGap: "backup-flows.logs.gap", LogChainBroken: "backup-flows.logs.chain-broken"}
"""Events by which a person is told of what no later run can mend."""


@step(name="find servers", run_name="find the servers of {site.name} whose logs are shipped", retries=0)
def find_sources(site: SiteHandle, kind: type[MySQLConfig] | type[PostgresConfig]) -> list[str]:
    """The servers of that kind whose logs are to be shipped."""
    with site.open() as opened:
        return shipping.shipping_sources(opened, kind)


@step(name="ship logs", run_name="ship the logs of {site.name}/{source}")
def ship(site: SiteHandle, source: str) -> ShipReport:
    """Bring every log that the vault lacks into it; a gap or a new chain is also told as an event."""
    log = get_run_logger()
    with site.open() as opened, told(f"ship the logs of {source}") as progress:
        try:
            report = shipping.ship(opened, source, progress=progress)
        except (LogGap, LogChainBroken) as error:
            announce(site.name, source, error)
            raise
    for warning in report.warnings:
        log.warning("%s: %s", source, warning)
    if report.shipped:
        first, last = report.shipped[0].name, report.shipped[-1].name
        log.info(
            "%s: shipped %s (%s) of %s (%s stored) in %s",
            source,
            plural(len(report.shipped), "log"),
            first if first == last else f"{first} to {last}",
            size(report.bytes),
            size(report.stored_bytes),
            duration(report.seconds),
        )
    return report


@step(name="carry what is known of idle servers", run_name="say at {replica} how long servers of {site.name} were idle")
def carry_idle(site: SiteHandle, replica: str) -> None:
    """What is known of the time after the newest log, said at a replica too."""
    with site.open() as opened:
        shipping.carry_idle(opened, replica)


def announce(site: str, source: str, error: BackupError) -> None:
    """Tell of a hole or a new chain as an event that an automation can act on."""
    emit_event(
        event=EVENTS[type(error)],
        resource={"prefect.resource.id": f"backup-flows.{site}.{source}", "prefect.resource.name": f"{site}/{source}"},
        payload={"message": error.message, "kept": error.kept, "remedy": error.remedy},
    )


@step(name="base backup", run_name="base backup of {site.name}/{source}")
def base(site: SiteHandle, source: str) -> Captured:
    """A physical copy of a PostgreSQL server, from which its WAL can be replayed."""
    begun = time.monotonic()
    with site.open() as opened, told(f"base backup of {source}") as progress:
        entry, manifest = shipping.base(opened, source, progress=progress)
    seconds = time.monotonic() - begun
    plain = sum(part.plain_size for part in manifest.files)
    get_run_logger().info(
        "%s: base of %s (%s stored) in %s, %s: %s",
        source, size(plain), size(manifest.stored_bytes), duration(seconds), rate(plain, seconds), entry.file,
    )  # fmt: skip
    for warning in manifest.warnings:
        get_run_logger().warning("%s: %s", source, warning)
    from engine.site import Target

    return Captured(Target(source, names.BASE), entry, manifest, seconds)


@step(name="find missing logs", run_name="find which logs {site.name}/{replica} lacks")
def find_lacking(site: SiteHandle, replica: str, bases: bool = False) -> list[Entry]:
    """Logs (and bases) that a replica does not have, oldest first."""
    with site.open() as opened:
        return (shipping.logs_and_bases_lacking if bases else shipping.logs_lacking)(opened, replica)


@step(name="look through the logs", run_name="look through the logs of {site.name}")
def look(site: SiteHandle, question: Question) -> Answer:
    """Statements, or commits, that a person looks for. Changes nothing."""
    with site.open() as opened, told("look through the logs") as progress:
        answer = moments.look(opened, question, progress=progress)
    get_run_logger().info("%s found in the logs of %s", plural(answer.total, "moment"), answer.source)
    for each in answer.found:
        get_run_logger().info(each.line())
    for note in answer.notes:
        get_run_logger().warning(note)
    return answer

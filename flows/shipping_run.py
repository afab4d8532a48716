"""The body of the flows that ship logs and take base backups.

Servers fail apart and replicas fail apart, as in a backup run; what could not be done fails the run, whose
first line says what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from blocks import load_site
from engine import names
from engine.config import MySQLConfig, PostgresConfig
from engine.errors import BackupError, in_words
from engine.logs import ShipReport
from tasks import logs
from tasks.base import SiteHandle, reason
from tasks.databases import Captured, verify
from tasks.vault import copy_to, sweep
from tasks.words import duration, plural, size


@dataclass
class Shipment:
    """What a run did and could not do."""

    reports: dict[str, ShipReport] = field(default_factory=dict)
    bases: dict[str, Captured] = field(default_factory=dict)
    failures: dict[str, BackupError] = field(default_factory=dict)
    copied: int = 0

    @property
    def verdict(self) -> str:
        """The state's message: reasons first."""
        done = self._done()
        if not self.failures:
            return done
        what, error = next(iter(self.failures.items()))
        more = f" And: {', '.join(list(self.failures)[1:])}." if len(self.failures) > 1 else ""
        kept = "; ".join(part for part in (error.kept, done) if part)
        lines = [f"{what}: {error.message.rstrip('.')}.{more}", f"Kept safe: {kept}"]
        return "\n".join([*lines, *([f"Next: {error.remedy}"] if error.remedy else [])])

    def _done(self) -> str:
        parts = []
        for source, captured in self.bases.items():
            parts.append(f"base of {source}: {size(captured.manifest.stored_bytes)} in {duration(captured.seconds)}")
        shipped = sum(len(report.shipped) for report in self.reports.values())
        if self.reports:
            stored = sum(report.stored_bytes for report in self.reports.values())
            parts.append(
                f"{plural(shipped, 'log')} shipped, {size(stored)} stored" if shipped else "nothing new to ship"
            )
        for source, report in self.reports.items():
            if report.covers_until is not None:
                parts.append(f"{source} can be restored up to {names.both_zones(report.covers_until)}")
        if self.copied:
            parts.append(f"{plural(self.copied, 'copy')} made")
        return "; ".join(parts)


def ship_logs(site: str, kind: type[MySQLConfig] | type[PostgresConfig]) -> State[None]:
    """Ship the logs of every server of that kind, then bring the replicas up to date.

    Raises:
        UnknownName: No such site. ConfigError: it has no such server.
    """
    handle = SiteHandle(load_site(site))
    _sweep(handle)
    shipment = Shipment()
    for source in logs.find_sources(handle, kind):
        _ship(handle, source, shipment)
    return _end(handle, shipment)


def take_bases(site: str, source: str = "") -> State[None]:
    """A base backup of every PostgreSQL server (or one), proven, its WAL shipped up to its end.

    Raises:
        UnknownName: No such site or source. ConfigError: it has no such server.
    """
    handle = SiteHandle(load_site(site))
    sweep(handle)
    shipment = Shipment()
    chosen = [handle.config.source(source).name] if source else logs.find_sources(handle, PostgresConfig)
    for name in chosen:
        try:
            captured = logs.base(handle, name)
            shipment.bases[name] = captured
            verify(handle, captured.entry)
        except Exception as failure:
            shipment.failures[f"base backup of {name}"] = in_words(failure, "It")
            continue
        _ship(handle, name, shipment)
    return _end(handle, shipment)


def _sweep(site: SiteHandle) -> None:
    """What dead runs left goes at the next run, which may be one of these; logs are shipped even where it cannot."""
    try:
        sweep(site)
    except Exception as failure:
        error = in_words(failure, "The sweep")
        get_run_logger().warning("what dead runs left could not be swept: %s", reason(error))


def _ship(site: SiteHandle, source: str, shipment: Shipment) -> None:
    try:
        shipment.reports[source] = logs.ship(site, source)
    except Exception as failure:
        shipment.failures[f"logs of {source}"] = in_words(failure, "Shipping")


def _end(site: SiteHandle, shipment: Shipment) -> State[None]:
    for replica in site.config.vault.replicas:
        _copy(site, replica.name, shipment)
    rows = _rows(shipment)
    if rows:
        create_table_artifact(key=f"{site.name}-logs", table=rows, description=f"What was shipped from {site.name}")
    if shipment.failures:
        get_run_logger().error(shipment.verdict)
        return Failed(message=shipment.verdict)
    return Completed(message=shipment.verdict)


def _copy(site: SiteHandle, replica: str, shipment: Shipment) -> None:
    try:
        lacking = logs.find_lacking(site, replica, bool(shipment.bases))
        brought = copy_to(site, replica, lacking, {each.file for each in lacking})
        logs.carry_idle(site, replica)
    except Exception as failure:
        error = in_words(failure, "Copying")
        shipment.failures[f"copies to {replica}"] = error
        get_run_logger().error("logs are not at %s: %s", replica, reason(error))
        return
    shipment.copied += len(brought.copied)
    if brought.error is not None:
        shipment.failures[f"copies to {replica}"] = brought.error
        get_run_logger().error("%s not at %s", plural(len(brought.missing), "log"), replica)


def _rows(shipment: Shipment) -> list[dict[str, str]]:
    return [
        {
            "source": source,
            "log": log.name,
            "transactions": f"{log.transactions:,}" if log.transactions else "",
            "first commit": _short(log.first_commit),
            "last commit": _short(log.last_commit),
            "every commit until": _short(log.covers_until),
        }
        for source, report in shipment.reports.items()
        for log in report.shipped[-200:]
    ]


def _short(moment: datetime | None) -> str:
    return names.iso(moment) if moment is not None else ""

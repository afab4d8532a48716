"""``backups ship``, ``backups base`` and ``backups windows``: logs into the vault, and what they make possible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from deployments.cli import exits
from deployments.cli.options import Database, Location, Source
from deployments.cli.run import Outcome, Run, command
from deployments.cli.terminal import age, size
from engine import names
from engine.errors import BackupError, ConfigError

if TYPE_CHECKING:
    from engine.logs import ShipReport
    from engine.recoverable import Recoverable
    from engine.site import Site


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    command(
        app,
        "ship",
        stopped="every log that was shipped; the next run goes on where this one stopped",
        example="""backups ship -f workset
                   backups ship -f workbench --source postgres --json""",
    )(ship)
    command(
        app,
        "base",
        stopped="every published backup; a base that was under way leaves nothing behind",
        example="backups base -f workbench",
    )(base)
    command(
        app,
        "windows",
        stopped="nothing was changed",
        example="""backups windows -f workset
                   backups windows -f workset --database workset --location spaces""",
    )(windows)


def ship(run: Run, source: Source = None) -> Outcome:
    """Ship the logs of the site's servers: binary logs of MySQL and MariaDB, WAL of PostgreSQL.

    Encrypted, signed, and copied to every replica. A hole that no later run can close ends with an error
    that names the missing logs.
    """
    from engine.shipping import logs_lacking
    from engine.shipping import ship as ship_one

    reports: dict[str, Any] = {}
    errors: list[BackupError] = []
    with run.site(sweep=True) as site:
        for name in _sources(site, source):
            try:
                with run.out.progress() as progress:
                    report = ship_one(site, name, progress=progress)
            except Exception as failure:
                errors.append(run.refuse(run.foresee(failure, f"Shipping the logs of {name}"), about=f"{name}: "))
                continue
            reports[name] = _told(run, name, report)
        missing = _copy(run, site, logs_lacking)
    return Outcome({"shipped": reports}, exits.PARTIAL if missing and not errors else exits.OK, errors + missing)


def base(run: Run, source: Source = None) -> Outcome:
    """Take a base backup of each PostgreSQL server, prove it, and ship its WAL.

    WAL can only be replayed on a base backup, never on a dump.
    """
    from engine.backup import verify
    from engine.config import PostgresConfig
    from engine.shipping import base as take
    from engine.shipping import logs_and_bases_lacking, shipping_sources
    from engine.shipping import ship as ship_one

    made: list[dict[str, Any]] = []
    errors: list[BackupError] = []
    with run.site(sweep=True) as site:
        for name in [source] if source else shipping_sources(site, PostgresConfig):
            try:
                with run.out.progress() as progress:
                    entry, manifest = take(site, name, progress=progress)
                    verify(site, entry, progress=progress)
                    report = ship_one(site, name, progress=progress)
            except Exception as failure:
                errors.append(run.refuse(run.foresee(failure, f"The base backup of {name}"), about=f"{name}: "))
                continue
            plain = sum(part.plain_size for part in manifest.files)
            run.out.say(
                f"{name}: {entry.file}, {size(plain)} ({size(manifest.stored_bytes)} stored), verified",
                style="bold green",
            )
            made.append({"source": name, "file": entry.file, "bytes": plain, "stored_bytes": manifest.stored_bytes})
            _told(run, name, report)
        missing = _copy(run, site, logs_and_bases_lacking)
    return Outcome({"bases": made}, exits.PARTIAL if missing and not errors else exits.OK, errors + missing)


def windows(run: Run, source: Source = None, database: Database = None, location: Location = "auto") -> Outcome:
    """Which moments can be restored, and why not others.

    One row for each full (MySQL, MariaDB) or base backup (PostgreSQL) that logs can be replayed on.
    """
    from engine.recoverable import recoverable, rolled_forward

    rows, facts = [], []
    with run.site() as site:
        for name, wanted in rolled_forward(site, source, database):
            found = recoverable(site, name, wanted, location=location)
            facts.append(_window_facts(found))
            rows += [
                [
                    name if not wanted else f"{name}/{wanted}",
                    each.anchor.file,
                    names.both_zones(each.earliest),
                    names.both_zones(each.latest),
                    f"{len(each.logs)}",
                    each.ends,
                ]
                for each in found.windows
            ]
            for hole in found.holes:
                run.warn(f"{name}: {hole}")
            for note in found.notes:
                run.warn(f"{name}: {note}")
    run.out.table(["of", "from", "earliest", "latest", "logs", "ends because"], rows, right=[4])
    return Outcome({"windows": facts})


def _sources(site: Site, source: str | None) -> list[str]:
    if source is not None:
        return [site.config.server(source).name]
    found = [each.name for each in site.config.servers() if each.point_in_time]
    if not found:
        raise ConfigError(
            f"Site {site.name} has no server whose logs are to be shipped.",
            remedy="add a mysql: or postgres: section to the site file",
        )
    return found


def _told(run: Run, name: str, report: ShipReport) -> dict[str, Any]:
    for warning in report.warnings:
        run.warn(f"{name}: {warning}")
    if report.shipped:
        logs = report.shipped
        through = logs[0].name if len(logs) == 1 else f"{logs[0].name} to {logs[-1].name}"
        run.out.say(
            f"{name}: {through}, {size(report.bytes)} ({size(report.stored_bytes)} stored) in {age(report.seconds)}",
            style="bold green",
        )
    else:
        run.out.say(f"{name}: nothing new to ship")
    if report.covers_until is not None:
        run.out.say(f"  every commit is in the vault until {names.both_zones(report.covers_until)}")
    return {
        "logs": [log.name for log in report.shipped],
        "covers_until": names.iso(report.covers_until) if report.covers_until else None,
        "bytes": report.bytes,
        "stored_bytes": report.stored_bytes,
        "seconds": round(report.seconds, 3),
        "warnings": report.warnings,
    }


def _copy(run: Run, site: Site, lacking: Any) -> list[BackupError]:
    """Every replica gets what it lacks of logs and bases; one that fails costs nothing here."""
    from engine.replicas import catch_up
    from engine.shipping import carry_idle

    missing: list[BackupError] = []
    for replica in site.vault.locations()[1:]:
        try:
            wanted = lacking(site, replica)
            failed = catch_up(site, replica, wanted, own={each.file for each in wanted}).failed
            carry_idle(site, replica)
        except Exception as failure:
            error = run.foresee(failure, f"Looking at {replica}")
            missing.append(run.refuse(error, about=f"{replica} lacks logs: "))
            continue
        missing += [run.refuse(error, about=f"{replica} lacks {entry.file}: ") for entry, error in failed]
    return missing


def _window_facts(found: Recoverable) -> dict[str, Any]:
    return {
        "source": found.source,
        "database": found.database,
        "windows": [
            {
                "from": each.anchor.file,
                "earliest": names.iso(each.earliest),
                "latest": names.iso(each.latest),
                "logs": len(each.logs),
                "ends": each.ends,
            }
            for each in found.windows
        ],
        "holes": [str(hole) for hole in found.holes],
        "notes": found.notes,
    }

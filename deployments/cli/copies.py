"""``backups list`` and ``backups status``: what there is, and whether it is enough."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli import exits, watching
from deployments.cli.options import Database, Source, Tier, check_tier, locations
from deployments.cli.rows import rows
from deployments.cli.run import Outcome, Run, command
from deployments.cli.terminal import age, moment, size
from deployments.cli.windows import windows
from engine.errors import BackupError, ConfigError, UnknownName, nearest
from engine.names import iso

if TYPE_CHECKING:
    from engine.catalog import Entry
    from engine.drill.record import Proof
    from engine.site import Site
    from engine.status import StatusRow

_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    command(
        app,
        "list",
        example="""backups list -f workset --database workset
                                    backups list -f workbench --location spaces --tier daily --json""",
    )(list_)
    command(
        app,
        "status",
        example="""backups status -f workset
                                      backups status -f workbench --max-age 2h --quiet
                                      backups status -f workbench --check
                                      backups status -f workbench --check --quiet --metrics /var/lib/x/backups.prom""",
    )(status)


def list_(
    run: Run,
    source: Source = None,
    database: Database = None,
    location: Annotated[str, typer.Option(help="all, local, or a replica's name.")] = "all",
    tier: Tier = None,
) -> Outcome:
    """List backups, newest first, and where each of them is. Shipped logs only with --tier binlogs or wal."""
    from engine.drill.record import proofs
    from engine.status import owner

    check_tier(tier)
    with run.site() as site:
        if source is not None:
            site.config.source(source)
        proven = proofs(site.vault, locations(site, location)).files
        found: dict[tuple[str, str, str], list[Entry]] = {}
        errors = []
        for name in locations(site, location):
            try:
                for entry in site.vault.catalog(name).entries(source=source, database=database, tier=tier):
                    if tier is not None or not entry.name.log:
                        found.setdefault((*owner(site, entry), entry.file), []).append(entry)
            except BackupError as error:
                if location == name:
                    raise
                errors.append(run.refuse(error, about=f"{name} could not be listed: "))
        if database is not None and not found and not errors:
            _check_database(site, source, database)
    order = sorted(found, key=lambda each: (found[each][0].name.taken_at, each[2]), reverse=True)
    if found:
        columns = ["taken", "source", "database", "tier", "stored", "in", "proven", "file"]
        if not run.out.quiet:
            run.out.table(columns, [_listed(each, found[each], proven) for each in order], right=[4])
    else:
        run.out.say("No backups." if not errors else "No backups where a look was possible.")
    facts = rows(len(order), lambda: (_row(each, found[each], proven) for each in order))
    return Outcome({"backups": facts}, exits.PARTIAL if errors else exits.OK, errors)


def _listed(identity: tuple[str, str, str], copies: list[Entry], proven: dict[str, Proof]) -> list[str]:
    (source, tier, file), first = identity, copies[0]
    return [
        moment(first.name.taken_at),
        source,
        first.name.name,
        tier,
        size(first.size),
        ", ".join(each.location for each in copies),
        f"{proven[file].at:%Y-%m-%d}" if file in proven else "",
        file,
    ]


def _row(identity: tuple[str, str, str], copies: list[Entry], proven: dict[str, Proof]) -> dict[str, Any]:
    (source, tier, file), first = identity, copies[0]
    return {
        "source": source,
        "database": first.name.name,
        "tier": tier,
        "file": file,
        "taken_at": iso(first.name.taken_at),
        "bytes": first.size,
        "locations": [each.location for each in copies],
        "keys": {each.location: each.key for each in copies},
        "proven_at": iso(proven[file].at) if file in proven else None,
    }


def _check_database(site: Site, source: str | None, database: str) -> None:
    """Raises UnknownName for a database that neither the site file nor any backup anywhere knows."""
    known = {name for each in site.config.sources() if source in (None, each.name) for name in each.databases}
    if database in known:
        return
    for name in site.vault.locations():
        try:
            for entry in site.vault.catalog(name).entries(source=source):
                if entry.name.is_of(database):
                    return
                if not entry.name.log:
                    known.add(entry.name.name)
        except BackupError:
            return  # what cannot be asked might know it
    raise UnknownName(
        f"Site {site.name} has no database {database!r}, and no backup of one" + (f" on {source}." if source else "."),
        remedy=nearest(database, sorted(known)),
    )


def status(
    run: Run,
    max_age: Annotated[
        str | None,
        typer.Option(
            metavar="AGE",
            help="Fail when the newest good backup of a database is older than this: 90m, 26h, 8d.",
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Look at all that the watch looks at; exit like a monitoring plugin.")
    ] = False,
    metrics: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --check: write the figures there for Prometheus.", show_default=False),
    ] = None,
) -> Outcome:
    """For every database: the newest good backup, its age, whether it was verified, where its copies are, when a
    drill last proved one; and from when to when it can be brought back to any second.

    Exit code 1 when a database, or a whole source, has no good backup (or an older one than --max-age),
    3 when a replica lacks one or could not be asked.

    With --check all conditions of docs/watch.md are looked at, and the exit code is that of a monitoring plugin:
    0 ok, 1 warning, 2 critical, 3 unknown.
    """
    if metrics is not None and not check:
        raise ConfigError("--metrics goes with --check.", remedy="backups status --check --metrics FILE")
    if check:
        return watching.check(run, metrics)
    from engine.endpoints import in_short, remembered
    from engine.keyring.births import reminder
    from engine.keyring.changed import changed_keys
    from engine.status import status as look

    limit = _seconds(max_age)
    with run.site() as site:
        found = look(site)
        aged = reminder(site.vault.state, site.vault.keys)
        endpoints = remembered(site.vault.state)
        known = {each.name for each in site.config.vault.replicas}
        spans = windows(site)
        others = changed_keys(site.vault)
    for name, error in found.unseen.items():
        run.refuse(error, about=f"{name} could not be asked: ")
    problems = [
        *found.problems,
        *(f"{each.message} Next: {each.remedy}" for each in others),
        *(problem for row in found.rows for problem in _problems(row, limit)),
    ]
    problems += [
        f"{name}: no good backup of any database; make one: backups backup --source {name} "
        "(if there should be some: is this the right vault, and is its disk mounted?)"
        for name in found.bare
    ]
    run.out.table(
        ["source", "database", "newest good backup", "age", "stored", "verified", "last proven", "in", "replicas lack"],
        [_cells(row, list(found.unseen)) for row in found.rows],
        right=[3, 4],
    )
    for span in spans:
        run.out.say(span["said"])
    for name, noted in endpoints.items():
        if name in known:
            run.out.say(f"{name}: {in_short(noted)}")
    for problem in [*problems, *([aged] if aged else [])]:
        run.warn(problem)
    code = exits.OK
    if found.unseen or any(row.lacking for row in found.rows):
        code = exits.PARTIAL
    if problems or "local" in found.unseen:
        code = exits.FAILED
    return Outcome(
        {
            "databases": [_facts(row) for row in found.rows],
            "point_in_time": [{key: value for key, value in span.items() if key != "said"} for span in spans],
            "endpoints": {name: noted for name, noted in endpoints.items() if name in known},
            "problems": problems,
            "unseen": {name: exits.describe(error) for name, error in found.unseen.items()},
        },
        code,
        list(found.unseen.values()),
    )


def _problems(row: StatusRow, limit: float | None) -> list[str]:
    told = []
    if row.newest is None:
        told.append(
            f"{row.target} has no good backup; make one: backups backup --source {row.target.source} "
            f"--database {row.target.database}"
        )
        if not row.incomplete:
            return told
    told += [
        f"{row.target}: {file} was found broken; verify it again or look at its other copies" for file in row.broken
    ]
    told += [f"{row.target}: {file} is incomplete: {missing}" for file, missing in row.incomplete.items()]
    told += [f"{row.target}: {problem}" for problem in row.problems]
    if row.ahead:
        more = f" and {len(row.ahead) - 1} more" if len(row.ahead) > 1 else ""
        told.append(
            f"{row.target}: {row.ahead[0]}{more}: dated ahead of now: the clock is wrong, or was when it was made; "
            "its age says nothing"
        )
    if limit is not None and row.newest is not None and row.age_seconds > limit:
        told.append(f"{row.target}: the newest good backup is {age(row.age_seconds)} old, more than {age(limit)}")
    return told


def _cells(row: StatusRow, unseen: list[str]) -> list[str]:
    told = [f"{name}: {count}" for name, count in row.lacking.items()] + [f"{name}: unknown" for name in unseen]
    lacking = ", ".join(told) or "nothing"
    if row.newest is None:
        return [row.target.source, row.target.database, "none", "", "", "", _proven(row), "", lacking]
    return [
        row.target.source,
        row.target.database,
        moment(row.newest.name.taken_at),
        age(row.age_seconds) if row.newest.file not in row.ahead else "dated ahead",
        size(row.newest.size),
        "yes" if row.verified else "never checked",
        _proven(row),
        ", ".join(row.locations),
        lacking,
    ]


def _proven(row: StatusRow) -> str:
    return f"{row.proven.at:%Y-%m-%d %H:%M} UTC" if row.proven else "never"


def _facts(row: StatusRow) -> dict[str, Any]:
    newest = row.newest
    return {
        "source": row.target.source,
        "database": row.target.database,
        "newest": None
        if newest is None
        else {
            "file": newest.file,
            "tier": row.tier,
            "taken_at": iso(newest.name.taken_at),
            "age_seconds": round(row.age_seconds),
            "bytes": newest.size,
            "verified": bool(row.verified),
            "locations": row.locations,
        },
        "proven": None
        if row.proven is None
        else {"at": iso(row.proven.at), "file": row.proven.file, "drill": row.proven.drill},
        "lacking": row.lacking,
        "broken": row.broken,
        "incomplete": row.incomplete,
        "dated_ahead": row.ahead,
        "problems": row.problems,
    }


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)\s*([mhdw])", text.strip())
    if not found:
        raise ConfigError(f"{text!r} is not an age.", remedy="write it as 90m, 26h, 8d or 2w")
    return float(int(found[1]) * _SECONDS[found[2]])

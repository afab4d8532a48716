"""``backups restore``."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli import exits
from deployments.cli.options import Database, Location, Source, Which, split
from deployments.cli.run import Outcome, Run, command
from deployments.cli.terminal import age
from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.point_in_time import Past
    from engine.restore import RestorePlan, RestoreRequest, RestoreResult
    from engine.site import Site

_STOPPED = (
    "production is whole: as it was, or as restored; a swap that had begun is finished or undone by the "
    "next run, or at once with: backups sweep"
)


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(
        app,
        "restore",
        stopped=_STOPPED,
        waits=True,
        example="""
        backups restore -f workset --database workset
        backups restore -f workset --database workset --dry-run --backup 'before 2025-01-16T02:00:00Z'
        backups restore -f workset --database workset --into workset --confirm workset --location spaces
        backups restore -f workset --database workset --to 2025-01-16T14:31:07Z
        backups restore -f workset --database workset --to 'before DROP TABLE users' --dry-run
        backups restore -f workbench --database workbench --schemas bronze,silver --into bronze_check""",
    )(restore)


Into = Annotated[
    str,
    typer.Option(
        help="A new database of this name (default: a new one with the time in its name); the database's own name "
        "replaces it.",
        show_default=False,
    ),
]
Confirm = Annotated[str, typer.Option(help="To replace: the database's name once more.", show_default=False)]
Tables = Annotated[
    list[str] | None,
    typer.Option(
        help="Only these tables (commas or repeated; * allowed; PostgreSQL: schema.table).", show_default=False
    ),
]
Schemas = Annotated[list[str] | None, typer.Option(help="PostgreSQL: only these schemas.", show_default=False)]
Safety = Annotated[
    bool, typer.Option("--safety-backup/--no-safety-backup", help="Back up what stands there before replacing it.")
]
Moment = Annotated[
    str,
    typer.Option(
        "--point-in-time",
        "--to",
        metavar="WHEN",
        show_default=False,
        help="Not a backup but a moment: a time with its zone, latest, LOG:POSITION, 'gtid ...', 'lsn ...', or the "
        "statement to stop right before: 'before DROP TABLE users'.",
    ),
]
OnlyBackup = Annotated[
    bool, typer.Option("--only-backup", help="With --to: stop when the recovered database is a backup.")
]
Look = Annotated[
    bool, typer.Option("--look", help="With --to: leave it on its scratch server for a look, until you press Enter.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan, change nothing.")]


def restore(
    run: Run,
    source: Source = None,
    database: Database = None,
    backup: Which = "latest",
    location: Location = "auto",
    into: Into = "",
    confirm: Confirm = "",
    tables: Tables = None,
    schemas: Schemas = None,
    safety_backup: Safety = True,
    point_in_time: Moment = "",
    only_backup: OnlyBackup = False,
    look: Look = False,
    dry_run: DryRun = False,
) -> Outcome:
    """Restore a backup beside production, compare it with its manifest and, if asked, swap it in.

    Without --into nothing of production changes: the copy comes up as a new database. A replacement
    keeps the previous data under another name until you drop it.
    """
    from engine.restore import RestoreRequest

    with run.site(sweep=not dry_run, thaw=not dry_run) as site:
        request = RestoreRequest(
            database=database or _only(site, source),
            source=source or "",
            backup=backup,
            location=location,
            into=into,
            tables=split(tables),
            schemas=split(schemas),
            safety_backup=safety_backup,
        )
        past: dict[str, Any] = {}
        if point_in_time:
            alone = only_backup or look
            request, past = _recovered(run, site, request, point_in_time, dry_run, look, None if alone else confirm)
            if dry_run or only_backup or look:
                return Outcome({"dry_run": dry_run, **past})
        return _restored(run, site, request, confirm, dry_run, past)


def _restored(
    run: Run, site: Site, request: RestoreRequest, confirm: str, dry_run: bool, past: dict[str, Any]
) -> Outcome:
    """An ordinary restore, of a backup that stands in the vault."""
    from engine.restore import check_confirmation, make_plan

    plan = make_plan(site, request)
    for line in plan.lines():
        run.out.say(line)
    if dry_run:
        return Outcome({"dry_run": True, "plan": plan.as_dict()})
    site.vault.require_readable(plan.entry, plan.manifest)
    approved = check_confirmation(plan, confirm or _ask(run, plan))
    result = _run(run, site, plan, approved)
    _show(run, request, plan, result)
    lacking = [run.refuse(result.lacks_full)] if result.lacks_full is not None else []
    facts = {"dry_run": False, "plan": plan.as_dict(), **past, **_facts(plan, result)}
    return Outcome(facts, exits.PARTIAL if lacking else exits.OK, lacking)


def _recovered(
    run: Run, site: Site, request: RestoreRequest, when: str, dry_run: bool, look: bool, confirm: str | None
) -> tuple[RestoreRequest, dict[str, Any]]:
    """Recover to a moment, away from production; the request that restores what came out.

    Args:
        confirm: As for the restore that follows; None: none does.

    Raises:
        ConfigError: A backup is named as well. OutsideWindow: that moment cannot be had. And what that restore
            would refuse, before anything is recovered.
    """
    from engine.point_in_time import bring_back, check_goal, plan_past, recovered
    from engine.restore import unconfirmed

    plan = plan_past(site, request, when)
    if confirm is not None:
        check_goal(site, plan, request, confirm)
        if request.replaces and not confirm and not dry_run and not run.can_ask:
            raise unconfirmed(request.database)
    for line in plan.lines():
        run.out.say(line)
    facts: dict[str, Any] = {"recovery": plan.as_dict()}
    if dry_run:
        return request, facts
    if look:
        with recovered(site, plan) as past:
            _show_past(run, past, plan.found.database)
        return request, facts
    with run.out.progress() as progress:
        entry, manifest = bring_back(site, plan, progress=progress)
    run.out.say(
        f"{plan.found.source}/{plan.found.database} as it was at {plan.plan.target} is a backup now: {entry.file}, "
        f"{manifest.total_rows:,} rows in {len(manifest.rows)} tables.",
        style="bold green",
    )
    for note in plan.notes:
        run.warn(note)
    return replace(request, backup=entry.file, location="local"), facts | {"recovered": entry.file}


def _show_past(run: Run, past: Past, database: str) -> None:
    """How to reach the scratch server; waits for Enter, or for the end of standard input."""
    from engine.config import PostgresConfig

    config = past.config
    run.out.say(f"{database} stands on a scratch server, as user {config.user}:", style="bold green")
    inside = f"docker exec -it {config.container} " if config.container else ""
    if isinstance(config, PostgresConfig):
        where = "" if config.container else f"-h {config.host} -p {config.port} "
        run.out.say(f"  {inside}psql {where}-U {config.user} -d {database}")
    else:
        where = f"--socket={config.socket}" if config.socket else f"-h {config.host or '127.0.0.1'}"
        run.out.say(f"  {inside}mysql {'' if config.container else where + ' '}-u {config.user} -p {database}")
        if config.password is not None:
            run.out.say(f"  its password, of this scratch server alone: {config.password.get_secret_value()}")
    for note in past.notes:
        run.warn(note)
    run.out.say("Press Enter to take it away.")
    sys.stdin.readline()


def _run(run: Run, site: Site, plan: RestorePlan, approved: bool) -> RestoreResult:
    from engine.restore import run as restore_now

    with run.out.progress() as progress:
        return restore_now(site, plan, approved=approved, progress=progress, tell=run.out.tell)


def _ask(run: Run, plan: RestorePlan) -> str:
    return run.ask(f"Type {plan.target.database} to replace it") if plan.replaces else ""


def _only(site: Site, source: str | None) -> str:
    """The one database that the site (or the source) has. Raises ConfigError when there are several."""
    if source is not None:
        site.config.server(source)
    names = sorted({name for each in site.config.servers() if source in (None, each.name) for name in each.databases})
    if len(names) == 1:
        return names[0]
    raise ConfigError(
        "Which database?", remedy=f"add --database NAME; the site file has: {', '.join(names) or 'none by name'}"
    )


def _show(run: Run, request: RestoreRequest, plan: RestorePlan, result: RestoreResult) -> None:
    expected = sum(result.comparison.expected.values())
    run.out.say(
        f"{result.into}: {result.rows:,} rows of {expected:,} are back, from {result.entry.file} "
        f"in {result.entry.location}, in {age(result.seconds)}{result.but}.",
        style="bold green",
    )
    if result.swap is not None and result.swap.kept_as:
        run.out.say(
            f"The previous data stays as {result.swap.kept_as}; writers waited {result.swap.paused_seconds:.2f} s."
        )
    if result.safety is not None:
        run.out.say(f"Safety backup of what was replaced: {result.safety.file}")
    for note in result.notes:
        run.out.say(f"Note: {note}")
    if not plan.replaces:
        run.out.say(f"To put it in production's place: add --into {request.database} --confirm {request.database}")


def _facts(plan: RestorePlan, result: RestoreResult) -> dict[str, Any]:
    swap = result.swap
    return {
        "into": result.into,
        "file": result.entry.file,
        "location": result.entry.location,
        "rows": result.rows,
        "expected_rows": sum(result.comparison.expected.values()),
        "tables": result.comparison.found,
        "schema_equal": result.comparison.schema_equal,
        "unchecked": result.comparison.unchecked,
        "replaced": plan.replaces,
        "kept_as": swap.kept_as if swap else None,
        "paused_seconds": swap.paused_seconds if swap else None,
        "safety_backup": result.safety.file if result.safety else None,
        "notes": result.notes,
        "seconds": round(result.seconds, 3),
    }

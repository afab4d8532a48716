"""``backups restore-site``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli import exits, recovering
from deployments.cli.options import Location, split
from deployments.cli.recovering import Addressing, BucketName, Endpoint, Prefix, Region, SiteName
from deployments.cli.run import Outcome, Run, command
from deployments.cli.terminal import moment

if TYPE_CHECKING:
    from deployments.recovery import Bucket, Recovered
    from engine.config import SiteConfig
    from engine.restore_site.plan import SitePlan, SiteRequest
    from engine.site import Site

_FAILED = dict.fromkeys((exits.USAGE, exits.REFUSED), exits.FAILED)
"""A step that was refused ends a restore that has changed something: codes that say nothing was begun do not fit."""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(
        app,
        "restore-site",
        waits=True,
        stopped="every step that was done; run it again, and it goes on from there",
        example="""
        export BACKUPS_BUCKET=... BACKUPS_ENDPOINT=https://... BACKUPS_ACCESS_KEY=... BACKUPS_SECRET_KEY=...
        read -rs BACKUP_ENCRYPTION_KEY && export BACKUP_ENCRYPTION_KEY
        backups restore-site --dry-run
        backups restore-site --confirm workset
        backups restore-site -f workset.yaml --at 2025-01-16 --confirm workset
        backups restore-site -f workset.yaml --point-in-time 2025-01-16T09:59:59Z --confirm workset""",
    )(restore_site)


def restore_site(
    run: Run,
    recovery_point: Annotated[
        str, typer.Option(help="Its id; default: the newest that is complete.", show_default=False)
    ] = "",
    at: Annotated[
        str,
        typer.Option(help="The newest complete one by then: a time with its zone, or a day.", show_default=False),
    ] = "",
    point_in_time: Annotated[
        str,
        typer.Option(
            "--point-in-time",
            "--to",
            metavar="WHEN",
            show_default=False,
            help="Databases as they were then (a time with its zone, or latest); all else from the backup before.",
        ),
    ] = "",
    location: Location = "auto",
    only: Annotated[
        list[str] | None, typer.Option(help="Only these sources, or SOURCE/NAME.", show_default=False)
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="All but these sources, or SOURCE/NAME.", show_default=False)
    ] = None,
    confirm: Annotated[
        str,
        typer.Option(
            help="The site's name approves the plan; 'replace NAME' on a machine that is in use.", show_default=False
        ),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, change nothing.")] = False,
    anew: Annotated[bool, typer.Option("--anew", help="Forget how far an unfinished restore came.")] = False,
    site: SiteName = "",
    bucket: BucketName = "",
    endpoint: Endpoint = "",
    region: Region = "",
    prefix: Prefix = "",
    addressing: Addressing = "auto",
) -> Outcome:
    """Bring a whole machine back on a clean host: from a site file, or from a bucket and the key alone.

    Images, config files, volumes, containers, databases, buckets and n8n; then everything is started and asked whether
    it answers. Approved once. Stopped by whatever: run it again, and it goes on where it stopped. A machine that is in
    use is only restored over with --confirm 'replace NAME'; what it held is kept beside.

    Without -f the site file is taken from the bucket; see: backups recover-site-file --help.
    """
    from engine.cold.thaw import Thaw
    from engine.restore_site import report
    from engine.restore_site.plan import SiteRequest, check_confirmation, make_plan
    from engine.restore_site.run import require_readable
    from engine.restore_site.run import run as restore_now

    request = SiteRequest(recovery_point, at, point_in_time, location, split(only), split(without), anew)
    where = {"bucket": bucket, "endpoint": endpoint, "region": region, "prefix": prefix, "addressing": addressing}
    with _site(run, request, site, where) as opened:
        if not dry_run:
            opened.vault.thaw = Thaw()
            run.sweep(opened, replicas=False)
        plan = make_plan(opened, request)
        for line in plan.lines():
            run.out.say(line)
        if dry_run:
            run.out.say(f"Nothing was changed. To do it: --confirm {plan.confirmation!r}")
            return Outcome({"dry_run": True, "plan": plan.as_dict()})
        require_readable(opened, plan)
        approved = check_confirmation(plan, confirm or _ask(run, plan))
        with run.out.progress() as progress:
            result = restore_now(opened, plan, approved=approved, progress=progress, tell=run.out.tell)
        config = opened.config
    for number, line in enumerate(report.lines(config, plan, result)):
        run.out.say(line, style="bold green" if result.finished and number == 0 else "")
    errors = [run.refuse(error, about=f"{key}: ") for key, error in result.failures.items()]
    code = _FAILED.get(exits.of(errors[0]), exits.OK) if errors else exits.OK
    return Outcome({"dry_run": False, "plan": plan.as_dict(), **report.facts(config, plan, result)}, code, errors)


@contextmanager
def _site(run: Run, request: SiteRequest, name: str, where: dict[str, str]) -> Iterator[Site]:
    """The site of a site file, where one was named; else the one that stands in the bucket."""
    from deployments import recovery, site_file
    from engine.restore_site.plan import begun_by
    from engine.restore_site.state import unfinished
    from engine.site import Site

    in_bucket = where["bucket"] or os.environ.get("BACKUPS_BUCKET")
    if run.file or os.environ.get(site_file.DEFAULT_FROM) or not in_bucket:
        with run.site() as site:
            yield site
        return
    place = recovery.Bucket.of(os.environ, **where)
    found = recovering.find(run, place, name, begun_by(request, []), request.recovery_point)
    config = _resolved(run, place, found)
    begun = "" if request.anew else unfinished(config)
    if begun and begun != request.recovery_point:
        own = recovering.find(run, place, found.found.site, None, begun)
        if own.found != found.found:
            run.out.say(f"A restore of recovery point {begun} is not finished: the site file of that one is used.")
            config = _resolved(run, place, own)
    with Site(config) as site:
        yield site


def _resolved(run: Run, place: Bucket, found: Recovered) -> SiteConfig:
    """A site file from the bucket, written here and filled in."""
    from deployments import recovery

    path = recovering.write(found, None, beside=True)
    run.out.say(f"The site file of {found.found.site}, sealed {moment(found.found.at)}, is in {path}.")
    config = recovery.resolve(found, place, recovery.passphrase_of(os.environ), os.environ, path)
    for name, source in sorted(found.sources.items()):
        run.out.say(f"{name} is not set here; it is taken from {source}.")
    for note in found.notes:
        run.warn(note)
    return config


def _ask(run: Run, plan: SitePlan) -> str:
    return run.ask(f"Type {plan.confirmation!r} (without quotes) to restore this machine")

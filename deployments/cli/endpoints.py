"""``backups check-endpoints``, ``check-credentials`` and ``undelete``: what buckets can do, and keys may do there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli import exits
from deployments.cli.run import Outcome, Run, command
from engine.errors import BackupError, ConfigError
from engine.names import parse_moment

if TYPE_CHECKING:
    from engine.credentials import Rights


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    command(app, "check-endpoints", example="backups check-endpoints -f workset")(check_endpoints)
    command(
        app, "check-credentials",
        example="""backups check-credentials -f workset
                   backups check-credentials -f workset --location spaces --settings""",
    )(check_credentials)  # fmt: skip
    command(
        app, "undelete", stopped="what stands again stands whole; run it again to finish",
        example="""backups undelete -f workset --location aws --since 2025-01-16T02:00:00Z --dry-run
                   backups undelete -f workset --location aws --since 2025-01-16T02:00:00Z""",
    )(undelete)  # fmt: skip


def check_endpoints(run: Run) -> Outcome:
    """Find out what each replica's endpoint can do, by trying it on small objects of its own.

    Exit code 2 when the site file asks for what an endpoint cannot do: a storage class, an object lock, checksums.
    The same is done by apply. What was found is shown by status.
    """
    from engine.endpoints import look, remember

    with run.site() as site:
        found = look(site.config)
        remember(site.vault.state, found.found)
        for name, abilities in found.found.items():
            run.out.say(f"{name} ({site.vault.store(name).describe()})", style="bold")
            for line in abilities.lines():
                run.out.say(f"  {line}")
        if not site.config.vault.replicas:
            run.out.say("The site has no replicas.")
    errors: list[BackupError] = [run.refuse(error, about=f"{name}: ") for name, error in found.unseen.items()]
    errors = [*(run.refuse(ConfigError(f"{each}.")) for each in found.unmet), *errors]
    facts = {"endpoints": {name: each.as_dict() for name, each in found.found.items()}, "unmet": found.unmet}
    return Outcome(facts, exits.OK if found.unmet or not errors else exits.PARTIAL, errors)


def check_credentials(
    run: Run,
    location: Annotated[str, typer.Option(help="all, or a replica's name.")] = "all",
    settings: Annotated[
        bool,
        typer.Option(
            "--settings",
            help="Also ask for rights over the bucket's lifecycle, policy, versioning and lock, by setting "
            "what is set there already.",
        ),
    ] = False,
) -> Outcome:
    """What could somebody destroy who stole the key of a replica? Tried on objects of its own, nothing else is touched.

    Exit code 4 when everything could be destroyed.
    """
    from engine.credentials import check

    told, errors = [], []
    with run.site() as site:
        if location != "all":
            site.vault.store(location)
        source = site.config.sources()[0].name if site.config.sources() else "none"
        for replica in site.config.vault.replicas:
            if location in ("all", replica.name) and not replica.directory:
                try:
                    told.append(check(replica, site.vault.layout(replica.name), source, settings=settings))
                except BackupError as error:
                    errors.append(run.refuse(error, about=f"{replica.name}: "))
    for rights in told:
        _show(run, rights)
    bad = any("can destroy everything" in each.verdict() for each in told)
    code = exits.REFUSED if bad else exits.PARTIAL if errors else exits.OK
    return Outcome({"replicas": [_facts(each) for each in told]}, code, errors)


def _show(run: Run, rights: Rights) -> None:
    run.out.say(f"{rights.location}: {rights.verdict()}", style="bold")
    run.out.table(
        ["may it", "", ""],
        [[each.what, each.answer, each.why if each.answer != "no" else ""] for each in rights.rights],
    )


def _facts(rights: Rights) -> dict[str, object]:
    return {
        "location": rights.location,
        "verdict": rights.verdict(),
        "versioned": rights.versioned,
        "locked": rights.locked,
        "rights": {each.what: each.answer for each in rights.rights},
    }


def undelete(
    run: Run,
    location: Annotated[str, typer.Option(help="A replica in a versioned bucket.")],
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Only what was deleted or overwritten since then, with its zone.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would stand again.")] = False,
) -> Outcome:
    """Have backups stand again that were deleted or overwritten in a versioned bucket: after an attack, or a mistake.
    With them the contents that bucket lists name, saved images, and sealed site files.

    The version counts whose signature and bytes hold. Nothing is taken away by it. Without --since also what retention
    removed comes back, as far as the bucket still has it; the next prune removes it again.

    Exit code 5 when the data of a manifest, or a content that a list names, is not there in any version.
    """
    from engine.undelete import undelete as bring_back

    moment = parse_moment(since) if since else None
    with run.site() as site, run.out.progress() as progress:
        done = bring_back(site.vault, location, since=moment, dry_run=dry_run, progress=progress)
    word = "would stand again" if dry_run else "stands again"
    for key in done.back:
        run.out.say(f"{key} {word}")
    for key in done.site_files:
        run.out.say(f"{key} {word}")
    counts = f"{len(done.back):,} backups, {done.contents:,} contents of buckets, {len(done.site_files):,} site files"
    run.out.say(f"{counts}: {done.objects:,} objects" + (", nothing was changed" if dry_run else ""))
    errors = [run.refuse(error, about=f"{key}: ") for key, error in done.failed.items()]
    errors += [run.refuse(BackupError(f"The data of {key} is not there in any version.")) for key in done.lost]
    errors += [
        run.refuse(BackupError(f"{count:,} contents that {key} names are not there in any version."))
        for key, count in done.lacking.items()
    ]
    code = exits.INTEGRITY if done.lost or done.lacking else exits.PARTIAL if errors else exits.OK
    told = ("back", "objects", "contents", "site_files", "lost", "lacking")
    return Outcome({name: getattr(done, name) for name in told} | {"dry_run": dry_run}, code, errors)

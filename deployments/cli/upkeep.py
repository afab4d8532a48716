"""``backups adopt``, ``check`` and ``sweep``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli import exits
from deployments.cli.options import check_tier
from deployments.cli.run import Outcome, Run, command
from deployments.cli.terminal import moment, size
from engine.errors import BackupError, ConfigError, UnknownName
from engine.names import parse_file

if TYPE_CHECKING:
    from engine.config import ObjectStoreConfig, ServerSource
    from engine.site import Site


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    command(
        app,
        "adopt",
        stopped="the file itself was not touched",
        example="""backups adopt -f workset old/workset_20250116_020000.sql.gz.enc --tier daily
                       backups adopt -f workbench dump.sql.gz.enc --source postgres --database workbench""",
    )(adopt)
    command(app, "check", example="backups check -f workset")(check)
    command(app, "sweep", stopped="what was not swept is left for the next run", example="backups sweep -f workset")(
        sweep
    )


def adopt(
    run: Run,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Made by: dump | gzip | openssl enc -aes-256-cbc -salt -pbkdf2")
    ],
    source: Annotated[
        str | None,
        typer.Option(help="Whose backup it is; may be left out where the site has one source.", show_default=False),
    ] = None,
    database: Annotated[
        str | None, typer.Option(help="Which database; default: from the file's name.", show_default=False)
    ] = None,
    tier: Annotated[str, typer.Option(help="Under which tier to keep it.")] = "manual",
    key: Annotated[
        str | None, typer.Option(help="Id of the key that opens it; default: the current one.", show_default=False)
    ] = None,
    iterations: Annotated[int, typer.Option(help="PBKDF2 rounds, where openssl was given -iter.")] = 10_000,
) -> Outcome:
    """Take in a file that another tool made: read it through, give it a manifest, verify it.

    From then on it is listed, verified, copied and restored like any other.
    """
    from engine.adoption import adopt as take_in
    from engine.site import Target

    check_tier(tier)
    if not file.is_file():
        raise UnknownName(f"There is no file {file}.", remedy=f"look at: ls -l {file.parent}")
    with run.site(sweep=True) as site:
        config = _source(site, source)
        parsed = parse_file(file.name)
        name = database or (parsed.name if parsed else None)
        if name is None:
            raise ConfigError(
                f"The name {file.name} does not say which database this is.", remedy="add --database NAME"
            )
        target = Target(config.name, name)
        with run.out.progress() as progress:
            entry, manifest = take_in(
                site, file, target, tier=tier, iterations=iterations, key_id=key, progress=progress
            )
    for warning in manifest.warnings:
        run.warn(warning)
    run.out.say(f"{config.name}/{name}: {manifest.file}", style="bold green")
    run.out.say(
        f"  taken {moment(manifest.taken_at)}, {size(manifest.stored_bytes)} stored, "
        f"{manifest.total_rows:,} rows, read to its end"
    )
    return Outcome(
        {
            "source": config.name,
            "database": name,
            "tier": tier,
            "file": manifest.file,
            "key": entry.key,
            "bytes": manifest.data.plain_size,
            "stored_bytes": manifest.stored_bytes,
            "sha256": manifest.data.sha256,
            "rows": manifest.rows,
        }
    )


def _source(site: Site, name: str | None) -> ServerSource:
    if name is not None:
        return site.config.server(name)
    sources = site.config.servers()
    if len(sources) == 1:
        return sources[0]
    raise ConfigError(
        "Which source is this file a backup of?",
        remedy=f"add --source NAME: {', '.join(each.name for each in sources)}",
    )


def check(run: Run) -> Outcome:
    """Check everything before it is needed: keys, stores, servers, tools, grants. Changes nothing.

    The exit code is that of the first thing that is wrong.
    """
    results: list[dict[str, Any]] = []
    errors: list[BackupError] = []

    def attempt(what: str, step: Callable[[], list[str]]) -> None:
        try:
            notes = step()
        except Exception as failure:
            error = run.foresee(failure, "The check")
            errors.append(run.refuse(error, about=f"{what}: "))
            results.append({"what": what, "ok": False, "error": exits.describe(error)})
            return
        run.out.say(f"ok: {what}" + "".join(f"\n    {note}" for note in notes), style="green")
        results.append({"what": what, "ok": True, "notes": notes})

    with run.site() as site:
        for location in site.vault.locations():
            attempt(f"{location} ({site.vault.store(location).describe()})", lambda at=location: _check_store(site, at))  # type: ignore[misc]
        for source in site.config.sources():
            attempt(source.name, lambda name=source.name: _check_source(site, name))  # type: ignore[misc]
        run.warn_if_untold(site.config)
    return Outcome({"checks": results}, errors=errors)


def _check_store(site: Site, location: str) -> list[str]:
    from engine.keyring.changed import changed_keys

    if location == "local":
        site.vault.check()
    store = site.vault.store(location)
    store.check()
    for replica in site.config.vault.replicas:
        if replica.name == location and (replica.lock or replica.cold_class or replica.archive_class):
            _check_abilities(replica)
    for error in changed_keys(site.vault) if location == "local" else ():
        raise error
    free = store.free_bytes()
    return [f"{size(free)} free"] if free is not None else []


def _check_abilities(replica: ObjectStoreConfig) -> None:
    """Can the endpoint do what the settings ask of it? Tried on small objects. Raises ConfigError."""
    from engine.endpoints import Endpoints
    from engine.stores.abilities import probe, unmet

    Endpoints(unmet=unmet(replica, probe(replica))).refuse_unmet()


def _check_source(site: Site, name: str) -> list[str]:
    source = site.any_source(name)
    notes: list[str] = []
    for database in source.databases():
        found = source.preflight(database)
        notes = notes or [f"{found.server.flavour} {found.server.version}"]
        notes.append(f"{database}: about {size(found.estimated_bytes)}")
        notes += [f"{database}: note: {warning}" for warning in found.warnings]
    return notes


def sweep(run: Run) -> Outcome:
    """Put right what dead runs left: half-done swaps, side databases, staged files, unfinished uploads."""
    with run.site() as site:
        swept = site.sweep()
    for line in swept.done:
        run.out.say(line)
    for line in swept.problems:
        run.warn(line)
    if not swept.done and not swept.problems:
        run.out.say("Nothing was left over.")
    return Outcome({"done": swept.done, "problems": swept.problems}, exits.FAILED if swept.problems else exits.OK)

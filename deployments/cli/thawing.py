"""``backups thaw``: ask for what stands in cold storage before it is needed."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.cli.options import Database, Source, find
from deployments.cli.run import Outcome, Run, command
from engine.errors import UnknownName, nearest

_SPEEDS = ("Standard", "Bulk", "Expedited")


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(
        app, "thaw", waits=True, stopped="what was asked for is on its way all the same",
        example="""backups thaw -f workbench workbench_20250115_020001.sql.gz.enc --location aws
                   backups thaw -f workbench 'before 2025-01-16T00:00:00Z' --location aws --speed Bulk --wait""",
    )(thaw)  # fmt: skip


def thaw(
    run: Run,
    backup: Annotated[str, typer.Argument(help="latest, a file name, or 'before TIME' with its zone.")],
    location: Annotated[str, typer.Option(help="The replica.")],
    source: Source = None,
    database: Database = None,
    days: Annotated[int, typer.Option(min=1, max=365, help="How long it stays readable.")] = 3,
    speed: Annotated[str, typer.Option(help=f"{', '.join(_SPEEDS)}: how fast, and how dear.")] = "Standard",
) -> Outcome:
    """Ask for the thaw of a backup in cold storage. Exit code 6 while it is under way, 0 when it can be read.

    Restores and verifications ask for what they need by themselves; this is for asking early, or otherwise.
    """
    from engine.cold.thaw import Thaw

    if speed not in _SPEEDS:
        raise UnknownName(f"There is no thaw {speed!r}.", remedy=nearest(speed, list(_SPEEDS)))
    with run.site() as site:
        site.vault.thaw = Thaw(days, speed)  # type: ignore[arg-type]
        entry, manifest = find(site, backup, location, source, database)
        site.vault.require_readable(entry, manifest)
    run.out.say(f"{entry.file} can be read in {location}.", style="bold green")
    return Outcome({"file": entry.file, "location": location})

"""``backups apply``, ``up`` and ``down``: a site on a Prefect server. The only commands that import Prefect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.run import Outcome, Run, command

if TYPE_CHECKING:
    from engine.config import SiteConfig

Home = Annotated[Path | None, typer.Option(help="Directory of the local server.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    panel = "On a Prefect server"
    command(
        app,
        "apply",
        panel=panel,
        stopped="what was already set up stays; run it again to finish",
        example="""backups apply -f workset
                       backups apply -f deployments/sites/workbench.yaml --force""",
    )(apply)
    command(
        app, "alert", panel=panel, stopped="what was sent is sent",
        example="""backups alert -f workset
                   backups alert -f workset --to ops""",
    )(alert)  # fmt: skip
    command(
        app, "up", panel=panel, stopped="server and worker are stopped",
        example="""backups up --port 4200
                   backups up --unit | sudo tee /etc/systemd/system/backup-flows.service""",
    )(up)  # fmt: skip
    command(app, "down", panel=panel, example="backups down")(down)


def apply(
    run: Run,
    site: Annotated[
        str | None, typer.Argument(metavar="[SITE.yaml]", help="The same as -f.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also undo edits that were made in the UI.")] = False,
    home: Home = None,
) -> Outcome:
    """Register block types, save the site's blocks and automations, and deploy its flows.

    What a replica's endpoint cannot do is refused before. Run twice, nothing changes. Edits made in the UI are shown
    and left alone without --force.
    """
    run.file = site or run.file
    path = run.site_path()
    config = run.config()
    _check_endpoints(run, config)
    from deployments import prefect_commands

    report = prefect_commands.apply(path, force=force, echo=run.out.say, home=home)
    run.out.say(report.summary(), style="bold green")
    run.warn_if_untold(config)
    return Outcome(report.as_dict())


def alert(
    run: Run,
    to: Annotated[str, typer.Option(help="Only this alert of the site file.", show_default=False)] = "",
    home: Home = None,
) -> Outcome:
    """Send a test message to where the site's alerts go."""
    path = run.site_path()
    from deployments import prefect_commands

    done = prefect_commands.alert(path, to, home=home)
    for address, error in done.items():
        if error is None:
            run.out.say(f"{address} took the message.", style="bold green")
    errors = [run.refuse(error) for error in done.values() if error is not None]
    return Outcome({"alerts": {address: error is None for address, error in done.items()}}, errors=errors)


def _check_endpoints(run: Run, config: SiteConfig) -> None:
    """Refuse what an endpoint cannot do before anything is set up. Raises ConfigError."""
    from engine.endpoints import look, remember
    from engine.roots import absolute_root
    from engine.vault import STATE

    found = look(config)
    found.refuse_unmet()
    remember(absolute_root(config.vault.root) / STATE / config.site, found.found)
    for name, error in found.unseen.items():
        run.warn(f"what the endpoint of {name} can do is not known: {error.message}")


def up(
    run: Run,
    port: Annotated[int, typer.Option(help="Port on the loopback; 0 for any free one.")] = 4200,
    stay: Annotated[bool, typer.Option("--stay", help="Stay; start again what dies, stop both at the end.")] = False,
    unit: Annotated[bool, typer.Option("--unit", help="Print a systemd unit that does so; start nothing.")] = False,
    home: Home = None,
) -> Outcome:
    """Start a local Prefect server and worker, or find them running."""
    from deployments import prefect_commands, service
    from deployments.server import LocalServer, default_home

    if unit:
        text = service.unit((home or default_home()).absolute(), port)
        run.out.say(text.rstrip())
        return Outcome({"unit": text})
    running = prefect_commands.up(home=home, port=port)
    run.out.say(f"Prefect is up: {running.url}", style="bold green")
    run.out.say(f"  log in as the user in {running.env_file} (PREFECT_API_AUTH_STRING)")
    run.out.say(f"  for the prefect command: source {running.env_file}")
    if stay:
        service.stay(LocalServer(running.env_file.parent), port, run.out.warn)
    return Outcome(
        {
            "url": running.url,
            "env_file": str(running.env_file),
            "server_pid": running.server_pid,
            "worker_pid": running.worker_pid,
        }
    )


def down(run: Run, home: Home = None) -> Outcome:
    """Stop the local server and worker that up started, and only those."""
    from deployments import prefect_commands

    stopped = prefect_commands.down(home=home)
    run.out.say(f"Stopped: {', '.join(stopped)}." if stopped else "Nothing was running.")
    return Outcome({"stopped": stopped})

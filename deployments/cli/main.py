"""The ``backups`` program: its commands put together, and how usage errors end."""

from __future__ import annotations

import json
import signal
import sys
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from deployments.cli import (
    archiving,
    cluster,
    copies,
    drilling,
    endpoints,
    exits,
    finding,
    keys,
    making,
    pinning,
    prefect,
    proving,
    pruning,
    recovering,
    reporting,
    restoring,
    restoring_buckets,
    restoring_files,
    restoring_n8n,
    restoring_site,
    restoring_volumes,
    shipping,
    snapshots,
    thawing,
    upkeep,
    verifying,
)
from deployments.cli.run import Terminated

app = typer.Typer(
    name="backups",
    help="Back up and restore a docker-compose machine: its databases, volumes, buckets, n8n and config files.\n\n"
    "Everything but apply, up and down works with a site file alone, also on the day Prefect is down.",
    epilog=exits.epilog(),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
restores = (
    restoring,
    restoring_files,
    restoring_volumes,
    restoring_buckets,
    restoring_n8n,
    cluster,
    restoring_site,
    recovering,
)
modules = (
    making,
    snapshots,
    shipping,
    copies,
    finding,
    proving,
    verifying,
    drilling,
    reporting,
    *restores,
    thawing,
    archiving,
    pinning,
    pruning,
    keys,
    endpoints,
    upkeep,
    prefect,
)
for module in modules:
    module.register(app)

# typer carries its own click since 0.2x; its error classes are found where typer shows them
_ClickError: Any = next(each for each in typer.BadParameter.__mro__ if each.__name__ == "ClickException")


def main() -> NoReturn:
    """Run ``backups`` with this process's arguments, and exit."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run ``backups`` with these arguments; its exit code."""
    try:
        return int(app(arguments, standalone_mode=False, prog_name="backups") or exits.OK)
    except _ClickError as error:
        if "--json" in arguments:
            told = {
                "class": "UsageError",
                "message": error.format_message(),
                "kept": "",
                "retryable": False,
                "remedy": "see: backups --help",
            }
            body = {"ok": False, "exit_code": exits.USAGE, "warnings": [], "error": told, "errors": [told]}
            print(json.dumps(body, indent=2))
        else:
            error.show()
        return exits.USAGE
    except (typer.Abort, KeyboardInterrupt):
        return exits.STOPPED


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(version("backup-flows"))
        except PackageNotFoundError:
            print("not installed (run from its source)")
        raise typer.Exit


@app.callback()
def _backups(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass

"""``backups recover-site-file``."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.run import Outcome, Run, command
from deployments.cli.terminal import moment
from engine import names
from engine.errors import ConfigError, RestoreRefused

if TYPE_CHECKING:
    from deployments.recovery import Bucket, Recovered

BucketName = Annotated[
    str, typer.Option("--bucket", help="Default: $BACKUPS_BUCKET, $DO_SPACES_BUCKET...", show_default=False)
]
Endpoint = Annotated[
    str, typer.Option("--endpoint", metavar="URL", help="Default: $BACKUPS_ENDPOINT; empty: AWS.", show_default=False)
]
Region = Annotated[str, typer.Option("--region", help="Default: $BACKUPS_REGION...", show_default=False)]
Prefix = Annotated[str, typer.Option("--prefix", help="Look for the site file only below this; the whole bucket else.")]
Addressing = Annotated[str, typer.Option("--addressing", help="path, virtual, or auto: bucket in path or host name.")]
SiteName = Annotated[str, typer.Option("--site", help="Which, where the bucket holds several.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(
        app,
        "recover-site-file",
        example="""
        export BACKUPS_BUCKET=... BACKUPS_ENDPOINT=https://... BACKUPS_ACCESS_KEY=... BACKUPS_SECRET_KEY=...
        read -rs BACKUP_ENCRYPTION_KEY && export BACKUP_ENCRYPTION_KEY
        backups recover-site-file
        backups recover-site-file --site workset --at 2025-01-16T02:00:00Z --out /root/workset.yaml""",
    )(recover_site_file)


def recover_site_file(
    run: Run,
    site: SiteName = "",
    at: Annotated[
        str, typer.Option(help="As it was at this time, with its zone; default: the newest.", show_default=False)
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="Where to write it; default: SITE.yaml here.", show_default=False)
    ] = None,
    bucket: BucketName = "",
    endpoint: Endpoint = "",
    region: Region = "",
    prefix: Prefix = "",
    addressing: Addressing = "auto",
) -> Outcome:
    """Get a site file back from a bucket, with nothing but the bucket's credentials and the key.

    Every backup run seals the site file into its recovery point, encrypted. Credentials and key come from the
    environment: BACKUPS_ACCESS_KEY, BACKUPS_SECRET_KEY (or those of the ready sites) and BACKUP_ENCRYPTION_KEY.
    """
    from deployments import recovery

    place = recovery.Bucket.of(
        os.environ, bucket=bucket, endpoint=endpoint, region=region, prefix=prefix, addressing=addressing
    )
    found = find(run, place, site, names.parse_moment(at) if at else None)
    path = write(found, out)
    run.out.say(f"Wrote {path}: the site {found.found.site}, sealed {moment(found.found.at)}.", style="bold green")
    needed = recovery.names_in(found.site_text.text)
    unset = [each for each in needed if not os.environ.get(each)]
    if unset:
        run.out.say(f"It refers to names that are not set here: {', '.join(unset)}.")
    run.out.say(f"See what there is with: backups list -f {path}")
    told = {"site": found.found.site, "recovery_point": found.found.point, "sealed_at": names.iso(found.found.at)}
    return Outcome({**told, "file": str(path), "key": found.found.key, "names": needed, "unset": unset})


def find(run: Run, place: Bucket, site: str, before: datetime | None, point: str = "") -> Recovered:
    """The newest site file in a bucket, or that of a recovery point, opened.

    Raises:
        UnknownName, WrongKey, ConfigError.
    """
    from deployments import recovery

    run.out.tell(f"looking for a sealed site file in {place.config.bucket}")
    return recovery.recover(place, recovery.passphrase_of(os.environ), site=site, before=before, point=point)


def write(found: Recovered, out: Path | None, *, beside: bool = False) -> Path:
    """Write a recovered site file, mode 0600; one that is there already and says the same is left alone.

    Args:
        beside: Where another one stands there, take a name that says of which recovery point it is.

    Raises:
        RestoreRefused: Another one stands there. ConfigError: it cannot be written.
    """
    path = out or Path.cwd() / f"{found.found.site}.yaml"
    text = found.site_text.text.encode()
    try:
        if path.exists():
            if path.read_bytes() == text:
                return path
            if beside:
                return write(found, path.with_name(f"{path.stem}.{found.found.point}.yaml"))
            raise RestoreRefused(
                f"{path} is there already, and says something else than the one in the bucket.",
                kept="it was not touched",
                remedy=f"use it with -f {path}, or write the other one elsewhere with --out",
            )
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.", remedy="choose another with --out") from None
    return path

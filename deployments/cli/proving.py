"""``backups verify`` and ``backups decrypt``: read a stored backup to its end, and read it by hand."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli import exits
from deployments.cli.options import Database, Location, Source, find, locations
from deployments.cli.run import Outcome, Run, command
from deployments.cli.terminal import moment, size
from engine.errors import BackupError, ConfigError, IntegrityError, NotFound, RestoreRefused, UnknownName, nearest

if TYPE_CHECKING:
    from engine.catalog import Entry
    from engine.manifest import Manifest, StoredFile
    from engine.site import Site


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    command(
        app,
        "verify",
        stopped="nothing was changed; what was not read to its end counts as not checked",
        waits=True,
        example="""backups verify -f workset
                       backups verify -f workbench --backup all --location spaces
                       backups verify -f workset --backup workset_20250116_020000.sql.gz.enc
                       backups verify -f workset --backup workset_20250116_020000.sql.gz.enc --accept-size""",
    )(verify)
    command(
        app,
        "decrypt",
        stopped="no half file is left behind",
        waits=True,
        example="""backups decrypt -f workset latest --output workset.sql
                       backups decrypt -f workset workset_20250116_020000.sql.gz.enc | mysql workset_copy
                       backups decrypt -f workset latest --role accounts | less""",
    )(decrypt)


def verify(
    run: Run,
    source: Source = None,
    database: Database = None,
    backup: Annotated[
        str, typer.Option(help="latest (of every database), all, a file name, or 'before TIME' with its zone.")
    ] = "latest",
    location: Annotated[str, typer.Option(help="local, a replica's name, or all.")] = "local",
    accept_size: Annotated[
        bool,
        typer.Option("--accept-size", help="Of a backup given by its name: its unusual size is right, from now on."),
    ] = False,
) -> Outcome:
    """Read stored backups to their end: signature, digest, decryption, end marker, every table's rows; every file
    of an archive.

    Exit code 5 when one is not what its manifest says; a mark is left either way. What is in cold storage is thawed
    first (exit code 6 until it is there), but not for "all".
    """
    from engine.backup import verify as check
    from engine.verify import Gone

    if accept_size and (backup in ("latest", "all") or backup.startswith("before ")):
        raise ConfigError(
            f"The size of {backup!r} cannot be accepted: a person has to have looked at that very backup.",
            remedy="give its file name: --backup FILE --accept-size (backups list shows them)",
        )
    results, errors = [], []
    with run.site(thaw=backup != "all") as site:
        if source is not None:
            site.config.source(source)
        for entry in _chosen(site, source, database, backup, location):
            try:
                with run.out.progress() as progress:
                    report = check(site, entry, progress=progress, accept_size=accept_size)
            except BackupError as error:
                if backup == "all" and isinstance(error, Gone):
                    run.out.say(error.message)
                    continue
                errors.append(run.refuse(error, about=f"{entry.location}: "))
                results.append(
                    {"file": entry.file, "location": entry.location, "ok": False, "error": exits.describe(error)}
                )
                continue
            results.append({"file": entry.file, "location": entry.location, "ok": True, "report": asdict(report)})
            run.out.say(
                f"whole: {entry.file} in {entry.location} (taken {moment(entry.name.taken_at)}, {size(entry.size)})",
                style="green",
            )
    worst = max((exits.of(error) for error in errors), default=exits.OK)
    return Outcome({"verified": results}, worst, errors)


def _chosen(site: Site, source: str | None, database: str | None, backup: str, location: str) -> list[Entry]:
    """The backups that are meant. Raises UnknownName when there is none."""
    places = locations(site, location)
    if backup not in ("latest", "all"):
        return [find(site, backup, place, source, database)[0] for place in places]
    chosen: list[Entry] = []
    for place in places:
        entries = list(site.vault.catalog(place).entries(source=source, database=database))
        chosen += entries if backup == "all" else _newest_of_each(site, entries)
    if not chosen:
        whose = "/".join(each for each in (source, database) if each) or f"site {site.name}"
        raise UnknownName(f"There is no backup of {whose} in {', '.join(places)}.", remedy="make one: backups backup")
    return chosen


def _newest_of_each(site: Site, entries: list[Entry]) -> list[Entry]:
    from engine.status import owner

    newest: dict[tuple[str, str], Entry] = {}
    for entry in entries:  # newest first
        newest.setdefault((owner(site, entry)[0], entry.name.name), entry)
    return list(newest.values())


def decrypt(
    run: Run,
    backup: Annotated[
        str,
        typer.Argument(help="latest, a file name, 'before TIME', or the path of a file with its manifest beside it."),
    ],
    source: Source = None,
    database: Database = None,
    location: Location = "auto",
    role: Annotated[
        str, typer.Option(help="Which part: data, or a companion such as accounts, globals, properties.")
    ] = "data",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write here (mode 0600) instead of standard output.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output file when it exists.")] = False,
) -> Outcome:
    """Decrypt and unpack a backup; signature and digest are checked before the first byte comes out."""
    _check_output(run, output, force)
    with run.site(thaw=True) as site:
        manifest, place, chunks = _open(site, backup, source, database, location, role)
        chunks = _whole(chunks, manifest)
        if output is None:
            written = _to_stdout(chunks)
            run.out.tell(f"{manifest.file} from {place}: {size(written)}")
        else:
            written = _to_file(chunks, output)
            run.out.say(f"{output}: {size(written)} of {manifest.file} from {place}", style="green")
    return Outcome(
        {
            "file": manifest.file,
            "role": role,
            "location": place,
            "bytes": written,
            "output": str(output) if output else None,
        }
    )


def _check_output(run: Run, output: Path | None, force: bool) -> None:
    if output is None:
        if run.json:
            raise ConfigError("--json and the backup cannot both go to standard output.", remedy="add --output FILE")
        if sys.stdout.isatty():
            raise RestoreRefused(
                "A backup is not for reading on a terminal.",
                remedy="add --output FILE, or pipe it: backups decrypt ... | less",
            )
    elif output.exists() and not force:
        raise RestoreRefused(f"{output} exists already.", kept="it was not touched", remedy="add --force to replace it")


def _open(
    site: Site, backup: str, source: str | None, database: str | None, location: str, role: str
) -> tuple[Manifest, str, Iterator[bytes]]:
    """Manifest, where it is, and the verified plain bytes of one part."""
    if "/" in backup or (Path(backup).is_file() and Path(backup + ".json").is_file()):
        return _open_file(site, Path(backup), role)
    entry, manifest = find(site, backup, location, source, database)
    _part(manifest, role)
    return manifest, entry.location, site.vault.read_part(entry, manifest, role)


def _open_file(site: Site, path: Path, role: str) -> tuple[Manifest, str, Iterator[bytes]]:
    """A backup that stands in no store: a file and, beside it, its manifest."""
    from engine.codec import decode
    from engine.manifest import open_signed

    beside = path.with_name(path.name + ".json")
    if not path.is_file() or not beside.is_file():
        missing = beside if path.is_file() else path
        raise UnknownName(
            f"There is no file {missing}.",
            remedy="a backup without its manifest opens by hand: see docs/restore-by-hand.md",
        )
    manifest = open_signed(beside.read_bytes(), site.vault.keys, file=path.name)
    part = _part(manifest, role)
    stored = path.with_name(part.file)
    for _ in decode(_read(stored), part, site.vault.keys):
        pass  # the first pass proves it; only then does a byte come out
    return manifest, str(path.parent), decode(_read(stored), part, site.vault.keys)


def _whole(chunks: Iterator[bytes], manifest: Manifest) -> Iterator[bytes]:
    """The same chunks. Raises IntegrityError where the part is gone that the manifest speaks of."""
    try:
        yield from chunks
    except NotFound as error:
        raise IntegrityError(
            f"{manifest.file} is not whole: {error.message}", remedy="use another copy of this backup (--location)"
        ) from error


def _part(manifest: Manifest, role: str) -> StoredFile:
    for part in manifest.files:
        if part.role == role:
            return part
    raise UnknownName(
        f"{manifest.file} has no part {role!r}.", remedy=nearest(role, [part.role for part in manifest.files])
    )


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(1024 * 1024):
            yield chunk


def _to_stdout(chunks: Iterator[bytes]) -> int:
    written = 0
    for chunk in chunks:
        sys.stdout.buffer.write(chunk)
        written += len(chunk)
    sys.stdout.buffer.flush()
    return written


def _to_file(chunks: Iterator[bytes], output: Path) -> int:
    """Written beside under another name, renamed once whole."""
    beside = output.with_name(f".{output.name}.{secrets.token_hex(4)}")
    written = 0
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            for chunk in chunks:
                file.write(chunk)
                written += len(chunk)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(output)
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror}.", remedy="choose another --output") from None
    finally:
        beside.unlink(missing_ok=True)
    return written

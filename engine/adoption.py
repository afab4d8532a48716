"""The steps of taking in a dump that another tool made: recognise, read to its end, adopt, verify.

Its rows are counted in the stream before anything is published, so a later restore has something to
hold the copy against, and a dump that was cut off is refused at the door.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from engine.adopt import Foreign, recognise
from engine.backup import verify
from engine.catalog import Entry
from engine.errors import BackupError
from engine.manifest import Manifest, Server, StoredFile
from engine.names import now
from engine.progress import Progress, silent
from engine.site import Site, Target
from engine.source import Facts

_PG_CUSTOM = b"PGDMP"


def adopt(
    site: Site,
    path: Path,
    target: Target,
    *,
    tier: str,
    iterations: int = 10_000,
    key_id: str | None = None,
    progress: Progress = silent,
) -> tuple[Entry, Manifest]:
    """Take a file in under a proper name, with a manifest of its own, and verify what is stored.

    Args:
        path: Made by ``dump | gzip | openssl enc -aes-256-cbc -salt -pbkdf2``; it stays where it is.
        target: Whose dump it is.

    Raises:
        NotFound: No such file. WrongKey: no key of the ring opens it. IntegrityError: it is damaged,
            or no whole dump of this kind of database. And what ``Vault.adopt`` raises.
    """
    source = site.source(target.source)
    foreign = recognise(path, site.vault.keys, iterations=iterations, key_id=key_id)
    form = "pg_custom" if _head(site, foreign).startswith(_PG_CUSTOM) else "sql"
    server, warnings = _server(site, target)
    draft = _draft(site, target, tier, foreign, form, server)
    with closing(foreign.plain(site.vault.keys)) as plain:
        rows = source.inspect(draft, _told(plain, path.name, progress)) or {}
    facts = Facts(server=server, dump_format=form, rows=rows, warnings=warnings)
    entry, manifest = site.vault.adopt(
        path, source=target.source, kind=source.kind, tier=tier, database=target.database, iterations=iterations,
        key_id=foreign.cipher.key_id, facts=facts,
    )  # fmt: skip
    verify(site, entry, progress=progress)
    return entry, manifest


def _head(site: Site, foreign: Foreign) -> bytes:
    with closing(foreign.plain(site.vault.keys)) as plain:
        return next(plain, b"")


def _server(site: Site, target: Target) -> tuple[Server, list[str]]:
    """The server as it is today, or only its kind: nothing in the file says which one it came from."""
    source = site.source(target.source)
    try:
        found = source.server()
    except BackupError as error:
        return Server(flavour=source.kind, version="", uuid=""), [f"the server was not asked: {error.message}"]
    return found, ["adopted: the server and its version are those of the day of adoption"]


def _draft(site: Site, target: Target, tier: str, foreign: Foreign, form: str, server: Server) -> Manifest:
    """What a source needs to know to read the dump, before any of it is proven."""
    path = foreign.path
    stored = StoredFile(
        file=path.name, role="data", size=path.stat().st_size, sha256="", plain_size=-1,
        compression=foreign.compression, cipher=foreign.cipher,
    )  # fmt: skip
    return Manifest(
        site=site.name, source=target.source, kind=site.source(target.source).kind, tier=tier,
        database=target.database, file=path.name, started_at=now(), finished_at=now(), files=[stored],
        dump_format=form, server=server, schema_sha256="", tool_version="", adopted=True,
    )  # fmt: skip


def _told(chunks: Iterator[bytes], name: str, progress: Progress) -> Iterator[bytes]:
    done = 0
    for chunk in chunks:
        done += len(chunk)
        progress(f"read {name}", done)
        yield chunk

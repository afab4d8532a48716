"""Small files of a config backup, read without restoring it."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Iterator

from engine.archive.read import members
from engine.restore_plan import find_copies
from engine.site import Site, Target

_MOST = 1024 * 1024


def dotenv_files(site: Site, source: str, backup: str = "latest") -> Iterator[tuple[str, str]]:
    """Path and text of every ``.env`` file of a source's backup, those nearest to the root first.

    Raises:
        UnknownName: No such backup. IntegrityError, WrongKey, and what a store raises.
    """
    entry, manifest = find_copies(site, Target(source, source), backup, "auto", [])[0]
    found: list[tuple[str, str]] = []
    with contextlib.closing(site.vault.read_part(entry, manifest)) as chunks:
        for info, content in members(chunks, manifest.file):
            name = posixpath.basename(info.name)
            if info.isreg() and info.size <= _MOST and (name == ".env" or name.endswith(".env")):
                with contextlib.suppress(UnicodeDecodeError):
                    found.append((f"/{info.name}", b"".join(content).decode()))
    yield from sorted(found, key=lambda each: (each[0].count("/"), each[0]))

"""Where the pages of the weekly report are kept."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from engine.errors import NotFound
from engine.site import Site
from engine.stores.local_errors import speaking_of
from engine.whole import replace_file

FOLDER = "reports"
KEPT = 53
"""So many pages with a date: a year of weeks."""


def folder_of(site: Site) -> Path:
    """``report.directory`` of the site file, else ``reports`` in the vault's own state."""
    given = site.config.report.directory
    return Path(given) if given else site.vault.state / FOLDER


def keep(site: Site, page: str, at: datetime) -> Path:
    """Write a page twice, ``<site>-2026-11-23.html`` and ``<site>.html``, which is always the newest; the oldest ones
    beyond ``KEPT`` go. Gives the path of the newest.

    Raises:
        NotFound: There is no vault yet, or its disk is away; or no such directory. StoreError, DiskFull, StoreRefused:
            It cannot be written there.
    """
    folder = folder_of(site)
    if folder.parent == site.vault.state and not site.vault.state.is_dir():  # it is not made: a disk may be away
        raise NotFound(
            f"The page cannot be written: {site.vault.root} holds no vault of {site.name}.",
            remedy="is its disk mounted?",
        )
    with speaking_of("write to", folder, folder):
        folder.mkdir(exist_ok=True)
        write(folder / f"{site.name}-{at:%Y-%m-%d}.html", page)
        write(folder / f"{site.name}.html", page)
        dated = re.compile(rf"{re.escape(site.name)}-\d{{4}}-\d\d-\d\d\.html")
        pages = sorted(each for each in folder.iterdir() if dated.fullmatch(each.name))
        for old in pages[:-KEPT]:
            old.unlink(missing_ok=True)
    return folder / f"{site.name}.html"


def write(path: Path, page: str) -> None:
    """Whole or not at all, readable for everybody who can enter the directory. Raises as ``keep``."""
    with speaking_of("write to", path, path.parent):
        replace_file(path, page, mode=0o644)

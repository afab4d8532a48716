"""Tablespaces that the log makes: replayed, each is made anew at the very path at which it stood.

A base backup's own tablespaces are put elsewhere by its map. For one that was made after it there is no map: the
replay goes to that path, and on the source's own host that is production's directory (PostgreSQL takes a directory
that is in use for granted while it recovers). So these are looked for before anything is started.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from engine.errors import RestoreRefused, ToolFailed

if TYPE_CHECKING:
    from engine.scratch.postgres_place import Place

_MADE = re.compile(rb'rmgr: Tablespace .*?lsn: ([0-9A-F]+)/([0-9A-F]+),.* desc: CREATE (\d+) "(.*)"\s*$')


def made_by_log(place: Place, directory: str, segments: Iterable[str]) -> dict[str, int]:
    """Where the segments in a directory make tablespaces, and at which position of the log (a number) last.

    Raises:
        ToolMissing: No ``pg_waldump`` there.
    """
    found: dict[str, int] = {}
    for first, last in _runs(sorted(segments)):
        command = place.command("pg_waldump", "-p", directory, "-r", "Tablespace", first, last)
        with place.runner.start(command) as process:
            rest = b""
            for chunk in process.chunks():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if made := _MADE.search(line):
                        path = made[4].decode("utf-8", "surrogateescape")
                        found[path] = (int(made[1], 16) << 32) | int(made[2], 16)
            try:
                process.wait()
            except ToolFailed:
                pass  # the last record goes on in a segment that is not here, or is damaged: recovery itself judges
    return {path: lsn for path, lsn in found.items() if path}  # one without a path stands in the data directory


def refusal(path: str) -> RestoreRefused:
    """Why a scratch server on this host does not replay that."""
    return RestoreRefused(
        f"After the base backup a tablespace was made in {path}: replayed on this host, it would be written into that "
        "directory, which may be production's.",
        kept="nothing was started; production was not touched",
        remedy="moments after a new base backup can be recovered here: backups base; for earlier ones bring the whole "
        "server back elsewhere: backups restore-cluster",
    )


def _runs(segments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """First and last of each timeline: the program reads one timeline at a time."""
    for line in dict.fromkeys(name[:8] for name in segments):
        of_line = [name for name in segments if name[:8] == line]
        yield of_line[0], of_line[-1]

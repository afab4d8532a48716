"""The commits around a moment, for a person who looks for the one to recover to: read by ``pg_waldump``."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from engine.config import PostgresConfig
from engine.errors import LogGap, ToolFailed
from engine.postgres.places import scratch
from engine.scratch.postgres_files import SEGMENT, Member, WalFile
from engine.scratch.postgres_place import Place

_COMMIT = re.compile(
    rb"tx:\s*(\d+), lsn: ([0-9A-F]+/[0-9A-F]+),.* desc: COMMIT(?:_PREPARED \d+:)? "
    rb"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) UTC"
)


@dataclass(frozen=True)
class Commit:
    """One commit in the log: its stamp (UTC, microseconds), transaction number and position."""

    at: datetime
    transaction: int
    lsn: str


def commits_near(
    config: PostgresConfig,
    *,
    site: str,
    state: Path,
    major: int,
    wal: Sequence[WalFile],
    moment: datetime,
    count: int = 10,
    image: str = "",
    work_directory: Path | None = None,
) -> tuple[list[Commit], list[Commit]]:
    """Up to ``count`` commits by that moment, and as many after it, each in the log's order.

    Args:
        wal: Segments around the moment, without holes, of one timeline.

    Raises:
        LogGap: No segment was given, or they hold no whole record.
        ToolMissing, WrongTool, DiskFull, ToolFailed: see the message.
    """
    files = sorted((each for each in wal if SEGMENT.match(each.name)), key=lambda each: each.name)
    if not files:
        raise LogGap("No segment of the log was given to look for commits in.")
    with scratch(config, site=site, state=state, major=major, image=image, parent=work_directory) as (journal, place):
        place.make(journal, len(files) * 16 * 1024 * 1024)
        place.put("wal", [Member(each.name, False, *_whole(each)) for each in files])
        with closing(_commits(place, files[0].name, files[-1].name)) as found:
            return around(found, moment, count)


def around(commits: Iterable[Commit], moment: datetime, count: int) -> tuple[list[Commit], list[Commit]]:
    """The last few by a moment and the first few after it; stamps may run backwards by a little."""
    before: deque[Commit] = deque(maxlen=count)
    after: list[Commit] = []
    for commit in commits:
        if commit.at > moment:
            after.append(commit)
            if len(after) >= count:
                break
        elif not after:
            before.append(commit)
    return list(before), after


def parse(line: bytes) -> Commit | None:
    """A commit from a line of ``pg_waldump``, or None."""
    found = _COMMIT.search(line)
    if not found:
        return None
    return Commit(datetime.fromisoformat(found[3].decode()).replace(tzinfo=UTC), int(found[1]), found[2].decode())


def _commits(place: Place, first: str, last: str) -> Generator[Commit, None, None]:
    command = place.command("pg_waldump", "-p", f"{place.work}/wal", "-r", "Transaction", first, last)
    seen = False
    with place.runner.start(command) as process:
        rest = b""
        for chunk in process.chunks():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                commit = parse(line)
                if commit is not None:
                    seen = True
                    yield commit
        try:
            process.wait()
        except ToolFailed as error:
            # The last record may go on in a segment that is not here: all before it was read.
            if not seen:
                raise LogGap(f"No commit could be read from {first} to {last}: {error.message}") from None


def _whole(file: WalFile) -> tuple[int, Iterator[bytes]]:
    size = sum(len(chunk) for chunk in file.open())
    return size, file.open()

"""A whole PostgreSQL server brought back into an empty place: for a new machine, or a new start.

It is left shut down. Until all of it is there, each of its directories holds a file that says so
(``engine.postgres.grounds.UNFINISHED``), and ``recovery.signal``, without which no server starts on it as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from engine import names
from engine.config import PostgresConfig
from engine.errors import BackupError, IntegrityError
from engine.locks import held
from engine.postgres import dropped
from engine.postgres.grounds import UNFINISHED, Ground
from engine.postgres.quoting import ident
from engine.processes import Command
from engine.progress import Progress, silent
from engine.scratch import leftovers
from engine.scratch.postgres import Cluster, Recovered
from engine.scratch.postgres_files import (
    ASIDE,
    AUTO,
    SEGMENT,
    BaseBackup,
    Found,
    WalFile,
    data_members,
    text_member,
)
from engine.scratch.postgres_place import PORT, Place
from engine.scratch.postgres_settings import Goal, as_text, preloaded

_OF_ANOTHER_LIFE = re.compile(r"^\s*(recovery_\w+|restore_command|archive_cleanup_command|primary_\w+|promote_\w+)\b")
_SEGMENT = 16 * 1024 * 1024
_AT_THE_FRONT = 3
"""A base backup's label and map of tablespaces are its first files."""
_EMPTY = """
[ -f "$1/$2" ] || exit 0
for each in "$1"/* "$1"/.[!.]* "$1"/..?*; do
  [ "$each" = "$1/$2" ] || rm -rf -- "$each"
done
rm -f -- "$1/$2"
"""
"""Empties a directory that is marked as ours, and takes the mark last: nothing unmarked is ever emptied."""
_COLLATIONS = """
SELECT datname FROM pg_database WHERE datallowconn AND datcollversion IS NOT NULL
AND datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid) ORDER BY 1
"""


@dataclass(frozen=True)
class NewCluster:
    """A restored server: left stopped, shut down cleanly.

    Attributes:
        where: Where it is, in words.
        steps: What a person must do next, in order.
    """

    where: str
    report: Recovered
    steps: list[str]


@dataclass
class _Seen:
    """What was found in the restored server, for the steps that follow."""

    disabled: list[str] = field(default_factory=list)
    other_collations: list[str] = field(default_factory=list)
    configured: bool = False
    libraries: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)


def restore_cluster(
    config: PostgresConfig,
    *,
    state: Path,
    ground: Ground,
    base: BaseBackup,
    wal: Sequence[WalFile],
    goal: Goal,
    progress: Progress = silent,
) -> NewCluster:
    """Recover a whole cluster into an empty place, and shut it down cleanly. Nothing listens on a network.

    Args:
        config: The source as its site describes it; the server itself is not spoken to.
        state: The vault's state directory, for the journal.

    Raises:
        RestoreRefused: A directory is not empty. LockHeld: another run restores there.
        And what ``engine.postgres.pitr.recover`` raises; then all that was put there is gone again.
    """
    try:
        return _restore(config, state, ground, base, wal, goal, progress)
    except _BeingDropped as found:
        return _restore(config, state, ground, base, wal, found.earlier, progress, found)


class _BeingDropped(Exception):
    """Databases were being dropped at that moment, their files gone: it is tried anew, to right before that.

    Attributes:
        earlier: Where to stop instead.
    """

    def __init__(self, report: Recovered, gone: Sequence[dropped.Dropped], earlier: Goal) -> None:
        super().__init__("a database was being dropped")
        self.report, self.gone, self.earlier = report, gone, earlier


def _restore(
    config: PostgresConfig,
    state: Path,
    ground: Ground,
    base: BaseBackup,
    wal: Sequence[WalFile],
    goal: Goal,
    progress: Progress,
    anew: _BeingDropped | None = None,
) -> NewCluster:
    """One try; what it put there is gone again when it fails."""
    spaces = ground.spaces(tablespaces_of(base))
    with contextlib.ExitStack() as last:
        last.enter_context(held(_lock(state, ground), f"the new server in {ground.describe()}"))
        ground.check(base.major, spaces, base.bytes)
        journal = leftovers.begin(state, config.name, ground.kind)
        last.callback(leftovers.clear, journal)
        place = ground.open(base.major, spaces)
        last.callback(place.close)
        place.make(journal, len(wal) * _SEGMENT)
        directories = [ground.data, *spaces.values()]
        seen = _Seen(again=_begun_before(place, directories))
        journal.record("cluster", kind=ground.kind, where=ground.describe(), mark=f"{ground.data}/{UNFINISHED}")
        claim = last.enter_context(_claimed(place, ground, directories, str(goal)))

        def space(path: str) -> None:
            """A tablespace that was made after the base backup stands where it stood, and nowhere else."""
            ground.check_space(path)
            seen.again.extend(_begun_before(place, [path]))
            directories.append(path)
            claim(path)

        cluster = Cluster(place, base.major, data=ground.data, durable=True, space=space)
        cluster.timeout_seconds = config.timeout_seconds
        last.callback(cluster.stop)
        cluster.fill(base, wal, progress, lambda old: _same(old, spaces))
        report = _whole(place, cluster.recover(goal, config.user, progress), wal, anew)
        progress("close the server", 0, None)
        _look(place, cluster, report, seen)
        cluster.stop("fast")
        _settle(place, ground.data)
        _release(place, directories)
        return NewCluster(ground.describe(), report, _steps(ground, base.major, report, seen))


def tablespaces_of(base: BaseBackup) -> dict[str, str]:
    """Where each tablespace stood, by oid: read from the beginning of the base backup."""
    found = Found()
    with contextlib.closing(data_members(base.data(), found, lambda old: old)) as members:  # type: ignore[type-var]
        for _ in zip(range(_AT_THE_FRONT), members, strict=False):
            if found.tablespaces():
                break
    return found.tablespaces()


def _same(old: Mapping[str, str], spaces: dict[str, str]) -> dict[str, str]:
    """Asked while the base is unpacked: its tablespaces must be those that were asked for and looked at."""
    if old.keys() != spaces.keys():
        raise IntegrityError(
            "The base backup does not begin with its map of tablespaces.",
            kept="what was put there is taken away again",
            remedy="use another base backup",
        )
    return spaces


def _lock(state: Path, ground: Ground) -> Path:
    return state / f"new-server-{hashlib.sha256(ground.describe().encode()).hexdigest()[:16]}.lock"


def _shell(place: Place, script: str, *arguments: str) -> str:
    words = place.runner.run(Command(("/bin/sh", "-c", script, "sh", *arguments), title="a look around"), timeout=None)
    return words.stdout.decode("utf-8", "surrogateescape")


def _begun_before(place: Place, directories: Sequence[str]) -> list[str]:
    """Empty what a restore that died left behind; when those had begun."""
    found = []
    for path in directories:
        mark = _shell(place, '[ ! -f "$1" ] || head -c 1000 "$1"', f"{path}/{UNFINISHED}")
        if mark:
            found.append(mark.splitlines()[0])
            _shell(place, _EMPTY, path, UNFINISHED)
    return list(dict.fromkeys(found))


@contextlib.contextmanager
def _claimed(place: Place, ground: Ground, directories: Sequence[str], goal: str) -> Iterator[Callable[[str], None]]:
    """Directories of ours, marked as unfinished; emptied again when the work fails. What claims one more is given."""
    words = (
        f"A restore to {goal}, begun {names.iso(names.now().replace(microsecond=0))}, is not finished.\n"
        "This is no server yet. Run the same restore again: it begins anew. Or empty the directory.\n"
    )

    def claim(path: str) -> None:
        ground.adopt(place, path)
        place.put(path, [text_member(UNFINISHED, words)])

    try:
        for path in directories:
            claim(path)
        yield claim
    except BaseException as error:
        try:
            for path in directories:
                _shell(place, _EMPTY, path, UNFINISHED)
        except BackupError:
            if isinstance(error, BackupError):
                left = f"{ground.describe()} holds an unfinished server, marked by the file {UNFINISHED}"
                error.kept = f"{left}; {error.kept or 'nothing else was touched'}"
        raise


def _release(place: Place, directories: Sequence[str]) -> None:
    """Now it is a server: the marks go, that of the data directory last, once everything is on the disk."""
    _shell(place, "sync")
    for path in reversed(directories):
        _shell(place, 'rm -f -- "$1"', f"{path}/{UNFINISHED}")
    _shell(place, "sync")


def _whole(place: Place, report: Recovered, wal: Sequence[WalFile], anew: _BeingDropped | None) -> Recovered:
    """No database that was being dropped is left without files.

    Raises:
        _BeingDropped: One is, and this is the first try. RestoreRefused: It cannot be had whole.
    """
    where = {"host": place.work, "port": PORT, "user": report.user, "dbname": "postgres", "passfile": "/nonexistent"}
    with psycopg.connect(**where, autocommit=True) as connection:  # type: ignore[arg-type]
        if anew is not None:
            report = dropped.accept(anew.report, report, anew.gone)
            dropped.revive(connection, anew.gone)
        elif report.goal.kind == "time" and (gone := dropped.without_files(connection)):
            segments = [each.name for each in wal if SEGMENT.match(each.name)]
            raise _BeingDropped(report, gone, dropped.right_before(place, segments, gone, report.goal))
    return report


def _look(place: Place, cluster: Cluster, report: Recovered, seen: _Seen) -> None:
    """Come into every database once, see what a person must know, and disable subscriptions.

    Two servers that subscribe alike would take each other's changes.
    """
    texts = [cluster.found.texts.get(name, "") for name in ("postgresql.conf", AUTO)]
    seen.libraries = preloaded(texts)
    seen.configured = "postgresql.conf" in cluster.found.texts
    for database in report.databases:
        where = {"host": place.work, "port": PORT, "user": report.user, "dbname": database, "passfile": "/nonexistent"}
        with psycopg.connect(**where, autocommit=True) as connection:  # type: ignore[arg-type]
            if not seen.other_collations:
                seen.other_collations = [str(name) for (name,) in connection.execute(_COLLATIONS).fetchall()]
            found = connection.execute(
                "SELECT subname FROM pg_subscription WHERE subenabled AND subdbid = "
                "(SELECT oid FROM pg_database WHERE datname = current_database())"
            ).fetchall()
            for (name,) in found:
                connection.execute(f"ALTER SUBSCRIPTION {ident(name)} DISABLE".encode())
                seen.disabled.append(f"{name} in {database}")


def _settle(place: Place, data: str) -> None:
    """Give the cluster its own settings back, without those of a standby, and with archiving off."""
    lines = _shell(place, '[ ! -f "$1" ] || cat "$1"', f"{data}/{ASIDE}").splitlines()
    kept = [line for line in lines if not _OF_ANOTHER_LIFE.match(line) and not line.startswith("archive_mode")]
    _shell(place, 'rm -f -- "$@"', *(f"{data}/{name}" for name in (AUTO, ASIDE, "postmaster.opts")))
    place.put(data, [text_member(AUTO, "\n".join([*kept, as_text({"archive_mode": "off"})]))])


def _steps(ground: Ground, major: int, report: Recovered, seen: _Seen) -> list[str]:
    steps = [f"An earlier restore there had not ended, and was begun anew: {each}" for each in seen.again]
    if seen.configured:
        steps.append(
            f"Look through postgresql.conf and pg_hba.conf in {ground.data}: addresses, paths and memory are those of "
            "the old machine."
        )
    else:
        steps.append(
            f"Write postgresql.conf and pg_hba.conf for {ground.data}: on the source they stood outside the data "
            f"directory (Debian: /etc/postgresql/{major}/main). Bring them back from the configuration's backup."
        )
    if seen.libraries:
        steps.append(
            f"It preloads {', '.join(seen.libraries)}: they must be installed there, and jobs of their own (pg_cron) "
            "run as soon as it is started. Take out of shared_preload_libraries what must not."
        )
    steps += ground.starting()
    steps.append(
        "Roles and passwords are those of that time; POSTGRES_PASSWORD and the like of a container change nothing in a "
        "directory that holds data."
    )
    steps.append(
        f"It is on timeline {report.timeline}, with archiving off. Once archiving has a place of its own: "
        "ALTER SYSTEM RESET archive_mode; and restart. It has no replication slots: standbys and subscribers of the "
        "old server need new ones."
    )
    if seen.disabled:
        steps.append(
            f"Subscriptions were disabled: {', '.join(seen.disabled)}. Enable them only when the old server is gone."
        )
    if seen.other_collations:
        steps.append(
            f"This system sorts text differently from the old one (in {', '.join(seen.other_collations)}): REINDEX "
            "DATABASE, then ALTER DATABASE ... REFRESH COLLATION VERSION, before anybody uses them."
        )
    steps.append("Point its users there, and take a base backup at once: the old ones end with the old timeline.")
    # what was only so while the log was applied (libraries, subscriptions at rest) is no news any more
    return [*steps, *(note for note in report.notes if note.startswith("Prepared") or "being dropped" in note)]

"""A whole PostgreSQL server brought back into an empty data directory: for a new machine, or a new start."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from engine.config import PostgresConfig
from engine.errors import RestoreRefused
from engine.postgres.quoting import ident
from engine.progress import Progress, silent
from engine.scratch import here, leftovers
from engine.scratch.postgres import Cluster, Recovered
from engine.scratch.postgres_files import ASIDE, AUTO, BaseBackup, WalFile
from engine.scratch.postgres_place import PORT, LocalPlace, identity, refuse_without_room
from engine.scratch.postgres_settings import Goal, as_text

_OF_ANOTHER_LIFE = re.compile(r"^\s*(recovery_\w+|restore_command|archive_cleanup_command|primary_\w+|promote_\w+)\b")
Locations = Callable[[dict[str, str]], dict[str, str]]
_KEPT = "nothing that stood there was touched"


@dataclass(frozen=True)
class NewCluster:
    """A restored server: left stopped, shut down cleanly.

    Attributes:
        data_directory: Where it is.
        steps: What a person must do next, in order.
    """

    data_directory: Path
    report: Recovered
    steps: list[str]


def restore_cluster(
    config: PostgresConfig,
    *,
    site: str,
    state: Path,
    base: BaseBackup,
    wal: Sequence[WalFile],
    goal: Goal,
    data_directory: Path,
    tablespaces: Path | None = None,
    work_directory: Path | None = None,
    progress: Progress = silent,
) -> NewCluster:
    """Recover a whole cluster into an empty data directory on this host, and shut it down cleanly.

    Args:
        data_directory: Absolute; absent, or an empty directory.
        tablespaces: Directory below which they are put, one a folder by oid; None: where they stood.
        work_directory: For what is needed meanwhile (the log, the socket).

    Raises:
        RestoreRefused: The data directory, or where a tablespace must go, is not empty.
        And what ``engine.postgres.pitr.recover`` raises; then all that was put there is gone again.
    """
    _refuse_full(data_directory, "The data directory")
    journal = leftovers.begin(state, config.name, "host")
    with contextlib.ExitStack() as last:
        last.callback(leftovers.clear, journal)
        place = LocalPlace(base.major, here.parents(work_directory, state), tools_path=config.tools_path)
        place.make(journal, len(wal) * 16 * 1024 * 1024)
        data_directory.parent.mkdir(parents=True, exist_ok=True)
        refuse_without_room(data_directory.parent, base.bytes)
        made = last.enter_context(_emptied_on_failure(data_directory))

        def locations(old: dict[str, str]) -> dict[str, str]:
            found = {oid: str(tablespaces / oid) if tablespaces else path for oid, path in old.items()}
            for path in map(Path, found.values()):
                _refuse_full(path, "The directory of a tablespace")
                made.append(path)
                _adopt(path)
            return found

        _adopt(data_directory)
        cluster = Cluster(place, base.major, data=str(data_directory), durable=True)
        cluster.timeout_seconds = config.timeout_seconds
        last.callback(cluster.stop)
        cluster.fill(base, wal, progress, _once(locations))
        report = cluster.recover(goal, config.user, progress)
        disabled = _disable_subscriptions(place.work, report)
        cluster.stop("fast")
        _settle(data_directory)
        return NewCluster(data_directory, report, _steps(data_directory, base.major, report, disabled))


def _once(locations: Locations) -> Locations:
    """Asked again, the answer is the same, though the directories are no longer empty."""
    answers: list[dict[str, str]] = []

    def ask(old: dict[str, str]) -> dict[str, str]:
        if not answers:
            answers.append(locations(old))
        return answers[0]

    return ask


def _refuse_full(path: Path, what: str) -> None:
    if not path.is_absolute():
        raise RestoreRefused(f"{what} {path} is not an absolute path.", kept=_KEPT, remedy="write it from the start")
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise RestoreRefused(f"{what} {path} is no directory.", kept=_KEPT, remedy="name an empty one")
    if path.is_dir() and (found := next(path.iterdir(), None)) is not None:
        raise RestoreRefused(
            f"{what} {path} is not empty: it holds {found.name}.",
            kept=_KEPT,
            remedy="stop what runs there and move it away, or name an empty directory",
        )


def _adopt(path: Path) -> None:
    """Make the directory the server's own; others are kept out."""
    path.mkdir(parents=True, exist_ok=True)
    who = identity()
    if who.changes:
        os.chown(path, who.uid, who.gid)
    path.chmod(0o700)


@contextlib.contextmanager
def _emptied_on_failure(data: Path) -> Iterator[list[Path]]:
    """What is put into these directories, which were empty, goes again when the work fails."""
    made = [data]
    try:
        yield made
    except BaseException:
        for path in made:
            for each in path.iterdir() if path.is_dir() else ():
                if each.is_dir() and not each.is_symlink():
                    shutil.rmtree(each, ignore_errors=True)
                else:
                    each.unlink(missing_ok=True)
        raise


def _disable_subscriptions(socket: str, report: Recovered) -> list[str]:
    """Two servers that subscribe alike would take each other's changes: these are disabled."""
    done = []
    for database in report.databases:
        where = {"host": socket, "port": PORT, "user": report.user, "dbname": database, "passfile": "/nonexistent"}
        with psycopg.connect(**where, autocommit=True) as connection:  # type: ignore[arg-type]
            found = connection.execute(
                "SELECT subname FROM pg_subscription WHERE subenabled AND subdbid = "
                "(SELECT oid FROM pg_database WHERE datname = current_database())"
            ).fetchall()
            for (name,) in found:
                connection.execute(f"ALTER SUBSCRIPTION {ident(name)} DISABLE".encode())
                done.append(f"{name} in {database}")
    return done


def _settle(data: Path) -> None:
    """Give the cluster its own settings back, without those of a standby, and with archiving off."""
    aside = data / ASIDE
    lines = aside.read_text(errors="surrogateescape").splitlines() if aside.exists() else []
    kept = [line for line in lines if not _OF_ANOTHER_LIFE.match(line) and not line.startswith("archive_mode")]
    text = "\n".join([*kept, as_text({"archive_mode": "off"})])
    auto = data / AUTO
    auto.write_text(text, errors="surrogateescape")
    auto.chmod(0o600)
    owner = data.stat()
    os.chown(auto, owner.st_uid, owner.st_gid)
    for name in (ASIDE, "postmaster.opts"):
        with contextlib.suppress(FileNotFoundError):
            (data / name).unlink()


def _steps(data: Path, major: int, report: Recovered, disabled: Sequence[str]) -> list[str]:
    steps = []
    if not (data / "postgresql.conf").exists():
        steps.append(
            f"Write postgresql.conf and pg_hba.conf for {data}: on the source they stood outside the data directory "
            f"(Debian: /etc/postgresql/{major}/main). Bring them back from the configuration's backup."
        )
    else:
        steps.append(
            f"Look through postgresql.conf and pg_hba.conf in {data}: addresses, paths, memory, and libraries with "
            "jobs of their own (pg_cron) are those of the old machine."
        )
    steps.append(f"Start it as the owner of {data}: pg_ctl -D {data} start (or by its service).")
    steps.append(
        f"It is on timeline {report.timeline}, with archiving off. Once archiving has a place of its own: "
        "ALTER SYSTEM RESET archive_mode; and restart."
    )
    if disabled:
        steps.append(
            f"Subscriptions were disabled: {', '.join(disabled)}. Enable them only when the old server is gone."
        )
    steps.append("Point its users there, and take a base backup at once: the old ones end with the old timeline.")
    return [*steps, *report.notes]

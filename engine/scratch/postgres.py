"""A private PostgreSQL cluster: made from a base backup and log files, recovered to a goal, and taken away again.

What a dead run left of one is found by its journal (kind ``scratch-postgres``), see ``sweep_one``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import psycopg

from engine.errors import BackupError, IntegrityError, OutsideWindow, ToolFailed, Unreachable
from engine.postgres.connection import translated
from engine.processes import Command
from engine.progress import Progress
from engine.scratch import postgres_log
from engine.scratch.postgres_files import (
    SEGMENT,
    BaseBackup,
    Found,
    Member,
    WalFile,
    as_number,
    data_members,
    end_of,
    exactly,
    is_log_name,
    members,
    refuse_gaps,
    text_member,
)
from engine.scratch.postgres_look import notes, superuser, texts
from engine.scratch.postgres_place import PORT, Place, Running, server_command
from engine.scratch.postgres_settings import NEEDED, Goal, as_text, control_facts, harmless, preloaded
from engine.scratch.postgres_spaces import made_by_log

_NAP = 0.2
_LOOK = 5
"""Every so many naps the log is read for progress."""
_LOG_TAIL = "262144"
_SEGMENT_LABEL = "Bytes per WAL segment"
_STOP_SECONDS = 60
_DOOR = "local all all trust\nhost all all 127.0.0.1/32 trust\n"
"""The socket is in a directory of ours; TCP is heard inside a container of ours alone, and only by itself."""


@dataclass
class Recovered:
    """A promoted cluster.

    Attributes:
        goal: Where it was to stop.
        to_the_end: The log was applied to its end, since no later commit than the goal stands in it.
        last_commit: The last transaction applied, UTC; None when there was none since the base backup.
        timeline: The one it is on now.
        databases: That may be connected to, no templates.
        user: A superuser of the cluster, with whom sessions on its socket are let in.
        notes: To tell a person.
    """

    goal: Goal
    to_the_end: bool
    last_commit: datetime | None
    timeline: int
    stopped: str
    databases: list[str]
    user: str
    notes: list[str] = field(default_factory=list)


class Cluster:
    """One cluster in one place. Not thread safe.

    Args:
        place: Where it stands; made already.
        major: Version of PostgreSQL.
        data: The data directory; empty: below the place.
        durable: The data is to be kept; write it safely.
        space: Makes a directory ready in which the log makes a tablespace; as the place does it, when left out.
    """

    def __init__(
        self,
        place: Place,
        major: int,
        *,
        data: str = "",
        durable: bool = False,
        space: Callable[[str], None] | None = None,
    ) -> None:
        self.place = place
        self.data = data or f"{place.work}/data"
        self.control: dict[str, str] = {}
        self.found = Found()
        self._major = major
        self._durable = durable
        self._space = space or place.make_space
        self._server: Running | None = None
        self.timeout_seconds = 6 * 3600.0
        self._starts = 0
        self._wal: list[str] = []
        self._last_segment = ""

    def fill(
        self,
        base: BaseBackup,
        wal: Iterable[WalFile],
        progress: Progress,
        locations: Callable[[dict[str, str]], dict[str, str]] | None = None,
    ) -> None:
        """Unpack the base backup and lay the log files ready.

        Args:
            locations: New place of each tablespace, by oid, given the old ones; None: below the place.

        Raises:
            IntegrityError: The base is damaged, of another version, or lacks a tablespace.
            LogGap: A segment is missing. DiskFull.
        """
        done = 0

        def counted(chunks: Iterable[bytes]) -> Iterator[bytes]:
            nonlocal done
            for chunk in chunks:
                done += len(chunk)
                progress("unpack the base backup", done, base.bytes or None)
                yield chunk

        moved = locations or (lambda old: {oid: f"{self.place.work}/tablespaces/{oid}" for oid in old})
        # first of all: whoever starts a half-filled directory is told that it still has to be recovered
        self.place.put(self.data, [text_member("recovery.signal", "")])
        self.place.put(self.data, data_members(counted(base.data()), self.found, moved))
        self._check(base)
        for oid, location in moved(self.found.tablespaces()).items():
            self.place.put(location, members(counted(base.tablespaces[oid]()), f"tablespace-{oid}"))
        words = self.place.runner.run(self.place.command("pg_controldata", "-D", self.data)).text
        self.control = control_facts(words)
        self._lay(wal, progress)

    @property
    def moved(self) -> dict[str, str]:
        """Where tablespaces are here, and where they were on the source."""
        return {f"{self.place.work}/tablespaces/{oid}": path for oid, path in self.found.tablespaces().items()}

    def _check(self, base: BaseBackup) -> None:
        version = self.found.texts.get("PG_VERSION", "").strip()
        if version != str(base.major):
            raise IntegrityError(
                f"The base backup is of PostgreSQL {version or 'no version'}, not {base.major} as it was said to be.",
                kept="nothing was started",
            )
        lacking = sorted(self.found.tablespaces().keys() - base.tablespaces.keys())
        if lacking:
            raise IntegrityError(
                f"The base backup lacks tablespace {', '.join(lacking)}.",
                kept="nothing was started",
                remedy="use another base backup",
            )
        self.found.start_segment  # noqa: B018 - refuses a base without a label

    def _lay(self, wal: Iterable[WalFile], progress: Progress) -> None:
        size = int(self.control[_SEGMENT_LABEL])
        files = sorted(wal, key=lambda each: each.name)
        for file in files:
            if not is_log_name(file.name):
                raise IntegrityError(f"{file.name!r} is no name of a file of the log.", kept="nothing was started")
        self._wal = [file.name for file in files if SEGMENT.match(file.name)]
        there = [*self._wal, *self.found.wal]
        self._last_segment = refuse_gaps(self.found.start_segment, there, size)
        self.place.put("wal", self._log_members(files, size, progress))

    def _log_members(self, files: Sequence[WalFile], size: int, progress: Progress) -> Iterator[Member]:
        for number, file in enumerate(files):
            if SEGMENT.match(file.name):
                yield Member(file.name, False, size, exactly(file, size))
            else:
                text = b"".join(file.open())
                yield Member(file.name, False, len(text), iter((text,)))
            progress("lay the log ready", (number + 1) * size, len(files) * size)

    def recover(self, goal: Goal, user: str, progress: Progress, *, libraries: Sequence[str] = ()) -> Recovered:
        """Apply the log up to the goal, promote, and prove that it was promoted.

        A goal past the last commit is met by the whole log: without a later commit PostgreSQL never sees
        that the time has come, and gives up.

        Args:
            user: A role of the source to come in as; ``postgres`` is tried as well.
            libraries: Preloaded besides those that a cluster cannot be read without.

        Raises:
            OutsideWindow, LogGap, IntegrityError, ToolMissing, DiskFull, ToolFailed: see the message.
        """
        texts = [self.found.texts.get(name, "") for name in ("postgresql.conf", "postgresql.auto.conf")]
        named = preloaded(texts)
        kept = [*(each for each in named if each in NEEDED), *libraries]
        postgres_log.refuse_before(goal.time, self.control)
        self._make_spaces(goal)
        goal = replace(goal, timeline=self._timeline(goal))
        to_the_end = goal.kind == "end"
        connection = self._recovery(goal, kept, user, progress)
        if connection is None:
            self._refuse_beyond(goal)
            to_the_end = True
            connection = self._recovery(Goal(timeline=goal.timeline), kept, user, progress)
        if connection is None:
            raise postgres_log.failure(self.log(), self.place.describe(), str(goal))
        with connection, translated("looking at the recovered cluster"):
            report = self._proof(connection, goal, to_the_end)
            if to_the_end:
                self._refuse_stopped_short(goal)
        left_out = [each for each in named if each not in kept]
        if left_out:
            report.notes.append(f"Libraries the source preloads that were left out: {', '.join(left_out)}.")
        return report

    def _make_spaces(self, goal: Goal) -> None:
        """Tablespaces that were made after the base backup. Raises RestoreRefused where they may not be made."""
        made = made_by_log(self.place, f"{self.data}/pg_wal", self.found.segments())
        made |= made_by_log(self.place, f"{self.place.work}/wal", self._wal)
        for path, at in made.items():
            if at >= as_number(self.found.start) and (goal.kind != "lsn" or at <= as_number(goal.lsn)):
                self._space(path)

    def log(self) -> str:
        """The end of the server's log since it was started last."""
        words = self.place.runner.run(Command(("tail", "-c", _LOG_TAIL, self._log_file)))
        return words.stdout.decode("utf-8", "replace")

    @property
    def running(self) -> bool:
        """Was it started, and has it not ended?"""
        return self._server is not None and not self._server.ended

    def stop(self, mode: str = "immediate") -> None:
        """End the server. Safe to repeat.

        Raises:
            ToolFailed: ``fast`` only: it did not shut down cleanly.
        """
        server, self._server = self._server, None
        if server is None or server.ended:
            return
        command = self.place.command(
            "pg_ctl", "stop", "-D", self.data, "-m", mode, "-w", "-t", str(_STOP_SECONDS), "-s"
        )
        try:
            self.place.runner.run(command, timeout=_STOP_SECONDS + 30)
        except BackupError:
            if mode != "immediate":
                raise
        finally:
            server.end()

    @property
    def _log_file(self) -> str:
        return f"{self.place.work}/server-{self._starts}.log"

    def start(self, settings: dict[str, str]) -> None:
        """Start the server under these settings alone; the cluster's own configuration is not read."""
        self._starts += 1
        config = f"postgresql-{self._starts}.conf"
        # the log is there before anybody reads it
        files = [text_member(config, as_text(settings)), text_member(f"server-{self._starts}.log", "")]
        if self._starts == 1:
            files += [
                text_member("hba.conf", "local all all trust\nhost all all 127.0.0.1/32 trust\n"),
                text_member("ident.conf", ""),
            ]
        self.place.put("", files)
        command = self.place.command("postgres", "-D", self.data, "-c", f"config_file={self.place.work}/{config}")
        command = server_command(command, self.place.work, self._log_file)
        self._server = Running(self.place.runner.start(command))
        self.place.open_door()

    def _recovery(
        self, goal: Goal, libraries: Sequence[str], user: str, progress: Progress
    ) -> psycopg.Connection[object] | None:
        """Start and wait; a session on the promoted server, or None when the log ended before the goal."""
        settings = harmless(self.place.work, self._major, self.control, libraries, durable=self._durable)
        settings |= {"data_directory": self.data, "listen_addresses": self.place.listens} | goal.settings()
        self.start(settings)
        server = self._server
        assert server is not None
        for nap in range(int(self.timeout_seconds / _NAP)):
            if server.ended:
                log = self.log()
                if goal.kind != "end" and postgres_log.ended_early(log):
                    return None
                raise postgres_log.failure(log, self.place.describe(), str(goal))
            connection = self._enter(user)
            if connection is not None:
                return self._as_superuser(connection)
            if nap % _LOOK == 0:
                self._tell(progress)
            time.sleep(_NAP)
        raise ToolFailed(
            f"Recovery to {goal} on {self.place.describe()} did not end in {self.timeout_seconds:,.0f} s.",
            kept="production and the backups were not touched",
            remedy="raise timeout_seconds of the source, or take base backups more often",
        )

    def _as_superuser(self, connection: psycopg.Connection[object]) -> psycopg.Connection[object]:
        """The source may be read by a role with few rights; here all of it is ours."""
        with translated("asking the recovered cluster who may do everything"):
            user = superuser(connection)
        if user == connection.info.user:
            return connection
        connection.close()
        again = self._enter(user)
        if again is None:
            raise Unreachable(f"The recovered cluster does not let in its superuser {user!r}.")
        return again

    def _timeline(self, goal: Goal) -> str:
        """``latest`` is the newest timeline of which there is a segment. A history alone tells of a life after
        the goal, and may have branched off before the base backup."""
        if goal.timeline != "latest":
            return goal.timeline
        newest = max(name[:8] for name in (*self._wal, self.found.start_segment, *self.found.segments()))
        return "current" if newest == self.found.start_segment[:8] else str(int(newest, 16))

    def _tell(self, progress: Progress) -> None:
        size = int(self.control[_SEGMENT_LABEL])
        at = postgres_log.restored(self.log())
        done = sum(1 for name in self._wal if name[8:] <= at[8:]) if at else 0
        progress("apply the log", done * size, len(self._wal) * size)

    def _enter(self, user: str) -> psycopg.Connection[object] | None:
        """A session, or None while the server lets nobody in."""
        words = ""
        for role in dict.fromkeys((user, "postgres")):
            for database in ("postgres", "template1"):
                try:
                    return psycopg.connect(
                        host=self.place.work,
                        port=PORT,
                        user=role,
                        dbname=database,
                        password="",
                        passfile="/nonexistent",
                        connect_timeout=10,
                        autocommit=True,
                    )
                except psycopg.OperationalError as error:
                    words = str(error)
                if "does not exist" not in words or "No such file" in words:
                    return None
        raise Unreachable(
            f"The recovered cluster lets in neither user {user!r} nor 'postgres': {words}.",
            remedy="set user: of the source to a superuser of the cluster",
        )

    def _refuse_beyond(self, goal: Goal) -> None:
        """A position past all that was given is no goal that the log's end could stand for."""
        if goal.kind != "lsn":
            return
        end = end_of(self._last_segment, int(self.control[_SEGMENT_LABEL]))
        if as_number(goal.lsn) > end:
            raise OutsideWindow(
                f"Position {goal.lsn} lies past the end of the log given, {end >> 32:X}/{end & 0xFFFFFFFF:X}.",
                kept="production and the backups were not touched",
                remedy="ship the log, and recover again",
            )

    def _refuse_stopped_short(self, goal: Goal) -> None:
        """A record that cannot be read is the end of the log to PostgreSQL, wherever it stands.

        Raises:
            IntegrityError: The log was not applied as far as it was given.
        """
        line = self.found.start_segment[:8] if goal.timeline == "current" else f"{int(goal.timeline):08X}"
        log = self.log()
        last = max((name[8:] for name in self._wal if name[:8] <= line), default="")
        at = postgres_log.restored(log)
        if last and at[8:] < last:
            raise IntegrityError(
                f"The log ends in segment {at or 'one of the base backup'}, though it was given up to {last}: "
                f"{postgres_log.broken_off(log)}.",
                kept="production and the backups were not touched",
                remedy="recover to a time before it, or from a base backup made after it",
            )

    def _proof(self, connection: psycopg.Connection[object], goal: Goal, to_the_end: bool) -> Recovered:
        said = postgres_log.read(self.log())
        row = connection.execute(
            "SELECT pg_is_in_recovery(), ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int"
        ).fetchone()
        assert isinstance(row, tuple)
        before = int(self.control["Latest checkpoint's TimeLineID"])
        if row[0] or row[1] != said.timeline or row[1] <= before:
            raise ToolFailed(
                f"The recovered cluster was not promoted: in recovery {row[0]}, timeline {row[1]}, its log says "
                f"{said.timeline or 'nothing of one'}.",
                kept="production and the backups were not touched",
            )
        connection.execute("CHECKPOINT")
        return Recovered(
            goal,
            to_the_end,
            said.last_commit,
            said.timeline,
            said.stopped,
            texts(connection, "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1"),
            superuser(connection),
            notes(connection),
        )

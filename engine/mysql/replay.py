"""Roll a scratch server forward: binary logs of a source, put in place as its relay logs and applied.

The server applies them as a replica would: exact positions, temporary tables, character sets, row, mixed
and statement format. Nothing is fetched from anywhere: only the applier runs, until a position. Only the
wanted database is written to. Account statements run too, as far as they can: the accounts of the source
may not all be there, and no row depends on them. Whatever else fails stops the replay, and is told.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.errors import IntegrityError, OutsideWindow, RestoreRefused, ToolFailed, Unreachable
from engine.mysql.connection import Connection, query, quoted, translated, value
from engine.mysql.foreign_keys import NO_SUCH_KEY, REFUSED_ROWS, Held
from engine.mysql.foreign_triggers import TriggerWatch
from engine.mysql.log_borders import FIRST, Borders
from engine.mysql.prepared import roll_back_prepared
from engine.mysql.replay_trouble import Stopped, remedy_for
from engine.progress import Progress, silent

if TYPE_CHECKING:
    from engine.scratch.mysql import Scratch

_NAP = 0.1
_RELAY = "scratch-relay"
_ACCOUNTS = ("user", "db", "tables_priv", "columns_priv", "procs_priv", "proxies_priv", "global_priv", "global_grants",
             "roles_mapping", "role_edges", "default_roles", "password_history")  # fmt: skip
"""Tables of the system's that account statements are judged by: filtered out, they would do nothing."""
_WORKERS_WORDS = (
    "SELECT last_error_message FROM performance_schema.replication_applier_status_by_worker "
    "WHERE last_error_number <> 0"
)
_WORKER_AT = re.compile(r"at (?:source|master) log (\S*?), end_log_pos (\d+)")
_GTID = re.compile(r"failed executing transaction '([0-9a-f-]{36}:[^']+)'")
_MOST_SKIPPED = 100_000
_TOLD = 20


@dataclass(frozen=True)
class ReplayFile:
    """One binary log.

    Attributes:
        name: As the source calls it.
        open: Gives its bytes from the beginning, as they stand on the source.
        size: Its size in bytes, for the progress; 0 if unknown.
    """

    name: str
    open: Callable[[], Iterator[bytes]]
    size: int = 0


@dataclass(frozen=True)
class ReplayReport:
    """What a replay did.

    Attributes:
        stopped_at: Log and position: exactly where it was to stop.
        transactions: How many were applied or passed over because they touch other databases; None where the
            server does not count them (MySQL without GTIDs).
        gtid: Executed so far, as the server says it; "" without GTIDs.
        changes: Rows written, updated and deleted, as the storage engines counted (their own rows too).
        bytes: Of all logs placed.
        notes: For a person: account statements that were passed over, and such.
    """

    stopped_at: tuple[str, int]
    transactions: int | None
    gtid: str
    changes: int
    bytes: int
    seconds: float
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _State:
    """The applier, as the server shows it."""

    running: bool
    file: str
    position: int
    errno: int
    error: str
    groups: int


def replay(
    scratch: Scratch,
    logs: Sequence[ReplayFile],
    start_position: int,
    stop: tuple[str, int],
    database: str,
    progress: Progress = silent,
    triggers: Sequence[str] = (),
) -> ReplayReport:
    """Apply everything from ``start_position`` of the first log up to ``stop`` (log, position) to one database.

    Args:
        start_position: Where the full backup was taken; 4 for the beginning.
        stop: The end of a transaction, or the beginning of the next: the same place.
        triggers: Of other databases, that write into this one.

    Raises:
        IntegrityError: It ended elsewhere than it should: a log is cut off or another's, or a position is
            not at the border of two transactions.
        OutsideWindow: The stop lies before the start.
        RestoreRefused: Such a trigger was fired by a statement that cannot be replayed.
        ToolFailed: A statement failed; the message says which kind, where, and why.
        Unreachable: The scratch server went away.
    """
    begun = time.monotonic()
    logs = _up_to(logs, stop)
    if len(logs) == 1 and stop[1] <= start_position:
        _refuse_going_back(logs[0], start_position, stop[1])
        return ReplayReport(stop, 0, "", 0, 0, 0.0)
    with contextlib.closing(scratch.source.connect()) as session:
        applier = _Applier(scratch, session, logs, database, progress)
        applier.place(stop[1], TriggerWatch(database, triggers, start_position))
        before = applier.counters()
        applier.prepare(start_position)
        groups = applier.run()
        after = applier.counters()
        applier.prove(before)
        notes = [*applier.notes, *roll_back_prepared(session)]
        notes += applier.keys_back()
        gtid = applier.gtid()
        applier.forget()
    return ReplayReport(
        stop, _transactions(before, after, groups, scratch.flavour), gtid, after["rows"] - before["rows"],
        applier.size, time.monotonic() - begun, notes,
    )  # fmt: skip


class _Applier:
    """The logs in place, and the server's one applier thread over them."""

    def __init__(
        self, scratch: Scratch, session: Connection, logs: Sequence[ReplayFile], database: str, progress: Progress
    ) -> None:
        self._scratch = scratch
        self._session = session
        self._logs = logs
        self._database = database
        self._progress = progress
        self._sizes: list[int] = []
        self._last, self._from, self._until = len(logs), FIRST, FIRST  # the last log to be read; see ``Borders``
        self._placed = 0
        self._skipped = 0
        self.notes: list[str] = []
        self._held = Held(session, database)
        self._words = _WORDS["new" if _speaks_of_replicas(scratch) else "old"]

    @property
    def size(self) -> int:
        """Bytes of all logs placed."""
        return sum(self._sizes)

    def place(self, stop: int, watch: TriggerWatch) -> None:
        """Put every log and the index into the data directory, and find out where to stop.

        Raises:
            IntegrityError: The stop is not in the last log, or inside of an event of it.
        """
        total = sum(log.size for log in self._logs) or None
        seen: list[Borders] = []
        for number, log in enumerate(self._logs, 1):
            watch.begin(log.name)
            seen.append(Borders(stop if number == len(self._logs) else None, watch))
            chunks = self._told(seen[-1].through(log.open()), total)
            self._sizes.append(self._scratch.put(_relay(number), chunks))
        index = "".join(f"./{_relay(number)}\n" for number in range(1, len(self._logs) + 1))
        self._scratch.put(f"{_RELAY}.index", iter((index.encode(),)))
        if max(stop, FIRST) > self._sizes[-1]:
            raise IntegrityError(
                f"{self._logs[-1].name} ends at {self._sizes[-1]}, and the replay was to stop at {stop}: the log is "
                "cut off.", kept="production was not touched",
            )  # fmt: skip
        if seen[-1].at != max(stop, FIRST):
            raise self._not_a_border(f"{self._logs[-1].name}, position {stop}")
        last = len(seen)
        while last > 1 and seen[last - 1].low == FIRST:  # nothing in it comes before the stop
            last -= 1
        self._last, self._from, self._until = last, seen[last - 1].low, seen[last - 1].at

    def _told(self, chunks: Iterator[bytes], total: int | None) -> Iterator[bytes]:
        for chunk in chunks:
            yield chunk
            self._placed += len(chunk)
            self._progress("placing logs", self._placed, total)

    def prepare(self, start_position: int) -> None:
        """One applier, for one database, from a position in the first log."""
        if self._scratch.flavour == "mariadb" and "," in self._database:
            raise RestoreRefused(f"MariaDB cannot replay logs for {self._database!r} alone: its filter takes no comma.")
        patterns = [f"{_escaped(self._database)}.%", *(f"mysql.{_escaped(table)}" for table in _ACCOUNTS)]
        if self._scratch.flavour == "mariadb":
            self._do("SET GLOBAL slave_parallel_threads = 0")
            self._do(f"SET GLOBAL replicate_wild_do_table = {_text(','.join(patterns))}")
        else:
            self._do(f"SET GLOBAL {self._words['workers']} = 0")
            listed = ", ".join(map(_text, patterns))
            self._do(f"CHANGE REPLICATION FILTER REPLICATE_WILD_DO_TABLE = ({listed})")
        self._do(
            f"{self._words['change']}='none', RELAY_LOG_FILE='{_relay(1)}', RELAY_LOG_POS={start_position}, "
            f"{self._words['no_gtid']}"
        )

    def run(self) -> int:
        """Apply up to the stop; groups seen (MariaDB). Raises as ``replay``."""
        until = f"RELAY_LOG_FILE='{_relay(self._last)}', RELAY_LOG_POS={self._until}"
        started = self._state().groups
        while True:
            self._do(f"START {self._words['replica']} SQL_THREAD UNTIL {until}")
            state = self._wait()
            if not state.errno:
                break
            self._get_over(state)
        if _number(state.file) != self._last or not self._from <= state.position <= self._until:
            raise self._not_a_border(f"{self._logs[self._last - 1].name}, position {self._until}", state)
        return state.groups - started

    def _not_a_border(self, wanted: str, state: _State | None = None) -> IntegrityError:
        ended = f" (it ended at {self._place_of(state)})" if state else ""
        return IntegrityError(
            f"The replay was to end at {wanted}{ended}: that is not between two transactions, or the logs do not "
            "belong together.",
            kept="production was not touched",
        )

    def counters(self) -> dict[str, int]:
        """Rows changed, as storage engines count, and GTIDs executed."""
        rows = query(self._session, "SHOW GLOBAL STATUS WHERE Variable_name IN "
                                    "('Handler_write', 'Handler_update', 'Handler_delete')")  # fmt: skip
        return {"rows": sum(int(count) for _, count in rows), "gtids": _count_of(self.gtid())}

    def gtid(self) -> str:
        variable = "@@GLOBAL.gtid_slave_pos" if self._scratch.flavour == "mariadb" else "@@GLOBAL.gtid_executed"
        return str(value(self._session, f"SELECT {variable}") or "").replace("\n", "")

    def prove(self, before: dict[str, int]) -> None:
        """That a position was reached proves nothing where the server believes to have executed all before."""
        if self._scratch.flavour == "mysql" and before["gtids"]:
            raise IntegrityError("The scratch server had executed transactions of a source before the replay: "
                                 "it passes over those.", kept="production was not touched")  # fmt: skip

    def keys_back(self) -> list[str]:
        """Put back the foreign keys into other databases that were taken away; notes."""
        notes = self._held.put_back()
        if self._held.ever:
            named = ", ".join(map(str, self._held.ever.values()))
            notes.append(f"foreign keys into other databases were left out during the replay and put back: {named}; "
                         "if their tables were dropped or made anew in that time, look at them")  # fmt: skip
        return notes

    def forget(self) -> None:
        """The logs are not needed any more."""
        self._do(f"RESET {self._words['replica']} ALL")

    def _wait(self) -> _State:
        """Until the applier stops. It is told to where it waits for logs that do not come."""
        done_before = [sum(self._sizes[:number]) for number in range(len(self._sizes) + 1)]
        while True:
            state = self._state()
            number = _number(state.file)
            if 1 <= number <= len(self._sizes):
                self._progress("replay", done_before[number - 1] + state.position, done_before[-1])
            if not state.running:
                return state
            if number > len(self._sizes):
                self._do(f"STOP {self._words['replica']}")
            time.sleep(_NAP)

    def _state(self) -> _State:
        try:
            with translated("Asking the scratch server how far it is"), self._session.cursor() as cursor:
                cursor.execute(f"SHOW {self._words['replica']} STATUS")
                row = cursor.fetchone()
                names = [column[0].replace("Replica", "Slave") for column in cursor.description or ()]
        except Unreachable as error:
            raise Unreachable(f"The scratch server went away in the middle of a replay: {error.message}\n"
                              f"{self._scratch.last_words()}", kept="production was not touched") from None  # fmt: skip
        if row is None:
            return _State(False, "", 0, 0, "", 0)
        shown: dict[str, Any] = dict(zip(names, row, strict=True))
        groups = sum(int(count or 0) for name, count in shown.items() if name.endswith("_Groups"))
        words = str(shown["Last_SQL_Error"])
        if words and self._scratch.flavour == "mysql":
            words = str(value(self._session, _WORKERS_WORDS) or words)
        return _State(
            shown["Slave_SQL_Running"] != "No", str(shown["Relay_Log_File"]), int(shown["Relay_Log_Pos"]),
            int(shown["Last_SQL_Errno"]), words, groups,
        )  # fmt: skip

    def _get_over(self, state: _State) -> None:
        """What only concerns accounts or other databases is passed over or made up for; the rest is raised."""
        stopped = Stopped.read(state.errno, state.error, self._database)
        if database := stopped.lacking_database:
            self._do(f"CREATE DATABASE IF NOT EXISTS {quoted(database)}")
        elif stopped.lacks_time_zones and not self._zones_loaded():
            self._scratch.load_time_zones()
        elif state.errno in REFUSED_ROWS and self._held.take():
            pass  # the source has enforced them; what they lead to is not here
        elif state.errno in NO_SUCH_KEY and self._held.definitions:
            self.notes += self._held.put_back()  # the statement is about one of them
        elif stopped.may_be_passed_over and self._skipped < _MOST_SKIPPED:
            self._skipped += 1
            if self._skipped <= _TOLD:
                self.notes.append(f"passed over at {self._place_of(state)}: {stopped.kind} ({stopped.words})")
            self._pass_over(state)
        else:
            raise ToolFailed(
                f"Replaying stopped at {self._place_of(state)}: {stopped.kind} failed: {stopped.words} "
                f"({state.errno}).", kept="production was not touched",
                remedy=remedy_for(stopped, self._database),
            )  # fmt: skip

    def _pass_over(self, state: _State) -> None:
        """Exactly the transaction that failed: by its GTID where it has one, else the next one to run."""
        if gtid := _GTID.search(state.error):
            self._do(f"SET SESSION gtid_next = {_text(gtid[1])}")
            for statement in ("BEGIN", "COMMIT", "SET SESSION gtid_next = 'AUTOMATIC'"):
                self._do(statement)
        else:
            self._do(f"SET GLOBAL {self._words['skip']} = 1")

    def _zones_loaded(self) -> bool:
        return bool(value(self._session, "SELECT COUNT(*) FROM mysql.time_zone_name"))

    def _place_of(self, state: _State) -> str:
        if worker := _WORKER_AT.search(state.error):  # MySQL writes its own place down now and then only
            return f"{worker[1] or self._logs[0].name}, before position {worker[2]}"
        number = _number(state.file)
        if 1 <= number <= len(self._logs):
            return f"{self._logs[number - 1].name}, position {state.position}"
        return f"the end of {self._logs[-1].name}"

    def _do(self, statement: str) -> None:
        query(self._session, statement)


_WORDS = {
    "new": {"replica": "REPLICA", "change": "CHANGE REPLICATION SOURCE TO SOURCE_HOST",
            "no_gtid": "SOURCE_AUTO_POSITION=0", "skip": "sql_replica_skip_counter",
            "workers": "replica_parallel_workers"},
    "old": {"replica": "SLAVE", "change": "CHANGE MASTER TO MASTER_HOST", "no_gtid": "MASTER_USE_GTID=no",
            "skip": "sql_slave_skip_counter", "workers": "slave_parallel_workers"},
}  # fmt: skip


def _speaks_of_replicas(scratch: Scratch) -> bool:
    return scratch.flavour == "mysql" and scratch.source.version >= (8, 0, 26)


def _up_to(logs: Sequence[ReplayFile], stop: tuple[str, int]) -> Sequence[ReplayFile]:
    """The logs up to the one in which to stop. Raises IntegrityError: that one is not among them."""
    names = [log.name for log in logs]
    if stop[0] not in names:
        raise IntegrityError(f"The replay was to stop in {stop[0]}, which is not among its logs.")
    return logs[: names.index(stop[0]) + 1]


def _refuse_going_back(log: ReplayFile, start: int, stop: int) -> None:
    """Nothing may lie between a stop and the start after it. Raises OutsideWindow."""
    between = Borders(start)
    if stop < start:
        for _ in between.through(log.open()):
            pass
    if stop < min(start, between.low):
        raise OutsideWindow(
            f"{log.name}, position {stop}, lies before the full backup, which was taken at {start}.",
            kept="production was not touched",
            remedy="recover from an earlier full backup",
        )


def _transactions(before: dict[str, int], after: dict[str, int], groups: int, flavour: str) -> int | None:
    if flavour == "mariadb":
        return groups
    return after["gtids"] - before["gtids"] or None


def _count_of(gtids: str) -> int:
    """Transactions in a MySQL set: ``uuid:1-5:7,uuid2:tag:1``."""
    total = 0
    for part in gtids.split(","):
        for interval in part.split(":")[1:]:
            first, _, last = interval.partition("-")
            if first.strip().isdigit():
                total += int(last or first) - int(first) + 1
    return total


def _relay(number: int) -> str:
    return f"{_RELAY}.{number:06d}"


def _number(relay: str) -> int:
    digits = relay.rpartition(".")[2]
    return int(digits) if digits.isdigit() else 0


def _escaped(database: str) -> str:
    return database.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _text(words: str) -> str:
    """A string literal for statements that take no other form of one (backslashes escape in our sessions)."""
    return "'" + words.replace("\\", "\\\\").replace("'", "''") + "'"

"""Count the rows in a dump's stream, table by table, at the speed of bytes operations and in constant memory.

What a client would see is followed: between ``DELIMITER`` lines and inside ``/*! … */`` blocks stands code,
and nothing there is data, whatever it says. Inside strings the dump programs escape newlines, so a raw
newline always ends a row or a statement. Two styles of INSERT occur: one row a line (MariaDB), where lines
are counted, and one statement a line (MySQL, older MariaDB), where ``),(`` is counted between strings.

Prepared for ``mysqldump`` and ``mariadb-dump`` output with backslash escapes (their own SQL mode).
"""

from __future__ import annotations

import fnmatch
import io
import re
from collections.abc import Callable, Iterable
from itertools import accumulate, repeat

from engine.errors import IntegrityError
from engine.manifest import LogPosition, Manifest

_NAME = rb"`((?:[^`]|``)*)`"
INSERT = re.compile(
    rb"(?:INSERT|REPLACE) +(?:(?:IGNORE|DELAYED|LOW_PRIORITY) +)*INTO " + _NAME
    + rb"(?: \((?:`(?:[^`]|``)*`(?:, ?)?)*\))? VALUES *(\n?)"
)  # fmt: skip
_INSERT_STARTS = (b"INSERT ", b"REPLACE ")
_CREATE = re.compile(rb"CREATE TABLE (?:IF NOT EXISTS )?" + _NAME)
_FILE = re.compile(rb"(?:MASTER|SOURCE)_LOG_FILE='((?:[^'\\]|\\.)*)'")
_POSITION = re.compile(rb"(?:MASTER|SOURCE)_LOG_POS=(\d+)")
_GTID = re.compile(rb"gtid_slave_pos='([^']*)'")
_END = b"-- Dump completed"
_UNQUOTED = re.compile(rb"(?:INSERT|REPLACE) +(?:(?:IGNORE|DELAYED|LOW_PRIORITY) +)*INTO [^`\s]")
_USE = re.compile(rb"(?:USE|-- Current Database:) (?:`((?:[^`]|``)*)`|([^\s`;]+));?\s*")
_OBJECT = (b"-- Table structure ", b"-- Temporary ", b"-- Sequence structure ", b"-- Dumping ")
_LONGEST_HEADER = 1024 * 1024
_SLICE = 64 * 1024  # so that lines are counted while they are in the processor's cache
_OPENING_PARENTHESIS = ord("(")
_NEWLINE = ord("\n")


class RowCounter:
    """Follows one dump, chunk by chunk.

    Attributes:
        rows: Rows by table; a table of which only the definition came has 0.
        log: The log position that the dump itself states, as far as seen.
        begun: The dump's transaction has begun: its log position, or the first object, was seen.
        complete: The end marker has been seen, and nothing but blank lines after it.
        databases: The databases that the dump itself goes to, in order; none in a dump of a single one.
    """

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.log = LogPosition()
        self.begun = False
        self.complete = False
        self.databases: list[str] = []
        self._commented = False
        self._held = b""
        self._mode: Callable[[bytes, int], int] = self._text
        self._table = ""
        self._in_code = False
        self._in_comment = False
        self._inside_line = False  # one row a line: the chunk before ended in the middle of one
        self._inside_string = 0  # one statement a line: 1 while quotes are odd
        self._last = 0  # ... and the byte before the present one

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            IntegrityError: An INSERT that no dump program writes.
        """
        if self._held:
            data, self._held = self._held + data, b""
        at, size = 0, len(data)
        while at < size:
            moved = self._mode(data, at)
            if moved < 0:
                self._held = data[at:]
                return
            at = moved

    def finish(self) -> dict[str, int]:
        """No more comes; the rows by table.

        Raises:
            IntegrityError: The end marker is not the last line.
        """
        if self._held:
            self.feed(b"\n")
        if not self.complete or self._mode != self._text:
            raise self._without_end()
        return self.rows

    def _without_end(self) -> IntegrityError:
        """Cut off; or made without the comments that the end marker is one of."""
        if self._mode == self._text and not self._held and self.rows and not self._commented:
            return IntegrityError(
                "The dump carries no end marker, as it was made without comments (--skip-comments or --compact): "
                "nothing can prove that it is whole.",
                remedy="make the dump again without --skip-comments and --compact",
            )
        where = f"; the last table seen was {self._table!r}" if self._table else ""
        return IntegrityError(f"The dump is cut off: its last line is not «-- Dump completed»{where}.")

    def _text(self, data: bytes, at: int) -> int:
        """One line outside INSERTs. -1: it is not whole yet."""
        if not self._in_code and not self._in_comment and data.startswith(_INSERT_STARTS, at):
            return self._begin_insert(data, at)
        end = data.find(b"\n", at)
        if end < 0:
            return -1
        line = data[at:end]
        if self._in_code:
            self._in_code = line.rstrip() != b"DELIMITER ;"
        elif self._in_comment:
            self._in_comment = not line.rstrip(b" ;").endswith(b"*/")
        elif line.startswith(b"DELIMITER "):
            self._in_code = line.rstrip() != b"DELIMITER ;"
        elif line.startswith(b"/*"):
            self._in_comment = b"*/" not in line
        elif line.startswith(b"--"):
            self._comment_line(line)
        elif line.startswith(b"CREATE TABLE "):
            self._see_table(data, at)
        elif line.startswith((b"CHANGE MASTER ", b"CHANGE REPLICATION ")):
            self._coordinates(line)
        elif line.startswith(b"USE "):
            self._enter(line)
        if line.strip():
            self.complete = line.startswith(_END) and not self._in_code and not self._in_comment
        return end + 1

    def _enter(self, line: bytes) -> None:
        """A line by which a dump of several databases goes to the next."""
        found = _USE.fullmatch(line)
        if found and (name := _plain(found[1] if found[1] is not None else found[2])) not in self.databases:
            self.databases.append(name)

    def _comment_line(self, line: bytes) -> None:
        self._commented = True
        if line.startswith((b"-- CHANGE MASTER ", b"-- CHANGE REPLICATION ")):
            self._coordinates(line)
        elif line.startswith(_OBJECT):
            self.begun = True
        elif line.startswith(b"-- Current Database: "):
            self._enter(line)
        elif line.startswith(b"-- SET GLOBAL gtid_slave_pos") and (found := _GTID.search(line)):
            self.log = self.log.model_copy(update={"gtid": found[1].decode()})

    def _coordinates(self, line: bytes) -> None:
        self.begun = True
        file, position = _FILE.search(line), _POSITION.search(line)
        if file and position:
            self.log = self.log.model_copy(
                update={"binlog_file": file[1].decode(), "binlog_position": int(position[1])}
            )

    def _see_table(self, data: bytes, at: int) -> None:
        if found := _CREATE.match(data, at):
            self._table = _plain(found[1])
            self.rows.setdefault(self._table, 0)

    def _begin_insert(self, data: bytes, at: int) -> int:
        found = INSERT.match(data, at)
        if found is None or found.end() == len(data):  # what follows VALUES tells the style
            if _UNQUOTED.match(data, at):
                raise IntegrityError(
                    "The dump names its tables without backticks (--skip-quote-names), so its rows cannot be counted.",
                    remedy="make the dump again without --skip-quote-names",
                )
            if len(data) - at > _LONGEST_HEADER:
                raise IntegrityError(f"The dump holds an INSERT that cannot be read, near table {self._table!r}.")
            return -1
        self.complete = False
        self._table = _plain(found[1])
        self.rows.setdefault(self._table, 0)
        if found[2]:
            self._inside_line = False
            self._mode = self._row_a_line
        else:
            self._inside_string = self._last = 0
            self._mode = self._statement_a_line
        return found.end()

    def _row_a_line(self, data: bytes, at: int) -> int:
        """Rows that end with a newline each, until a line starts with something else."""
        chunk = data[at : at + _SLICE]
        lines = io.BytesIO(chunk).readlines()
        starts = lines[1:] if self._inside_line else lines
        if starts and (max(starts)[0] != _OPENING_PARENTHESIS or starts[-1] == b"\n"):
            return self._last_rows(lines, at)
        whole = chunk[-1] == _NEWLINE
        self.rows[self._table] += len(lines) - (not whole)
        self._inside_line = not whole
        return at + len(chunk)

    def _last_rows(self, lines: list[bytes], at: int) -> int:
        """The chunk in which an INSERT ends: go line by line."""
        for number, line in enumerate(lines):
            if line[0] != _OPENING_PARENTHESIS and not (number == 0 and self._inside_line):
                break
            self.rows[self._table] += line[-1] == _NEWLINE
            at += len(line)
        self._inside_line = False
        self._mode = self._text
        return at

    def _statement_a_line(self, data: bytes, at: int) -> int:
        """Rows parted by ``),(`` outside strings. A newline ends a row, and after ``;`` the statement."""
        end = data.find(b"\n", at)
        if end < 0:
            cut = _safe_cut(data, at)
            if cut <= at:
                return -1
            self._separators(data[at:cut])
            self._last = data[cut - 1]
            return cut
        last = data[end - 1] if end > at else self._last
        self._separators(data[at:end])
        self.rows[self._table] += 1
        self._inside_string = 0
        if last == ord(";"):
            self._mode = self._text
        return end + 1

    def _separators(self, text: bytes) -> None:
        if b"\\" in text:  # escaped quotes are no quotes; a run of backslashes pairs up from its left
            text = text.replace(b"\\\\", b"").replace(b"\\'", b"")
        pieces = text.split(b"),(")
        quotes = list(map(bytes.count, pieces, repeat(b"'")))
        if not self._inside_string and not any(map((1).__and__, quotes)):
            self.rows[self._table] += len(pieces) - 1
            return
        odd = [total & 1 for total in accumulate(quotes, initial=self._inside_string)]
        self._inside_string = odd[-1]
        self.rows[self._table] += odd[1:-1].count(0)


def _safe_cut(data: bytes, at: int) -> int:
    """Where an unfinished line may be cut: through no escape and no ``),(``, two bytes or more from its end."""
    cut = len(data) - 2
    while cut > at:
        if data[cut - 1 : cut + 2] == b"),(":
            cut -= 1
        elif data[cut - 2 : cut + 1] == b"),(":
            cut -= 2
        elif _backslashes_before(data, cut) & 1:
            cut -= 1
        else:
            break
    return cut


def _backslashes_before(data: bytes, end: int) -> int:
    start = end
    while start > 0 and data[start - 1] == ord("\\"):
        start -= 1
    return end - start


def _plain(name: bytes) -> str:
    return name.replace(b"``", b"`").decode("utf-8", "replace")


def uncounted(table: str, patterns: Iterable[str]) -> bool:
    """Does the site leave this table out of counting?"""
    return any(fnmatch.fnmatchcase(table, pattern) for pattern in patterns)


def inspect(manifest: Manifest, chunks: Iterable[bytes]) -> dict[str, int]:
    """Read a dump to its end and hold it against its manifest; the rows by table.

    Raises:
        IntegrityError: It is cut off, or a table is missing or has other rows; the table is named. Or it
            was made by another tool, and holds several databases: a restore could not take one out.
    """
    counter = RowCounter()
    for chunk in chunks:
        counter.feed(chunk)
    rows = counter.finish()
    if manifest.adopted and len(counter.databases) > 1:
        raise several_databases(manifest.file, counter.databases)
    compare_rows(rows, manifest.rows, manifest.uncounted, what=manifest.file, other="its manifest")
    return rows


def several_databases(file: str, databases: list[str]) -> IntegrityError:
    """Why a dump by hand of more than one database is of no use here."""
    shown = ", ".join(databases[:10]) + (f" and {len(databases) - 10} more" if len(databases) > 10 else "")
    return IntegrityError(
        f"{file} holds several databases ({shown}); only a dump of one can be restored.",
        kept="the file is untouched",
        remedy="dump each database on its own (no --databases A B, no --all-databases), and adopt those; "
        "or split this one at its lines «-- Current Database:»",
    )


def compare_rows(
    found: dict[str, int],
    expected: dict[str, int],
    left_out: Iterable[str],
    *,
    what: str,
    other: str,
    error: type[IntegrityError] = IntegrityError,
) -> None:
    """Every expected table is there with its rows, and every table of ``left_out`` is there.

    Raises:
        IntegrityError: (or ``error``) naming the tables, with both numbers.
    """
    problems = [f"{table!r} is missing ({rows} rows expected)"
                for table, rows in expected.items() if table not in found]  # fmt: skip
    problems += [f"{table!r} is missing" for table in left_out if table not in found and table not in expected]
    problems += [f"{table!r} has {found[table]} rows, {other} says {rows}"
                 for table, rows in expected.items() if table in found and found[table] != rows]  # fmt: skip
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise error(f"{what} does not hold what {other} says: table {shown}.")

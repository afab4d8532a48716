"""A dump's text, split as it streams by: structure and rows of each table, triggers, events, routines, views.

Works on what mysqldump and mariadb-dump write, of any age, with or without our options. Row data is
passed on in large pieces without a look inside: the dump tools escape every newline in a value, so
``;`` before a newline ends an INSERT. Everything else is small and read statement by statement, with
quotes, comments and DELIMITER followed, so that a routine's body cannot pass for a section's headline.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from engine.errors import IntegrityError, RestoreRefused
from engine.mysql.statements import Lexer, unquote

CHUNK = 1024 * 1024
"""Row data is passed on in pieces of about this many bytes."""


class Section(Enum):
    """What a piece of a dump is for."""

    HEADER = "header"
    TABLE = "table"
    ROWS = "rows"
    TRIGGERS = "triggers"
    PLACEHOLDER = "placeholder"
    EVENTS = "events"
    ROUTINES = "routines"
    VIEWS = "views"
    FOOTER = "footer"


@dataclass(frozen=True)
class Piece:
    """One statement without its delimiter, or (``raw``) a stretch of INSERT text as it stands.

    ``name`` is the table or view the section is about, empty where there is none.
    """

    section: Section
    name: str
    data: bytes
    raw: bool = False


@dataclass
class DumpFacts:
    """What a dump says about itself; filled while it is read."""

    program: str = ""
    databases: list[str] = field(default_factory=list)
    create_database: bytes = b""
    completed: bool = False
    sandbox_line: bytes = b""
    tables: list[str] = field(default_factory=list)


_HEADLINES: tuple[tuple[bytes, Section], ...] = (
    (b"-- Table structure for table ", Section.TABLE),
    (b"-- Sequence structure for ", Section.TABLE),
    (b"-- Dumping data for table ", Section.ROWS),
    (b"-- Temporary table structure for view ", Section.PLACEHOLDER),
    (b"-- Temporary view structure for view ", Section.PLACEHOLDER),
    (b"-- Dumping events for database ", Section.EVENTS),
    (b"-- Dumping routines for database ", Section.ROUTINES),
    (b"-- Final view structure for view ", Section.VIEWS),
)
_BACKTICKED = re.compile(rb"`(?:[^`]|``)*`")
_TABLE_NAME = re.compile(
    rb"\s*(?:/\*!\d+\s*)?(?:DROP\s+(?:TABLE|SEQUENCE)\s+IF\s+EXISTS|CREATE\s+(?:TABLE|SEQUENCE)(?:\s+IF\s+NOT\s+EXISTS)?)\s+(`(?:[^`]|``)*`)",
    re.I,
)
_TRIGGER_CONTEXT = re.compile(
    rb"\s*(?:/\*!5000\d\s+SET\s+@sav|ALTER\s+DATABASE\s|/\*!5000\d\s+(?:CREATE|DROP\s+TRIGGER))", re.I
)
_FOOTER = re.compile(rb"\s*(?:/\*!\d+\s+)?SET\s+\S+\s*=\s*@(?:OLD_|MYSQLDUMP_)", re.I)
_USES = re.compile(rb"\s*USE\s+(`(?:[^`]|``)*`|[^\s;]+)\s*\Z", re.I)
_CREATES_DATABASE = re.compile(rb"\s*(?:/\*!\d+\s+)?(?:CREATE|DROP)\s+(?:DATABASE|SCHEMA)\b", re.I)
_SANDBOX = re.compile(rb"/\*M?!999999\\- ")
_DATABASE_LINE = re.compile(rb"-- Host: .*?\sDatabase: (.*)$")
_SETS_MODE = re.compile(rb"\s*(?:/\*!\d+\s+)?SET\s+(?:SESSION\s+)?sql_mode\s*=\s*'([^']*)'", re.I)


class DumpReader:
    """Reads a dump once. ``facts`` is complete when ``pieces`` has ended."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.facts = DumpFacts()
        self._chunks = iter(chunks)
        self._buffer = b""
        self._at = 0
        self._section = Section.HEADER
        self._name = ""
        self._delimiter = b";"
        self._mode = b""

    def pieces(self) -> Iterator[Piece]:
        """Every statement and stretch of rows, in order.

        Raises:
            IntegrityError: The dump ends early, without its end marker.
            RestoreRefused: It holds more than one database.
        """
        while True:
            if self._delimiter == b";" and self._at_insert():
                yield from self._rows()
                continue
            line = self._line()
            if not line:
                break
            yield from self._take(line)
        if not self.facts.completed:
            raise IntegrityError(
                "The dump has no end marker (-- Dump completed): it was cut short.",
                remedy="restore another backup; this one is not whole",
            )

    def _take(self, line: bytes) -> Iterator[Piece]:
        bare = line.strip()
        if not bare:
            return
        if bare.startswith(b"--") and (len(bare) == 2 or bare[2:3].isspace()):
            self._headline(bare)
        elif bare[:10].upper() == b"DELIMITER ":
            self._delimiter = bare[10:].strip()
        elif _SANDBOX.match(bare):
            self.facts.sandbox_line = line
        else:
            text = self._statement(line)
            if text:
                piece = self._classify(text)
                if piece:
                    yield piece

    # -- statements ------------------------------------------------------------------------------

    def _statement(self, line: bytes) -> bytes:
        lexer = Lexer(self._mode)
        lines = [line]
        while not lexer.ends(line, self._delimiter):
            line = self._line()
            if not line:
                raise IntegrityError(f"The dump ends within a statement: {lines[0][:80].decode('utf-8', 'replace')}")
            lines.append(line)
        text = b"".join(lines).rstrip()
        # a comment may follow the delimiter on its line
        end = text.rfind(self._delimiter)
        return text[:end].rstrip()

    def _classify(self, text: bytes) -> Piece | None:
        mode = _SETS_MODE.match(text)
        if mode:
            self._mode = mode[1].upper()
        elif b"@saved_sql_mode" in text[:80] or b"@OLD_SQL_MODE" in text[:80]:
            self._mode = b""
        used = _USES.match(text)
        if used:
            self._enter(unquote(used[1]))
            return None
        if _CREATES_DATABASE.match(text):
            self.facts.create_database = self.facts.create_database or (text if b"CREATE" in text[:40].upper() else b"")
            return None
        if _FOOTER.match(text):
            return Piece(Section.FOOTER, "", text)
        if self._section in (Section.TABLE, Section.ROWS):
            named = _TABLE_NAME.match(text)
            if named:
                self._name = unquote(named[1])
                self._seen(self._name)
            elif _TRIGGER_CONTEXT.match(text):
                self._section = Section.TRIGGERS
        return Piece(self._section, self._name, text)

    def _headline(self, line: bytes) -> None:
        for start, section in _HEADLINES:
            if line.startswith(start):
                self._section = section
                named = _BACKTICKED.match(line, len(start))
                if section in (Section.EVENTS, Section.ROUTINES):
                    self._name = ""
                elif named:  # a name with a newline in it breaks its headline; the statements tell it again
                    self._name = unquote(named[0])
                return
        if line.startswith(b"-- Dump completed"):
            self.facts.completed = True
        elif line.startswith(b"-- Current Database: "):
            self._section, self._name = Section.HEADER, ""
            self._enter(unquote(line[len(b"-- Current Database: ") :]))
        elif line.startswith((b"-- MySQL dump", b"-- MariaDB dump")):
            self._section, self._name = Section.HEADER, ""
            self.facts.program = line[3:].decode("utf-8", "replace")
        else:
            host = _DATABASE_LINE.match(line)
            if host and host[1].strip():
                self._enter(host[1].strip().decode("utf-8", "surrogateescape"))

    def _enter(self, database: str) -> None:
        known = self.facts.databases
        if database not in known:
            known.append(database)
        if len(known) > 1:
            raise RestoreRefused(
                f"The dump holds several databases ({', '.join(known)}); only dumps of one can be restored.",
                kept="nothing outside the new side database was touched",
                remedy="dump each database on its own, or restore this by hand on a server without production data",
            )

    def _seen(self, table: str) -> None:
        if not self.facts.tables or self.facts.tables[-1] != table:
            self.facts.tables.append(table)

    # -- bytes -----------------------------------------------------------------------------------

    def _more(self) -> bool:
        for chunk in self._chunks:
            if chunk:
                self._buffer = self._buffer[self._at :] + chunk
                self._at = 0
                return True
        return False

    def _line(self) -> bytes:
        seen = self._at
        while True:
            end = self._buffer.find(b"\n", seen)
            if end >= 0:
                line = self._buffer[self._at : end + 1]
                self._at = end + 1
                return line
            seen = len(self._buffer) - self._at
            if not self._more():
                line = self._buffer[self._at :]
                self._buffer, self._at = b"", 0
                return line

    def _at_insert(self) -> bool:
        while len(self._buffer) - self._at < 8:
            if not self._more():
                break
        return self._buffer.startswith((b"INSERT ", b"REPLACE "), self._at)

    def _rows(self) -> Iterator[Piece]:
        """One INSERT or several that follow each other, in pieces as large as what has been read."""
        while True:
            start = end = self._at
            while self._buffer.startswith((b"INSERT ", b"REPLACE "), end):
                found = self._buffer.find(b";\n", end)
                if found < 0:
                    break
                end = found + 2
            if end > start:
                self._at = end
                yield Piece(Section.ROWS, self._name, self._buffer[start:end], raw=True)
                return
            # No end in sight: pass on what is there but its last byte, which may be the ';'.
            while True:
                found = self._buffer.find(b";\n", self._at)
                if found >= 0:
                    yield Piece(Section.ROWS, self._name, self._buffer[self._at : found + 2], raw=True)
                    self._at = found + 2
                    return
                last = len(self._buffer) - 1
                if last > self._at:
                    yield Piece(Section.ROWS, self._name, self._buffer[self._at : last], raw=True)
                    self._at = last
                if not self._more():
                    raise IntegrityError(f"The dump ends within the rows of table {self._name}: it was cut short.")

"""Reading a plain dump as it streams by: sections, rows of each table, sequence values, end marker.

A dump is SQL between header comments (``-- Name: t; Type: TABLE; Schema: public; Owner: app``), and
``COPY … FROM stdin;`` blocks that end in a line ``\\.``. Header and COPY lines count only where they
stand outside of any string, dollar quote or comment: a function's body may well hold such a line. Rows
are newlines, since COPY's text format escapes the newlines of values; they are counted at C speed.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Literal

from engine.postgres.quoting import label, unquote

END_MARKER = b"-- PostgreSQL database dump complete"
CLUSTER_MARKER = b"-- PostgreSQL database cluster dump"


@dataclass(frozen=True)
class Section:
    """One object of a dump, by its header comment. ``schema`` is empty where there is none."""

    name: str
    type: str
    schema: str
    owner: str

    @property
    def key(self) -> str:
        return f"{self.type} {self.schema}.{self.name}" if self.schema else f"{self.type} {self.name}"


@dataclass(frozen=True)
class Piece:
    """Some bytes of a dump and what they are.

    ``sql``: statements, whole or not. ``comment``: a comment line. ``copy``: a whole COPY statement.
    ``rows``: data of the COPY before it, the closing ``\\.`` included. ``set``: a ``SET name = value;``
    line. ``meta``: a line for psql itself (``\\restrict``, ``\\connect``).
    """

    kind: Literal["sql", "comment", "copy", "rows", "set", "meta"]
    data: bytes
    section: Section | None
    table: str = ""


_IDENT = rb'(?:"(?:[^"]|"")*"|[^\s."(),;]+)'
_HEADER = re.compile(
    rb"-- (?:Data for )?Name: (?P<name>.*); Type: (?P<type>.*); Schema: (?P<schema>.*); Owner: (?P<owner>.*?)"
    rb"(?:; Tablespace: .*)?\n"
)
_COPY = re.compile(
    rb"COPY (?:(?P<schema>"
    + _IDENT
    + rb")\.)?(?P<table>"
    + _IDENT
    + rb') +(?:\((?:[^"()]|"(?:[^"]|"")*")*\) )?FROM stdin;\n'
)
_SETVAL = re.compile(rb"SELECT pg_catalog\.setval\('((?:[^']|'')+)', (-?\d+), (true|false)\);")
# Whatever may begin here that hides, or is, a line of interest.
_OPENER = re.compile(
    rb"(?m)(?P<comment>--[^\n]*\n?)|(?P<block>/\*)|(?P<escaped>(?<![\w$\x80-\xff])[eE]')|(?P<string>')|(?P<ident>\")"
    rb"|(?P<dollar>(?<![\w$\x80-\xff])\$(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*)?\$)"
    rb"|^(?P<copy>COPY )|^(?P<meta>\\[^\n]*\n?)|^(?P<set>SET \w+ = [^\n]*;\n)"
)
_IN_ESCAPED = re.compile(rb"(?:\\.|'')|(')", re.DOTALL)
_CLOSERS = {"string": b"'", "ident": b'"', "escaped": b"E", "block": b"*/"}
_LONGEST_COPY = 4 * 1024 * 1024
_ROWS_END = re.compile(rb"\n\\\.\n")  # half again as fast as bytes.find


@dataclass
class DumpScanner:
    """Feed it a dump's bytes; it gives them back in pieces and remembers what it saw.

    Attributes:
        rows: Rows so far, by table label.
        sequences: Last value and is_called, by label.
        section: The object whose statements are being read.
        complete: The end marker was seen, outside of data and strings.
        cluster: It is the work of pg_dumpall: several databases in one file.
        connects: The lines with which it goes to a database; ``pg_dump --create`` writes one.
    """

    rows: dict[str, int] = field(default_factory=dict)
    sequences: dict[str, tuple[int, bool]] = field(default_factory=dict)
    section: Section | None = None
    complete: bool = False
    cluster: bool = False
    connects: set[bytes] = field(default_factory=set)
    _held: bytes = b""
    _inside: bytes = b""  # what ends the string or comment we are in: ' or " or E (escapes) or */ or a dollar tag
    _table: str | None = None  # whose rows we are in
    _first: bool = False  # nothing of these rows was given out yet

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Pieces of what can be judged so far, in order; the rest waits for more."""
        data = self._held + data if self._held else data
        self._held = b""
        while data:
            if self._table is not None:
                data = yield from self._rows(data)
                if self._table is not None:
                    self._held = data
                    return
                continue
            cut = data.rfind(b"\n") + 1  # nothing that matters begins in a line that is not whole
            rest = yield from self._statements(data[:cut])
            data = rest + data[cut:]
            if self._table is None:
                self._held = data
                return

    def finish(self) -> Iterator[Piece]:
        """What is left when no more comes."""
        held, self._held = self._held, b""
        if held and self._table is not None:
            yield Piece("rows", held, self.section, self._table)
        elif held:
            rest = yield from self._statements(held)
            if rest:
                yield Piece("sql", rest, self.section)

    def read(self, data: bytes) -> None:
        """Feed without looking at the pieces."""
        for _ in self.feed(data):
            pass

    def _rows(self, data: bytes) -> Generator[Piece, None, bytes]:
        """Rows from the front of data; gives back what follows them, or what must wait for more."""
        assert self._table is not None
        if self._first and data.startswith(b"\\.\n"):
            end = 0
        else:
            # one byte is looked for at the speed of memory, and most rows hold no backslash
            found = _ROWS_END.search(data) if b"\\" in data else None
            end = found.start() + 1 if found else 0
            if not end:
                keep = len(data) if self._first and len(data) < 3 else min(3, len(data))
                if whole := data[: len(data) - keep]:
                    self._first = False
                    self.rows[self._table] += whole.count(b"\n")
                    yield Piece("rows", whole, self.section, self._table)
                return data[len(data) - keep :]
        self.rows[self._table] += data.count(b"\n", 0, end)
        yield Piece("rows", data[: end + 3], self.section, self._table)
        self._table = None
        return data[end + 3 :]

    def _statements(self, buffer: bytes) -> Generator[Piece, None, bytes]:
        """Statements from whole lines; gives back what follows a COPY, or a COPY that is not whole yet."""
        begun = at = 0
        while at < len(buffer):
            if self._inside:
                at = self._closed(buffer, at)
                continue
            found = _OPENER.search(buffer, at)
            if found is None:
                break
            at = found.end()
            kind = str(found.lastgroup)
            if kind in _CLOSERS or kind == "dollar":
                self._inside = _CLOSERS.get(kind) or found[0]
                continue
            copy = _COPY.match(buffer, found.start()) if kind == "copy" else None
            if kind == "copy" and copy is None:
                if _unfinished(buffer[found.start() :]):
                    yield from self._sql(buffer[begun : found.start()])
                    return buffer[found.start() :]
                continue
            yield from self._sql(buffer[begun : found.start()])
            begun = at
            if copy is not None:
                yield self._begin_rows(copy)
                return buffer[copy.end() :]
            if kind == "comment":
                self._comment(found)
            elif kind == "meta" and found[0].split()[0] in (b"\\connect", b"\\c"):
                self.connects.add(found[0])
            yield Piece(kind, found[0], self.section)  # type: ignore[arg-type]
        yield from self._sql(buffer[begun:])
        return b""

    def _closed(self, buffer: bytes, at: int) -> int:
        """Where the string or comment that we are in has ended; the buffer's end when it has not."""
        if self._inside == b"E":
            for found in _IN_ESCAPED.finditer(buffer, at):
                if found[1]:
                    self._inside = b""
                    return found.end()
            return len(buffer)
        end = buffer.find(self._inside, at)
        if end < 0:
            return len(buffer)
        end += len(self._inside)
        self._inside = b""
        return end

    def _sql(self, data: bytes) -> Iterator[Piece]:
        if not data:
            return
        if self.section is not None and self.section.type == "SEQUENCE SET":
            for name, value, called in _SETVAL.findall(data):
                parts = re.findall(_IDENT, name.replace(b"''", b"'"))
                plain = [unquote(part.decode("utf-8", "replace")) for part in parts]
                self.sequences[label(*plain) if len(plain) == 2 else ".".join(plain)] = (int(value), called == b"true")
        yield Piece("sql", data, self.section)

    def _comment(self, found: re.Match[bytes]) -> None:
        line = found[0]
        if found.start() and found.string[found.start() - 1] != 10:
            return
        if line.startswith(END_MARKER):
            self.complete = True
        elif line.startswith(CLUSTER_MARKER):
            self.cluster = True
        elif header := _HEADER.fullmatch(line):
            name, kind, schema, owner = (part.decode("utf-8", "replace") for part in header.groups())
            self.section = Section(name, kind, "" if schema == "-" else schema, "" if owner == "-" else owner)

    def _begin_rows(self, copy: re.Match[bytes]) -> Piece:
        schema = copy["schema"].decode("utf-8", "replace") if copy["schema"] else ""
        schema = unquote(schema) or (self.section.schema if self.section else "")
        self._table = label(schema, unquote(copy["table"].decode("utf-8", "replace")))
        self._first = True
        self.rows.setdefault(self._table, 0)
        return Piece("copy", copy[0], self.section, self._table)


def _unfinished(statement: bytes) -> bool:
    """May this COPY statement go on in bytes that have not come? Only inside of a quoted name."""
    return len(statement) < _LONGEST_COPY and statement.count(b'"') % 2 == 1

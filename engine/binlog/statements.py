"""Which tables a statement's text changes, and how: for finding a moment, not for judging safety.

Comments are left out (those that servers execute are read), names are taken with and without backticks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

EVERY = "*"
"""Stands for every table of a database."""


class Change(NamedTuple):
    """One kind of change to one table: DROP, TRUNCATE, ALTER, CREATE, RENAME, DELETE, UPDATE, INSERT, or another
    statement's first word with no table."""

    kind: str
    database: str
    table: str


_LONGEST = 1 << 16
"""Names stand at the beginning of a statement; values that follow may have megabytes."""
_TOKEN = re.compile(
    r"""(?P<space>\s+|/\*(?!M?!).*?\*/|--[\s].*?(?:\n|$)|\#.*?(?:\n|$)|/\*M?!\d*|\*/)
      |(?P<name>`(?:[^`]|``)+`)
      |(?P<text>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")
      |(?P<word>[\w$@\u0080-\uffff]+)
      |(?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)
_MODIFIERS = frozenset({
    "LOW_PRIORITY", "HIGH_PRIORITY", "DELAYED", "QUICK", "IGNORE", "CONCURRENT", "LOCAL", "ONLINE", "OFFLINE",
    "TEMPORARY", "IF", "NOT", "EXISTS", "INTO", "FROM", "TABLE", "TABLES", "ONLY", "OR", "REPLACE",
})  # fmt: skip
_DATABASES = ("DATABASE", "SCHEMA")
_ROWS: dict[str, tuple[str, ...]] = {
    "DELETE": ("WHERE", "ORDER", "LIMIT", "RETURNING"),
    "UPDATE": ("SET",),
    "INSERT": (),
    "REPLACE": (),
}
"""Statements that change rows; the tables named before one of these words are the changed ones."""
_MORE = (",", "JOIN", "FROM", "USING")


class _Words:
    """The tokens of a statement, one in hand. A quoted name is never a keyword."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self.quoted, self.token = False, ""
        self.advance()

    def advance(self) -> None:
        self.quoted, self.token = next(self._tokens, (False, ""))

    def isword(self, *words: str) -> bool:
        return not self.quoted and self.token.upper() in words

    def skip(self, words: frozenset[str] = _MODIFIERS) -> None:
        while not self.quoted and self.token.upper() in words:
            self.advance()

    def name(self, database: str) -> tuple[str, str] | None:
        """``db.table`` or ``table``, or None when no name stands here."""
        first = self._part()
        if first is None:
            return None
        if self.isword("."):
            self.advance()
            return first, self._part() or EVERY
        return database, first

    def _part(self) -> str | None:
        if not self.token or (not self.quoted and not re.match(r"[\w$\u0080-\uffff]", self.token)):
            return None
        part = self.token
        self.advance()
        return part


def changes(text: bytes, database: str) -> tuple[Change, ...]:
    """What a statement changes. ``database`` is the session's."""
    words = _Words(text[:_LONGEST].decode("utf-8", "replace"))
    verb = _verb(words)
    if verb in _ROWS:
        return tuple(_rows("INSERT" if verb == "REPLACE" else verb, words, database, _ROWS[verb]))
    if verb == "LOAD":
        while words.token and not words.isword("TABLE"):
            words.advance()
        verb = "INSERT"
    elif verb not in ("DROP", "TRUNCATE", "ALTER", "CREATE", "RENAME"):
        return (Change(verb, database, ""),)
    return tuple(_definition(verb, words, database))


def _verb(words: _Words) -> str:
    """The first word; of MariaDB's ``SET STATEMENT name = value, ... FOR statement`` that of the statement."""
    while True:
        verb = words.token.upper()
        words.advance()
        if verb != "SET" or not words.isword("STATEMENT"):
            return verb
        depth = 0
        while words.token and (depth or not words.isword("FOR")):
            depth += words.isword("(") - words.isword(")")
            words.advance()
        words.advance()


def _definition(verb: str, words: _Words, database: str) -> Iterator[Change]:
    before = words.token.upper()
    while words.isword("ONLINE", "OFFLINE", "IGNORE", "TEMPORARY", "OR", "REPLACE", "UNIQUE", "FULLTEXT", "SPATIAL"):
        words.advance()
        before = words.token.upper()
    if before in _DATABASES:
        words.advance()
        words.skip()
        found = words.name("")
        yield Change(verb, found[1] if found else database, EVERY)
    elif before == "INDEX":
        while words.token and not words.isword("ON"):
            words.advance()
        words.advance()
        yield from _named("ALTER", words, database)
    elif before in ("TABLE", "TABLES", "VIEW", "SEQUENCE") or verb == "TRUNCATE":
        words.advance() if before != "TRUNCATE" and before in ("TABLE", "TABLES", "VIEW", "SEQUENCE") else None
        words.skip()
        yield from _list(verb, words, database) if verb in ("DROP", "RENAME") else _named(verb, words, database)
    else:
        yield Change(verb, database, "")


def _named(kind: str, words: _Words, database: str) -> Iterator[Change]:
    if found := words.name(database):
        yield Change(kind, *found)


def _list(kind: str, words: _Words, database: str) -> Iterator[Change]:
    """``a, b.c`` of a DROP; ``a TO b, c TO d`` of a RENAME, of which what was there before counts."""
    while found := words.name(database):
        yield Change(kind, *found)
        while words.token and not words.isword(","):
            words.advance()
        words.advance()
        words.skip()


def _rows(kind: str, words: _Words, database: str, until: tuple[str, ...]) -> Iterator[Change]:
    """``DELETE FROM t``, ``DELETE a, b FROM ...``, ``UPDATE a JOIN b SET``, ``INSERT INTO t``.

    Every table joined to the changed one is named too: better one too many than the one looked for missed.
    """
    words.skip()
    while found := words.name(database):
        yield Change(kind, *found)
        if not until:
            return
        while words.token and not words.isword(*_MORE, *until):
            words.advance()
        if not words.isword(*_MORE):
            return
        words.advance()


def _tokens(text: str) -> Iterator[tuple[bool, str]]:
    for found in _TOKEN.finditer(text):
        if found.lastgroup == "name":
            yield True, found[0][1:-1].replace("``", "`")
        elif found.lastgroup == "text":
            yield True, found[0][1:-1]
        elif found.lastgroup != "space":
            yield False, found[0]

"""SQL text as the stock clients read it: where a statement ends, names, and the few rewrites a restore needs.

Everything is bytes: routine and trigger bodies stand in a dump in the character set they were written
in, and must reach the server unconverted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.errors import RestoreRefused

# Where a name stands, "..." can be nothing but a name: servers write it so under ANSI_QUOTES.
_NAME = rb"(?:`(?:[^`]|``)*`|\"(?:[^\"]|\"\")*\"|[0-9A-Za-z_$\x80-\xff]+)"
_GAP = rb"(?:\s|/\*(?![!M]).*?\*/|\*/|/\*!\d*)*"

# What ends plain text: a quote, a comment. Version comments (/*!50003 ... */) are code.
_OPENER = re.compile(rb"['\"`#]|/\*(?!!|M!)|--(?=[\s]|$)")
_CLOSER = {
    b"'": re.compile(rb"[^'\\]*(?:\\.[^'\\]*)*'", re.DOTALL),
    b'"': re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL),
    b"`": re.compile(rb"[^`]*`"),
    b"/*": re.compile(rb".*?\*/", re.DOTALL),
}
_RAW = {b"'": re.compile(rb"[^']*'"), b'"': re.compile(rb'[^"]*"')}


class Lexer:
    """Follows quotes and comments over the lines of one statement.

    Args:
        mode: The SQL mode that holds: under NO_BACKSLASH_ESCAPES a backslash is a letter like any other, under
            ANSI_QUOTES it is one in "a name".
    """

    def __init__(self, mode: bytes = b"") -> None:
        raw = _RAW if b"NO_BACKSLASH_ESCAPES" in mode else {b'"': _RAW[b'"']} if b"ANSI_QUOTES" in mode else {}
        self._closers = {**_CLOSER, **raw}
        self._open = b""

    def ends(self, line: bytes, delimiter: bytes) -> bool:
        """Take in the next line; True when the statement ends with it."""
        at = 0
        while True:
            if self._open:
                found = self._closers[self._open].match(line, at)
                if not found:
                    return False
                self._open, at = b"", found.end()
            opener = _OPENER.search(line, at)
            if not opener:
                return line[at:].rstrip().endswith(delimiter)
            if opener[0] in (b"#", b"--"):
                return line[at : opener.start()].rstrip().endswith(delimiter)
            self._open, at = opener[0], opener.end()


def literal(text: str) -> str:
    """A string literal that means the same under every SQL mode."""
    return f"_utf8mb4 x'{text.encode().hex()}'"


def unquote(name: bytes) -> str:
    """The identifier itself, of its quoted or bare form."""
    quote = name[:1]
    if quote in (b"`", b'"'):
        name = name[1:-1].replace(quote * 2, quote)
    return name.decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class AlterDatabase:
    """``ALTER DATABASE `x` CHARACTER SET c COLLATE l`` as mysqldump writes it around objects."""

    database: str
    settings: bytes


_ALTER_DATABASE = re.compile(rb"\s*ALTER\s+(?:DATABASE|SCHEMA)\s+(" + _NAME + rb")\s+(.*?)\s*\Z", re.DOTALL | re.I)


def alter_database(statement: bytes) -> AlterDatabase | None:
    found = _ALTER_DATABASE.match(statement)
    return AlterDatabase(unquote(found[1]), found[2]) if found else None


_EVENT = re.compile(rb"\bEVENT\s+(?:IF\s+NOT\s+EXISTS\s+)?(?:" + _NAME + rb"\s*\.\s*)?(" + _NAME + rb")(?=\s)", re.I)
_EVENT_STATUS = re.compile(
    rb"(\bON COMPLETION (?:NOT )?PRESERVE )(ENABLE|DISABLE ON (?:SLAVE|REPLICA)|DISABLE)(?= (?:COMMENT|DO)\b)"
)


def event_with_status(statement: bytes, status: bytes) -> tuple[str, str, bytes]:
    """A CREATE EVENT with another status.

    Returns:
        The event's name, the status it had, the changed statement.

    Raises:
        RestoreRefused: The statement has not the form that servers and dumps write; its event could fire.
    """
    name = _EVENT.search(statement, _head_end(statement))
    found = _EVENT_STATUS.search(statement, name.end()) if name else None
    if not name or not found:
        raise RestoreRefused(f"Cannot read the status of this event: {statement[:120].decode('utf-8', 'replace')}")
    changed = statement[: found.start(2)] + status + statement[found.end(2) :]
    return unquote(name[1]), found[2].decode(), changed


_TRIGGER = re.compile(
    rb"\bTRIGGER" + _GAP + rb"(?:IF\s+NOT\s+EXISTS" + _GAP + rb")?"
    rb"(?P<schema>" + _NAME + _GAP + rb"\." + _GAP + rb")?(?P<name>" + _NAME + rb")" + _GAP +
    rb"(?:BEFORE|AFTER)\b(?P<events>(?:[^;()'\"`]|`[^`]*`|\"[^\"]*\")*?)\bON" + _GAP +
    rb"(?P<on>" + _NAME + _GAP + rb"\." + _GAP + rb")?(?P<table>" + _NAME + rb")" + _GAP + rb"FOR" + _GAP + rb"EACH\b",
    re.I | re.DOTALL,
)  # fmt: skip


def bare_trigger(statement: bytes) -> tuple[str, str, bytes]:
    """A CREATE TRIGGER without schema names in its head: MariaDB keeps the text as it was typed, and
    ``TRIGGER prod.t ... ON prod.x`` would otherwise act on production.

    Returns:
        The trigger's name, its table, the changed statement.

    Raises:
        RestoreRefused: The head cannot be read.
    """
    found = _TRIGGER.search(statement, _head_end(statement))
    if not found:
        raise RestoreRefused(f"Cannot read the head of this trigger: {statement[:120].decode('utf-8', 'replace')}")
    changed = statement
    for part in ("on", "schema"):  # the later one first, so that positions hold
        if found[part] is not None:
            changed = changed[: found.start(part)] + changed[found.end(part) :]
    return unquote(found["name"]), unquote(found["table"]), changed


_START = rb"\s*(?:/\*M?!\d*\s*)?CREATE\b"
_KIND = rb"\b(?P<kind>TRIGGER|EVENT|PROCEDURE|FUNCTION|PACKAGE(?:\s+BODY)?|VIEW)(?=[\s`\"])"
_HEAD = rb"(?:[^`'\"/]|/(?!\*(?![!M]))|`[^`]*`|'[^']*'|\"[^\"]*\"|/\*(?![!M]).*?\*/){0,600}?"
_CREATES = re.compile(_START + _HEAD + _KIND, re.I | re.DOTALL)
_CREATES_SOMEHOW = re.compile(_START + rb".{0,600}?" + _KIND, re.I | re.DOTALL)
_HARMLESS = re.compile(
    rb"\s*(?:/\*M?!\d*\s*)?(?:SET\s+(?!GLOBAL|PERSIST|PASSWORD|DEFAULT|ROLE|RESOURCE)|DROP\s+(?:TRIGGER|EVENT|PROCEDURE|FUNCTION|PACKAGE|VIEW|TABLE)\b)",
    re.I,
)
_SERVER_WIDE = re.compile(rb"GLOBAL|PERSIST|GTID_|gtid_|SQL_LOG_BIN|sql_log_bin|MYSQLDUMP_TEMP_LOG_BIN")


def created_kind(statement: bytes) -> str | None:
    """``trigger``, ``event``, ``procedure``, ``function``, ``package``, ``package body``, ``view`` or None."""
    found = _created(statement)
    return " ".join(found["kind"].decode().lower().split()) if found else None


def _created(statement: bytes) -> re.Match[bytes] | None:
    """The head up to the kind; a definer called `a VIEW b` is no kind."""
    return _CREATES.match(statement) or _CREATES_SOMEHOW.match(statement)


def _head_end(statement: bytes) -> int:
    """Where the kind of what is created stands."""
    found = _created(statement)
    return found.start("kind") if found else 0


def is_session_only(statement: bytes) -> bool:
    """True for what a dump may do besides creating: session settings and DROP ... IF EXISTS."""
    return bool(_HARMLESS.match(statement)) and not (
        statement.lstrip()[:40].upper().find(b"SET") >= 0 and _SERVER_WIDE.search(statement[:200])
    )


_NAMES_SCHEMA = re.compile(
    rb"\b(?:EVENT|PROCEDURE|FUNCTION|PACKAGE(?:\s+BODY)?|VIEW)\s+(?:IF\s+NOT\s+EXISTS\s+)?" + _NAME + rb"\s*\.", re.I
)


def names_another_schema(statement: bytes) -> bool:
    """True when a CREATE gives its object a schema: in the head, before any body."""
    created = _created(statement)
    return bool(created and _NAMES_SCHEMA.match(statement, created.start("kind")))

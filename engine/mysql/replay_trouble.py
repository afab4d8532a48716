"""Why an applier stopped, and what that means for a replay of one database.

The server's message holds the statement's text, which may hold data: only its first words are kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ON_QUERY = re.compile(
    r"Error '(?P<words>.*?)' on query\. Default database: '(?P<default>.*?)'\. Query: '(?P<query>.*)'?$", re.S
)
_ROWS = re.compile(r"Could not execute (?P<kind>\w+) event on table (?P<table>\S+?);(?P<words>.*)", re.S)
_VERB = re.compile(r"(?:\s|/\*.*?\*/|--[^\n]*\n|SET STATEMENT .*? FOR )*(?P<verb>\w+)(?P<rest>[^'\"]*)", re.S | re.I)
_ACCOUNTS = re.compile(r"(CREATE|ALTER|DROP|RENAME)\s+(OR\s+REPLACE\s+)?(USER|ROLE)\b|GRANT\b|REVOKE\b"
                       r"|SET\s+(PASSWORD|DEFAULT\s+ROLE)\b", re.I)  # fmt: skip
_NAME = r"(?:`((?:[^`]|``)+)`|([\w$\u0080-\uffff]+))"
_DEFINITION = re.compile(
    rf"(?:CREATE|ALTER|DROP)\s.*?\b(?:PROCEDURE|FUNCTION|EVENT|TRIGGER|PACKAGE(?:\s+BODY)?|VIEW)\s+"
    rf"(?:IF\s+(?:NOT\s+)?EXISTS\s+)?{_NAME}(\s*\.\s*{_NAME})?", re.I | re.S,
)  # fmt: skip
_SERVER_WIDE = re.compile(r"(INSTALL|UNINSTALL)\s+|(CREATE|ALTER|DROP)\s+(SERVER|TABLESPACE|UNDO)\b|FLUSH\b"
                          r"|(ANALYZE|OPTIMIZE|REPAIR)\b", re.I)  # fmt: skip
_NO_DATABASE = 1049
_NO_ZONE = 1298
_NO_EVENT = 1539
_NO_PREPARED = 1397
_NOT_FOUND = {1146, 1305, 1360, 1539, 1051, 1054, 1304, 1537, 1477}
_KEPT = 3


@dataclass(frozen=True)
class Stopped:
    """One stop of the applier.

    Attributes:
        kind: What was being applied, in two or three words: ``DROP PROCEDURE``, ``Write_rows on prod.t``.
        words: The server's reason.
        elsewhere: It defines or drops a routine, event, trigger or view of another database, or is about the
            server as a whole.
        lacking: The database that it says is not there.
    """

    errno: int
    kind: str
    words: str
    accounts: bool = False
    elsewhere: bool = False
    lacking: str = ""

    @classmethod
    def read(cls, errno: int, error: str, wanted: str) -> Stopped:
        """From Last_SQL_Errno and Last_SQL_Error."""
        found = _ON_QUERY.search(error)
        if found is None:
            rows = _ROWS.search(error)
            kind = f"{rows['kind']} on {rows['table']}" if rows else "an event"
            words = (rows["words"] if rows else error).strip()
            return cls(errno, kind, _short(words))
        statement = _statement(found["query"])
        lacking = re.search(r"Unknown database '(.*?)'", found["words"])
        owner = _database_of(statement, found["default"])
        return cls(
            errno, _kind(statement), _short(found["words"]), bool(_ACCOUNTS.match(statement)),
            bool(_SERVER_WIDE.match(statement)) or (bool(owner) and owner.lower() != wanted.lower()),
            lacking[1] if lacking and lacking[1].lower() != wanted.lower() else "",
        )  # fmt: skip

    @property
    def lacking_database(self) -> str:
        """Another database that a statement stands in and that is not here: an empty one lets it go on."""
        return self.lacking if self.errno == _NO_DATABASE else ""

    @property
    def lacks_time_zones(self) -> bool:
        return self.errno == _NO_ZONE

    @property
    def may_be_passed_over(self) -> bool:
        """An account statement (no row depends on it), a definition in another database, or the end of an event
        whose time had passed when the full backup was loaded: no server makes such a one again."""
        return self.accounts or self.elsewhere or self.errno == _NO_EVENT


def remedy_for(stopped: Stopped, database: str) -> str:
    """What a person can do about it."""
    if stopped.errno in _NOT_FOUND and stopped.kind.split(" on ")[0] not in ("Write_rows", "Update_rows"):
        return (
            "a statement that names tables of other databases, or a temporary table made before the full backup, "
            f"cannot be replayed for {database!r} alone; take a full backup made after it, or recover to the moment "
            "right before it. With binlog_format=ROW on the source only definitions (CREATE TABLE ... LIKE) do this"
        )
    if stopped.errno == _NO_PREPARED:
        return (
            "a transaction (XA) that was prepared in any database while the full backup was made ended after it, and "
            "is in no backup; recover to the moment right before it, or from a full backup made after it"
        )
    if stopped.errno in (1005, 1025, 1824):
        return (
            f"the statement also concerns a table of another database, which is not here: only {database!r} is "
            "replayed. Recover to the moment right before it, or from a full backup made after it"
        )
    if stopped.errno in (1032, 1062):
        return "the logs do not follow from this full backup: is another full or another start position meant?"
    return "recover to the moment right before it, or from a later full backup"


def _statement(text: str) -> str:
    found = _VERB.match(text)
    return text[found.start("verb") :] if found else text


def _database_of(statement: str, default: str) -> str:
    """Whose routine, event, trigger or view a definition is about; "" for every other statement."""
    found = _DEFINITION.match(statement)
    if found is None:
        return ""
    first = (found[1] or found[2]).replace("``", "`")
    return first if found[3] else default


def _kind(statement: str) -> str:
    words = re.findall(r"[A-Za-z_]+", statement[:80].split("'")[0].split("`")[0])
    return " ".join(word.upper() for word in words[:2]) or "a statement"


def _short(words: str, limit: int = 300) -> str:
    text = " ".join(words.split())
    return text if len(text) <= limit else text[:limit] + "…"
